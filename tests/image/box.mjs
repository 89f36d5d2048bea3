/** A box in an emulator: the image of the board qemu-arm64 on a card of its own, started, looked at, switched off. */
import { closeSync, constants, copyFileSync, existsSync, mkdirSync, mkdtempSync, openSync, readSync, rmSync, truncateSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { crc32 } from 'node:zlib';
import { ask, fetchFrom } from '../cross/control.mjs';
import { run, start, stopAll, tail } from '../e2e/processes.mjs';
import { broken, expect, failures, summarise } from '../e2e/report.mjs';

export const repository = resolve(fileURLToPath(new URL('.', import.meta.url)), '../..');
export const image = join(repository, 'dist/image/outpost-qemu-arm64.img');
const bios = image.replace(/img$/, 'bios');
export const output = join(repository, 'target/image-test');
export const ADMIN = { name: 'admin', password: 'slate harbour violin 42 dusk' };
/** MiB: what the smallest boards have, and a small card. */
export const [MEMORY, CARD] = [512, 1024];
/** Seconds that a start may take. It takes 15 to 40; the machine that tests may be busy. */
export const START = 400;
/** Sectors of 512 bytes in front of the first partition (board/common/init/init). */
export const [RECORD, TABLE_COPY, RESET, HEALTH] = [0x400, 0x401, 0x403, 0x404];

export const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
export async function until(words, test, seconds = START) {
  for (const from = performance.now(); performance.now() - from < seconds * 1000; await pause(250)) {
    const found = await test();
    if (found) return found;
  }
  throw new Error(words);
}
const freePort = () =>
  new Promise((done) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => done(port));
    });
  });

/** A folder that goes with the run, and the run: what `body` leaves running is ended, what failed is summed up. */
export async function story(name, body) {
  const started = Date.now();
  const scratch = mkdtempSync(join(tmpdir(), `outpost-${name}-`));
  const clean = () => rmSync(scratch, { recursive: true, force: true });
  mkdirSync(output, { recursive: true });
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => void stopAll().then(() => (clean(), process.exit(130))));
  try {
    expect(existsSync(image) && existsSync(bios), `there is no ${image}: make image BOARD=qemu-arm64`);
    await body(scratch);
  } catch (error) {
    await broken(error);
  } finally {
    await stopAll();
    clean();
  }
  summarise((Date.now() - started) / 1000);
  process.exit(failures() ? 1 : 0);
}

/** A card with the image on it. */
export function makeCard(file, { from = image, size = CARD } = {}) {
  copyFileSync(from, file, constants.COPYFILE_FICLONE);
  truncateSync(file, size << 20);
  return file;
}

/** A piece of a file, whatever its size. */
export function piece(file, at, length) {
  const bytes = Buffer.alloc(length);
  const from = openSync(file, 'r');
  readSync(from, bytes, 0, length, at);
  closeSync(from);
  return bytes;
}

/** The record of slots on a card: `{BOOT_ORDER, BOOT_A_LEFT, BOOT_B_LEFT}`. */
export function slots(card) {
  const bytes = piece(card, RECORD * 512, 512);
  expect(crc32(bytes.subarray(4)) === bytes.readUInt32LE(0), 'the record of slots is damaged');
  return Object.fromEntries(bytes.subarray(4).toString().split('\0').filter(Boolean).map((text) => text.split('=')));
}

/** Where a partition of a card is, in bytes. */
export function partition(card, number) {
  const entry = piece(card, 446 + 16 * (number - 1), 16);
  return { at: entry.readUInt32LE(8) * 512, length: entry.readUInt32LE(12) * 512 };
}

/** The boot partition of a card, for mtools. */
export const bootPartition = (card) => `${card}@@${partition(card, 1).at}`;

/** Names of the files on it, a line each. */
export const filesOnBoot = (card) => run(null, ['mdir', '-b', '-i', bootPartition(card), '::']).out;

/** Puts a file on the boot partition of a card, as its owner does at a computer. */
export function putOnBoot(card, name, content = '') {
  const { code, err } = run(null, ['mcopy', '-i', bootPartition(card), '-', `::${name}`], { input: content });
  expect(code === 0, err);
}

export class Box {
  /** `card` is a file, or what QEMU's `file=` takes. `disks` are files that it sees as further disks, read-only. */
  constructor(card, { memory = MEMORY, disks = [], more = [], processors = 2 } = {}) {
    Object.assign(this, { card, memory, disks, more, processors, here: { host: '127.0.0.1', port: 0 } });
  }

