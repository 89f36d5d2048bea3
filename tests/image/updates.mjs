/**
 * Updates of the box, in an emulator: what is refused and why, a power cut in the middle, a good update, one whose server
 * ends at once, one that hangs. Whatever happens, account, group and device are there in the end.
 *
 *   make image BOARD=qemu-arm64 && node updates.mjs
 */
import { randomBytes } from 'node:crypto';
import { copyFileSync, mkdirSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '../e2e/processes.mjs';
import { begin, check, expect } from '../e2e/report.mjs';
import { enrol } from './agent.mjs';
import { Box, START, makeCard, partition, pause, piece, repository, slots, story, until } from './box.mjs';
import { SHELL, bundle, change, diskWith, placeSlot, shippedSlot, versioned } from './slots.mjs';

/** Seconds in which a slot whose server ends has to be given up, counted from the restart. */
const GIVEN_UP = 180;

await story('updates', async (scratch) => {
  const file = (name) => join(scratch, name);
  const folder = file('bundles');
  mkdirSync(folder);

  begin('Bundles');
  const slot = change(shippedSlot(file('slot.ext4')), SHELL);
  const from = (name, version, entries = {}) => (copyFileSync(slot, file(name)), versioned(change(file(name), entries), version));
  await check('bundles are made: good and bad ones', () => {
    bundle(from('good.ext4', '99.1'), join(folder, 'good.raucb'));
    bundle(from('bad.ext4', '99.2', { '/usr/lib/outpost/outpost': '#!/bin/sh\nexit 3\n' }), join(folder, 'bad.raucb'));
    bundle(from('hangs.ext4', '99.3', { '/usr/lib/systemd/systemd': '#!/bin/sh\nwhile :; do :; done\n' }), join(folder, 'hangs.raucb'));
    // Nobody gets to see what is in these.
    mkdirSync(file('little/usr/lib'), { recursive: true });
    writeFileSync(file('little/usr/lib/os-release'), 'VERSION_ID="99.4"\n');
    writeFileSync(file('little/filling'), randomBytes(256 << 10));
    const little = diskWith(file('little'), file('little.ext4'), 2);
    bundle(little, join(folder, 'other-board.raucb'), { board: 'rpi-arm64' });
    const made = run(null, ['scripts/update-keys.sh', file('foreign')], { cwd: repository });
    expect(made.code === 0, made.err);
    bundle(little, join(folder, 'foreign.raucb'), { keys: file('foreign') });
    for (const name of ['truncated', 'unsigned']) copyFileSync(join(folder, 'good.raucb'), join(folder, `${name}.raucb`));
    const { size } = statSync(join(folder, 'good.raucb'));
    truncateSync(join(folder, 'truncated.raucb'), size >> 1);
    // The signature is what stands at the end, behind it its length.
    truncateSync(join(folder, 'unsigned.raucb'), size - 1024);
  }, { seconds: 300 });
  const disk = diskWith(folder, file('bundles.ext4'), 400);

  const card = makeCard(file('card.img'));
  placeSlot(slot, card);
  // With a watchdog, as boards have one.
  const box = new Box(card, { disks: [disk], more: ['-device', 'i6300esb', '-action', 'watchdog=reset'] });
  const install = (name, seconds = START) => box.shell(`busybox mkdir -p /run/bundles; [ -e /run/bundles/good.raucb ] || mount -o ro /dev/vdb /run/bundles; rauc install /run/bundles/${name}.raucb`, seconds);
  const record = () => (({ BOOT_ORDER, BOOT_A_LEFT, BOOT_B_LEFT }) => `A ${BOOT_A_LEFT}, B ${BOOT_B_LEFT}, order ${BOOT_ORDER}`)(slots(card));
  const version = async () => /VERSION_ID="(.*)"/.exec((await box.shell('busybox cat /etc/os-release')).out)?.[1];
  let group;
  let agent;
  /** Everything is as it was, in a slot and a version. */
  async function stands(which, wanted, how) {
    await box.answers();
    await box.settles(which, how);
    expect((await version()) === wanted, `it is version ${await version()}`);
    const { meshes } = await box.ask({ action: 'meshes' });
    expect(meshes.some((mesh) => mesh._id === group), 'the group is gone');
    await agent.returns();
    await until('the slot is not confirmed', () => slots(card)[`BOOT_${which}_LEFT`] === '9');
    return record();
  }

  begin('A box with people and a device');
  await check('it starts', async () => `${(await box.start('updates')).toFixed(1)} s after power-on`, { seconds: START });
  await check('account, group and device', async () => {
    await box.makeAdmin();
    group = await box.makeGroup('Boxes');
    agent = await enrol(box, group, scratch);
  }, { seconds: START });
  let first;
  await check('its slot is confirmed', async () => {
    first = await version();
    return stands('A', first);
  }, { seconds: START });

  begin('What is refused');
  for (const [name, reason] of [
    ['truncated', /signature|truncated|size/i],
    ['unsigned', /signature/i],
    ['foreign', /signature verification failed|unable to get local issuer|self.signed/i],
    ['other-board', /compatible/i],
  ]) {
    await check(name, async () => {
      const before = record();
      const { code, out } = await install(name);
      expect(code !== 0, `it was installed: ${out}`);
      expect(reason.test(out), out);
      expect(record() === before, `the record of slots has changed: ${record()}`);
      return out.split('\n').find((line) => reason.test(line)).trim();
    }, { seconds: START });
  }

  begin('A power cut while it is installed');
  await check('the old slot starts, everything is there', async () => {
    const gone = install('good').catch(() => undefined);
    // The slot's file system has its beginning (ext's magic number), and RAUC has not said yet that it may be started.
    await until('the installation does not begin', () => piece(card, partition(card, 3).at + 1024 + 56, 2).readUInt16LE() === 0xef53);
    await pause(300);
    const during = record();
    expect(slots(card).BOOT_B_LEFT === '0', `it was done before the cut: ${during}`);
    await box.cut();
    await gone;
    await box.start('updates-cut');
    return `${during}; then ${await stands('A', first)}`;
  }, { seconds: START * 2 });

  begin('A good update');
  await check('it is installed', async () => {
    const from = Date.now();
    const { code, out } = await install('good');
    expect(code === 0, out);
    expect(slots(card).BOOT_ORDER === 'B A', record());
    return `${((Date.now() - from) / 1000).toFixed(0)} s`;
  }, { seconds: START });
  await check('the new version runs, in the other slot, and everything is there', async () => {
    const since = await box.restart();
    return stands('B', '99.1', { since });
  }, { seconds: START * 2 });

  begin('An update whose server ends at once');
  await check('the box goes back by itself, and says why', async () => {
    const { code, out } = await install('bad');
    expect(code === 0 && slots(card).BOOT_ORDER === 'A B', `${record()} ${out}`);
    const since = await box.restart();
    const back = await box.line(/Outpost: slot B/, { since, seconds: GIVEN_UP });
    const seconds = (back.at - since) / 1000;
    const now = await stands('B', '99.1', { since: back.at });
    const why = (await box.shell('busybox cat /var/lib/outpost-box/rollback')).out.trim();
    expect(/99\.2.*ended/.test(why), why);
    expect(slots(card).BOOT_A_LEFT === '0', now);
    return `${seconds.toFixed(0)} s after the restart: ${why}; ${now}`;
  }, { seconds: START * 2 });

  begin('An update that hangs');
  await check('the watchdog bites until the box goes back', async () => {
    const { code, out } = await install('hangs');
    expect(code === 0 && slots(card).BOOT_A_LEFT === '3', `${record()} ${out}`);
    const since = await box.restart();
    const back = await box.line(/Outpost: slot B/, { since, seconds: START });
    const tries = box.machine.lines.filter((line) => line.at >= since && line.at < back.at && /Outpost: slot A/.test(line.text)).length;
    return `${tries} tries in ${((back.at - since) / 1000).toFixed(0)} s; ${await stands('B', '99.1', { since: back.at })}`;
  }, { seconds: START * 2 });
});
