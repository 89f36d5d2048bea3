/**
 * Other slots than the shipped one, made from it: a newer one, broken ones; and updates with them. Files are put into a slot
 * without mounting it.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { run } from '../e2e/processes.mjs';
import { expect } from '../e2e/report.mjs';
import { image, partition, piece, repository } from './box.mjs';

function command(words, how = {}) {
  const { code, out, err } = run(null, words, { milliseconds: 300_000, cwd: repository, ...how });
  expect(code === 0, `${words.join(' ')}: ${err || out}`);
  return out;
}

/** The slot of an image, as a file. */
export function shippedSlot(file, from = image) {
  const { at } = partition(from, 2);
  // Its superblock says how many blocks of 4 KiB it has.
  const blocks = piece(from, at + 1024, 1024).readUInt32LE(4);
  command(['dd', `if=${from}`, `of=${file}`, 'bs=4096', `skip=${at / 4096}`, `count=${blocks}`, 'conv=sparse', 'status=none']);
  return file;
}

/** Puts a slot into the first slot of a card that has not been started. */
export function placeSlot(slot, card) {
  command(['dd', `if=${slot}`, `of=${card}`, 'bs=4096', `seek=${partition(card, 2).at / 4096}`, 'conv=notrunc', 'status=none']);
}

/** Writes files (path: text or bytes, programs by a `#!`) and links (path: `{to}`) into a slot. */
export function change(slot, entries) {
  const folder = mkdtempSync(join(tmpdir(), 'outpost-slot-'));
  const lines = [];
  Object.entries(entries).forEach(([path, what], n) => {
    lines.push(`mkdir ${dirname(path)}`, `rm ${path}`);
    if (what.to) return lines.push(`symlink ${path} ${what.to}`);
    writeFileSync(join(folder, String(n)), what);
    lines.push(`write ${join(folder, String(n))} ${path}`, `sif ${path} mode ${String(what).startsWith('#!') ? '0100755' : '0100644'}`, `sif ${path} uid 0`, `sif ${path} gid 0`);
  });
  writeFileSync(join(folder, 'lines'), lines.join('\n') + '\n');
  command(['debugfs', '-w', '-f', join(folder, 'lines'), slot]);
  rmSync(folder, { recursive: true });
  for (const path of Object.keys(entries)) {
    const said = run(null, ['debugfs', '-R', `stat ${path}`, slot]).out;
    expect(/Type: (regular|symlink)/.test(said), `${path} is not in the slot`);
  }
  return slot;
}

export const read = (slot, path) => command(['debugfs', '-R', `cat ${path}`, slot]);

/** Puts a file into a slot's initial RAM disk: the kernel unpacks one archive behind the other. */
export function changeRamDisk(slot, path, text) {
  const folder = mkdtempSync(join(tmpdir(), 'outpost-ram-'));
  const [disk, tree] = [join(folder, 'initrd.img'), join(folder, 'tree')];
  mkdirSync(dirname(join(tree, path)), { recursive: true });
  writeFileSync(join(tree, path), text);
  command(['debugfs', '-R', `dump /boot/initrd.img ${disk}`, slot]);
  command(['sh', '-c', `cd ${tree} && find . | cpio --quiet -R 0:0 -H newc -o | gzip -n >>${disk}`]);
  change(slot, { '/boot/initrd.img': readFileSync(disk) });
  rmSync(folder, { recursive: true });
  return slot;
}

/** A shell for the test, as root and without a question. Slots with it are made here and nowhere else. */
export const SHELL = {
  '/usr/lib/systemd/system/test-shell.socket': '[Socket]\nListenStream=2323\nAccept=yes\n',
  '/usr/lib/systemd/system/test-shell@.service': '[Unit]\nCollectMode=inactive-or-failed\n[Service]\nExecStart=-/bin/sh\nStandardInput=socket\nStandardError=inherit\n',
  '/etc/systemd/system/sockets.target.wants/test-shell.socket': { to: '/usr/lib/systemd/system/test-shell.socket' },
};

/** A slot that says it is of another version. */
export const versioned = (slot, version) => change(slot, { '/usr/lib/os-release': read(slot, '/usr/lib/os-release').replace(/^VERSION_ID=.*$/m, `VERSION_ID="${version}"`) });

/** A signed update with a slot. */
export function bundle(slot, file, { board = 'qemu-arm64', keys = 'keys' } = {}) {
  // Packed quickly: it is unpacked once.
  command(['scripts/bundle.sh', board, '--slot', slot, '--keys', keys, '--out', file], { env: { SQUASHFS: '-comp zstd -Xcompression-level 3' } });
  expect(statSync(file).size > 0, `there is no ${file}`);
  return file;
}

/** A disk with files on it, for the box to mount read-only. */
export function diskWith(folder, file, megabytes) {
  rmSync(file, { force: true });
  command(['mke2fs', '-q', '-t', 'ext4', '-d', folder, file, `${megabytes}M`]);
  return file;
}