  /** Switches it on. `name` is its log's. */
  async on(name) {
    this.here.port ||= await freePort();
    this.shellPort ||= await freePort();
    this.log = join(output, `${name}.log`);
    rmSync(this.log, { force: true });
    this.began = Date.now();
    const net = `user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:${this.here.port}-:443,hostfwd=tcp:127.0.0.1:${this.shellPort}-:2323`;
    this.machine = start(name, null, [
      'qemu-system-aarch64', '-machine', 'virt', '-cpu', 'cortex-a53', '-smp', String(this.processors), '-m', String(this.memory), '-display', 'none', '-monitor', 'none', '-serial', 'stdio',
      '-bios', bios, '-drive', `file=${this.card},if=none,id=card,format=raw`, '-device', 'virtio-blk-pci,drive=card',
      ...this.disks.flatMap((file, n) => ['-drive', `file=${file},if=none,id=disk${n},format=raw,readonly=on`, '-device', `virtio-blk-pci,drive=disk${n}`]),
      '-netdev', net, '-device', 'virtio-net-pci,netdev=net', '-device', 'virtio-rng-pci', ...this.more,
    ], { log: this.log });
  }

  /** Switches it on and waits until its server answers. Gives how long that took, in seconds. */
  async start(name) {
    await this.on(name);
    return this.answers();
  }

  async answers(seconds = START) {
    await until(`the box does not answer: ${tail(this.log, 5)}`, async () => {
      expect(!this.machine.ended, `the emulator ended: ${tail(this.log, 5)}`);
      const refused = this.machine.lines.find((line) => /outpost-init: .*(cannot|no |too small)/.test(line.text));
      expect(!refused, refused?.text);
      const answer = await fetchFrom(this.here, '/health.ashx', { timeout: 1500 }).catch(() => null);
      return answer?.body === 'ok';
    }, seconds);
    return (Date.now() - this.began) / 1000;
  }

  /** The first line on the console that matches and was written since a moment. */
  line(pattern, { since = this.began, seconds = START } = {}) {
    const find = () => this.machine.lines.find((line) => line.at >= since && pattern.test(line.text));
    return until(`the console does not say ${pattern}; last: ${this.machine.lines.at(-1)?.text}`, () => {
      expect(find() || !this.machine.ended, `the emulator ended: ${tail(this.log, 5)}`);
      return find();
    }, seconds);
  }

  /** What the box says once everything has been started: its slot, and that nothing failed. */
  async settles(slot = 'A', { since = this.began, seconds = START } = {}) {
    const found = await this.line(/outpost-box: slot/, { since, seconds });
    // What failed stands behind it.
    await pause(2000);
    const { text } = found;
    const failed = this.machine.lines.slice(this.machine.lines.indexOf(found) + 1).filter((line) => /\.(service|socket|mount|path|target) /.test(line.text) && /failed/.test(line.text));
    expect(text.includes(`slot ${slot}, running`) && failed.length === 0, [text, ...failed.map((line) => line.text)].join('\n'));
    const cycle = this.machine.lines.find((line) => /ordering cycle/i.test(line.text));
    expect(!cycle, cycle?.text);
    return text.trim();
  }

  /** Restarts as `ask` asks it to, without it by the shell of the slots that have one; gives when. U-Boot has the first word then. */
  async restart(ask, seconds = START) {
    const since = Date.now();
    // The shell is ended with everything else, before it can say how that went.
    if (ask) await ask();
    else await this.shell('systemctl start --no-block --job-mode=replace-irreversibly reboot.target', 60).catch(() => undefined);
    await this.line(/^U-Boot 20/, { since, seconds });
    this.began = since;
    return since;
  }

  /** The power is gone. */
  async cut() {
    await this.machine.stop('SIGKILL');
  }

  /** Runs a command as root, in boxes whose slot has the shell (slots.mjs: never a shipped one). */
  shell(command, seconds = 120) {
    return new Promise((done, failed) => {
      let said = '';
      const socket = connect(this.shellPort, '127.0.0.1', () => socket.write(`{ ${command}\n} 2>&1; echo "<$?>"; exit\n`));
      const timer = setTimeout(() => socket.destroy(new Error(`no end of: ${command}; ${said}`)), seconds * 1000);
      socket.on('data', (data) => (said += data)).on('error', (error) => (clearTimeout(timer), failed(error)));
      socket.on('close', () => {
        clearTimeout(timer);
        const end = /<(\d+)>\s*$/.exec(said);
        if (end) done({ code: Number(end[1]), out: said.slice(0, end.index) });
        else failed(new Error(`the shell ended: ${said}`));
      });
    });
  }

  ask(message, account = ADMIN) {
    return ask(this.here, account, message);
  }

  /** The first account of a new box. */
  async makeAdmin() {
    const body = JSON.stringify({ username: ADMIN.name, password: ADMIN.password });
    const origin = `https://${this.here.host}:${this.here.port}`;
    const answer = await fetchFrom(this.here, '/api/account', { method: 'POST', headers: { 'content-type': 'application/json', origin }, body });
    expect(answer.status === 201, `${answer.status}: ${answer.body}`);
  }

  async makeGroup(name) {
    const { meshid } = await this.ask({ action: 'createmesh', meshname: name, meshtype: 2 });
    expect(meshid?.startsWith('mesh//'), 'no group');
    return meshid;
  }

  async devices() {
    return Object.values((await this.ask({ action: 'nodes' })).nodes).flat();
  }
}
