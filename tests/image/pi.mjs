/**
 * The images for Raspberry Pis in emulated ones, as far as that goes: U-Boot and device tree from the card, the kernel's drivers
 * of the board's card reader, pins and console, systemd, the server. The emulator has neither the firmware, nor the network of
 * these boards, nor all of what switches their parts on and off, among it the watchdog: the device tree says so. Pins have
 * no pull-ups: the reset button's is low, as if somebody held it.
 *
 *   make image BOARD=rpi-arm64 && node pi.mjs rpi-arm64
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { run, start, tail } from '../e2e/processes.mjs';
import { begin, check, expect } from '../e2e/report.mjs';
import { START, bootPartition, makeCard, output, partition, repository, slots, story, until } from './box.mjs';

/** Boards: the image that they start, and their device tree. */
const BOARDS = {
  'rpi-arm64': { name: 'Raspberry Pi 3B', machine: 'raspi3b', tree: 'bcm2837-rpi-3-b.dtb' },
  'rpi-armhf': { name: 'Raspberry Pi 2B', machine: 'raspi2b', tree: 'bcm2836-rpi-2-b.dtb', arm: true },
  'rpi-armel': { name: 'Raspberry Pi Zero', machine: 'raspi0', tree: 'bcm2835-rpi-zero.dtb', arm: true },
};
/** The watchdog and what it lies in. */
const WATCHDOG = '/soc/watchdog@7e100000';
/** Where the firmware of the boards of 32 bits puts what it starts. */
const FIRMWARE_PUTS = '0x8000';

const board = process.argv[2] ?? 'rpi-arm64';
const { name, machine: model, tree, arm } = BOARDS[board] ?? {};
if (!model) {
  console.error(`There is no emulated board for '${board}'. There are: ${Object.keys(BOARDS).join(' ')}`);
  process.exit(2);
}
const image = join(repository, `dist/image/outpost-${board}.img`);

await story(board, async (scratch) => {
  expect(existsSync(image), `there is no ${image}: make image BOARD=${board}`);
  const card = makeCard(join(scratch, 'card.img'), { from: image });
  const command = (words) => {
    const { code, err } = run(null, words);
    expect(code === 0, err);
  };
  for (const file of ['u-boot.bin', tree]) command(['mcopy', '-n', '-i', bootPartition(card), `::${file}`, join(scratch, file)]);
  command(['fdtput', '-t', 's', join(scratch, tree), WATCHDOG, 'status', 'disabled']);
  let loader = join(scratch, 'u-boot.bin');
  if (arm) {
    // The emulator puts a plain file elsewhere than the firmware would, and only into the hands of a kernel its device tree.
    command(['mkimage', '-A', 'arm', '-O', 'linux', '-T', 'kernel', '-C', 'none', '-a', FIRMWARE_PUTS, '-e', FIRMWARE_PUTS, '-d', loader, `${loader}.uimage`]);
    loader += '.uimage';
  }
  const log = join(output, `${board}.log`);
  const words = [arm ? 'qemu-system-arm' : 'qemu-system-aarch64', '-M', model, '-display', 'none', '-monitor', 'none'];
  // U-Boot may speak on another of the two serial lines than the kernel.
  words.push('-chardev', 'stdio,id=console,mux=on', '-serial', 'chardev:console', '-serial', 'chardev:console');
  words.push('-kernel', loader, '-dtb', join(scratch, tree), '-drive', `file=${card},if=sd,format=raw`);
  const began = Date.now();
  const machine = start(board, null, words, { log });
  const line = (pattern) =>
    until(`the console does not say ${pattern}; last: ${tail(log, 3)}`, () => {
      expect(!machine.ended, `the emulator ended: ${tail(log, 5)}`);
      return machine.lines.find(({ text }) => pattern.test(text))?.text.trim();
    });

  begin(`A ${name}, emulated`);
  await check('U-Boot on the card chooses a slot and starts its kernel', async () => {
    await line(/Outpost: slot A/);
    await line(/Starting kernel/);
  }, { seconds: START });
  await check('the reset button’s pin is read, and passed over', () => line(/outpost-box: button .*passed over/), { seconds: START });
  await check('everything is started, nothing failed', async () => {
    const text = await line(/outpost-box: slot/);
    const failed = machine.lines.filter((line) => /FAILED/.test(line.text)).map((line) => line.text);
    expect(text.includes('slot A, running') && failed.length === 0, [text, ...failed].join('\n'));
    return `${((Date.now() - began) / 1000).toFixed(0)} s after power-on`;
  }, { seconds: START });
  await check('its screen shows where the box is', () => line(/https:\/\/outpost\.local\//), { seconds: START });
  await check('the server is well: the slot is confirmed', () => line(/outpost-confirm: slot A works/), { seconds: START });
  await check('the card has a second slot and data, and a signature of its own', () => {
    expect(partition(card, 3).length === partition(card, 2).length && partition(card, 4).length > 0, 'a partition is missing');
    expect(readFileSync(card).readUInt32LE(440) !== 0x4f54554f, 'it has the signature of the image');
    expect(slots(card).BOOT_A_LEFT === '9', JSON.stringify(slots(card)));
  });
});
