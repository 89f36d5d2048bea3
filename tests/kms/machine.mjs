/** A virtual machine with a graphics card: Debian's kernel, and a root file system in memory with what a test needs. */
import { spawnSync } from 'node:child_process';
import { accessSync, chmodSync, constants, copyFileSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';

/** Modules of the kernel that the machine loads. */
const MODULES = ['virtio_pci', 'virtio_net', 'virtio-gpu', 'evdev', 'uinput'];
/** Where the host's loopback is from inside (QEMU's user networking). */
export const HOST = '10.0.2.2';

const COMMON = ['-nodefaults', '-no-user-config', '-display', 'none', '-monitor', 'none', '-m', '512', '-no-reboot'];
const ON_PROCESSOR = ['-smp', '2', '-enable-kvm', '-cpu', 'host'];
const EMULATED = ['-accel', 'tcg,thread=multi', '-smp', '2', '-cpu', 'max'];

function must(words, options = {}) {
  const done = spawnSync(words[0], words.slice(1), { encoding: 'utf8', maxBuffer: 64 << 20, ...options });
  if (done.status !== 0) throw new Error(`${words.join(' ')}: ${done.stderr || done.error?.message || done.stdout}`);
  return done.stdout;
}

/** Debian's kernel, unpacked into `folder` once: `{ image, modules }`. */
export function kernel(folder) {
  const found = () => {
    const boot = existsSync(join(folder, 'boot')) ? readdirSync(join(folder, 'boot')).find((name) => name.startsWith('vmlinuz-')) : undefined;
    return boot && { image: join(folder, 'boot', boot), modules: ['lib', 'usr/lib'].map((lib) => join(folder, lib, 'modules', boot.slice(8))).find(existsSync) };
  };
  if (found()?.modules) return found();
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const fetch = () => {
    // The one for clouds has no graphics.
    const name = /Depends: (linux-image-\S+)/.exec(must(['apt-cache', 'depends', 'linux-image-amd64']))?.[1];
    if (!name) throw new Error('apt knows no linux-image-amd64');
    // As the user of this test: apt's own may not be able to write there.
    must(['apt-get', '-qq', '-o', 'APT::Sandbox::User=root', 'download', name], { cwd: folder });
  };
  try {
    fetch();
  } catch {
    // Its lists are old, or there are none.
    must([...(process.getuid() === 0 ? [] : ['sudo']), 'apt-get', '-qq', 'update']);
    fetch();
  }
  const file = readdirSync(folder).find((one) => one.endsWith('.deb'));
  must(['dpkg', '-x', join(folder, file), folder]);
  rmSync(join(folder, file));
  return found();
}

function modules(folder) {
  const files = new Map();
  for (const path of readdirSync(folder, { recursive: true })) {
    const name = /^(.*)\.ko(\.xz|\.gz|\.zst)?$/.exec(basename(path))?.[1];
    if (name) files.set(name.replaceAll('-', '_'), join(folder, path));
  }
  const order = [];
  const take = (name) => {
    const path = files.get(name.replaceAll('-', '_'));
    // What is not there is part of the kernel itself.
    if (!path || order.some((one) => one.path === path)) return;
    const unpack = { '.xz': 'xz', '.gz': 'gzip', '.zst': 'zstd' }[/\.(xz|gz|zst)$/.exec(path)?.[0]];
    const bytes = unpack ? spawnSync(unpack, ['-dc', path], { maxBuffer: 64 << 20 }).stdout : readFileSync(path);
    const needs = /(?:^|\0)depends=([^\0]*)\0/.exec(bytes.toString('latin1'))?.[1] ?? '';
    for (const one of needs.split(',').filter(Boolean)) take(one);
    order.push({ path, bytes });
  };
  for (const name of MODULES) take(name);
  return order;
}

/** The libraries that a program loads, and its loader. */
const libraries = (program) => [...must(['ldd', program]).matchAll(/(\/\S+) \(0x/g)].map((match) => match[1]);

/**
 * Puts a root file system together: `programs` by their name in `/bin`, `files` by path, and the lines of `/start`, which
 * runs when modules and network are there.
 */
export function rootFileSystem(folder, kernelModules, { programs, files, start }) {
  const root = join(folder, 'root');
  for (const one of ['bin', 'dev', 'proc', 'sys', 'tmp', 'run', 'root', 'modules', 'etc']) mkdirSync(join(root, one), { recursive: true });
  const busybox = ['/bin/busybox', '/usr/bin/busybox'].find(existsSync);
  for (const [name, path] of Object.entries({ busybox, ...programs })) {
    copyFileSync(path, join(root, 'bin', name));
    chmodSync(join(root, 'bin', name), 0o755);
    if (/not a dynamic executable|statically linked/.test(spawnSync('ldd', [path], { encoding: 'utf8' }).stderr + spawnSync('ldd', [path], { encoding: 'utf8' }).stdout)) continue;
    for (const library of libraries(path)) {
      mkdirSync(join(root, dirname(library)), { recursive: true });
      cpSync(library, join(root, library), { dereference: true });
    }
  }
  const loaded = modules(kernelModules);
  for (const [number, { bytes }] of loaded.entries()) writeFileSync(join(root, 'modules', `${number}.ko`), bytes);
  for (const [path, text] of Object.entries(files)) writeFileSync(join(root, path), text);
  const init = `#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
for number in $(seq 0 ${loaded.length - 1}); do insmod /modules/$number.ko || echo "module $number failed"; done
ifconfig lo 127.0.0.1
for wait in $(seq 50); do [ -e /sys/class/net/eth0 ] && break; sleep 0.1; done
ifconfig eth0 10.0.2.15 netmask 255.255.255.0
route add default gw ${HOST}
. /start
poweroff -f
`;
  writeFileSync(join(root, 'init'), init, { mode: 0o755 });
  writeFileSync(join(root, 'start'), start);
  const packed = join(folder, 'root.cpio');
  must(['sh', '-c', `find . | ${busybox} cpio -o -H newc > '${packed}'`], { cwd: root });
  return packed;
}

/**
 * Whether machines run on the processor itself. There are hosts whose /dev/kvm starts machines that never get anywhere, so
 * a kernel is started without anything to run: it says its version and gives up.
 */
export function probe(image) {
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK);
  } catch {
    return false;
  }
  const words = [...COMMON, ...ON_PROCESSOR, '-kernel', image, '-append', 'console=ttyS0 panic=-1', '-serial', 'stdio'];
  return /Linux version/.test(spawnSync('qemu-system-x86_64', words, { encoding: 'utf8', timeout: 12_000 }).stdout);
}

/** The words that start it. Its first serial line is written to `log`, the second is standard input and output. */
export function machine({ image, root, log, size, isFast }) {
  return [
    'qemu-system-x86_64', ...COMMON, ...(isFast ? ON_PROCESSOR : EMULATED),
    '-kernel', image, '-initrd', root, '-append', 'console=ttyS0 panic=-1 consoleblank=0',
    '-serial', `file:${log}`, '-serial', 'stdio',
    '-device', `virtio-gpu-pci,xres=${size.width},yres=${size.height}`,
    '-netdev', 'user,id=net', '-device', 'virtio-net-pci,netdev=net',
  ];
}
