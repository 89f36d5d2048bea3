/**
 * The image for Raspberry Pi 3, 4 and Zero 2 W in an emulated Raspberry Pi 3B, as far as that goes: U-Boot and device tree from
 * the card, the kernel's drivers of the board's card reader, pins and console, systemd, the server. The emulator has neither
 * the firmware, nor the network of the board, nor its watchdog: it resets the board the moment that one is armed, so its
 * driver is left out. Pins have no pull-ups: the reset button's is low, as if somebody held it.
 *
 *   make image BOARD=rpi-arm64 && node pi.mjs
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { run, start, tail } from '../e2e/processes.mjs';
import { begin, check, expect } from '../e2e/report.mjs';
import { START, makeCard, output, partition, repository, slots, story, until } from './box.mjs';
import { change, changeRamDisk, placeSlot, shippedSlot } from './slots.mjs';

const image = join(repository, 'dist/image/outpost-rpi-arm64.img');
const TREE = 'bcm2837-rpi-3-b.dtb';

await story('pi', async (scratch) => {
  expect(existsSync(image), `there is no ${image}: make image BOARD=rpi-arm64`);
  const card = makeCard(join(scratch, 'card.img'), { from: image });
  const modules = readFileSync(join(repository, 'board/common/init/modules'), 'utf8').replace(/^.*_wdt\n/gm, '');
  const slot = changeRamDisk(shippedSlot(join(scratch, 'slot.ext4'), image), 'etc/modules', modules);
  placeSlot(change(slot, { '/etc/modprobe.d/no-watchdog.conf': 'blacklist bcm2835_wdt\n' }), card);
  const boot = `${card}@@${partition(card, 1).at}`;
  for (const file of ['u-boot.bin', TREE]) {
    const { code, err } = run(null, ['mcopy', '-n', '-i', boot, `::${file}`, join(scratch, file)]);
    expect(code === 0, err);
  }
  const log = join(output, 'pi.log');
  // The second serial line is the console that the image uses.
  const words = ['qemu-system-aarch64', '-M', 'raspi3b', '-display', 'none', '-monitor', 'none', '-serial', 'null', '-serial', 'stdio'];
  words.push('-kernel', join(scratch, 'u-boot.bin'), '-dtb', join(scratch, TREE), '-drive', `file=${card},if=sd,format=raw`);
  const began = Date.now();
  const machine = start('pi', null, words, { log });
  const line = (pattern) =>
    until(`the console does not say ${pattern}; last: ${tail(log, 3)}`, () => {
      expect(!machine.ended, `the emulator ended: ${tail(log, 5)}`);
      return machine.lines.find(({ text }) => pattern.test(text))?.text.trim();
    });

  begin('A Raspberry Pi 3B, emulated');
  await check('U-Boot on the card chooses a slot and starts its kernel', async () => {
    await line(/Outpost: slot A/);
    await line(/Starting kernel/);
  }, { seconds: START });
  await check('the reset button’s pin is read', () => line(/outpost-box: reset .*by the button/), { seconds: START });
  await check('everything is started, nothing failed', async () => {
    const text = await line(/outpost-box: slot/);
    expect(text.includes('slot A, running'), text);
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
