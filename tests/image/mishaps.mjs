/**
 * What happens to cards: a damaged table of partitions, a damaged and a destroyed data partition, a factory reset by a file on the
 * boot partition, from the box itself or by its button, power cuts in the middle of it. The box comes up each time and says what happened.
 *
 *   make image BOARD=qemu-arm64 && node mishaps.mjs
 */
import { createHash } from 'node:crypto';
import { closeSync, openSync, writeSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { begin, check, expect } from '../e2e/report.mjs';
import { Box, RESET, START, TABLE_COPY, filesOnBoot, makeCard, partition, piece, putOnBoot, story, until } from './box.mjs';
import { SHELL, change, changeRamDisk, placeSlot, shippedSlot } from './slots.mjs';

/** MiB */
const CARD = 768;

await story('mishaps', async (scratch) => {
  const card = makeCard(join(scratch, 'card.img'), { size: CARD });
  const slot = change(shippedSlot(join(scratch, 'slot.ext4')), SHELL);
  placeSlot(slot, card);
  const box = new Box(card);
  const overwrite = (at, bytes) => {
    const file = openSync(card, 'r+');
    writeSync(file, bytes, 0, bytes.length, at);
    closeSync(file);
  };
  const first = () => piece(card, 0, 512);
  const resetting = () => piece(card, RESET * 512, 21).toString() === 'outpost factory reset';
  const data = () => {
    const { at, length } = partition(card, 4);
    return createHash('sha256').update(piece(card, at, length)).digest('hex');
  };
  const isThere = async () => expect((await box.ask({ action: 'meshes' })).meshes.some((mesh) => mesh._id === group), 'the group is gone');
  let group;

  begin('A box with an account and a group');
  await check('it starts', async () => {
    const seconds = await box.start('mishaps');
    await box.makeAdmin();
    group = await box.makeGroup('Boxes');
    await box.settles('A');
    return `${seconds.toFixed(1)} s after power-on`;
  }, { seconds: START });
  await check('the table of partitions is on the card twice', () => expect(first().equals(piece(card, TABLE_COPY * 512, 512)), 'the copy differs'));
  const table = first();

  begin('The table of partitions loses slot B and data');
  await check('it is put back, and everything is there', async () => {
    await box.cut();
    overwrite(446 + 32, Buffer.alloc(32));
    await box.start('mishaps-table');
    await isThere();
    const { text } = await box.line(/outpost-box: repaired/);
    expect(first().equals(table), 'the table is another one');
    await box.settles('A');
    return text.trim();
  }, { seconds: START });

  begin('The beginning of the data partition is damaged');
  await check('it is repaired, and everything is there', async () => {
    await box.cut();
    overwrite(partition(card, 4).at, Buffer.alloc(4096));
    await box.start('mishaps-superblock');
    await isThere();
    const { text } = await box.line(/outpost-box: repaired/);
    await box.settles('A');
    return text.trim();
  }, { seconds: START });

  begin('The data partition is destroyed');
  await box.cut();
  const { at, length } = partition(card, 4);
  for (let from = 0; from < length; from += 1 << 20) overwrite(at + from, Buffer.alloc(Math.min(1 << 20, length - from), 0xa5));
  const destroyed = data();
  await check('the box comes up and says so', async () => {
    const seconds = await box.start('mishaps-destroyed');
    const { text } = await box.line(/outpost-box: set-aside/);
    await box.settles('A');
    return `${seconds.toFixed(1)} s after power-on: ${text.trim()}`;
  }, { seconds: START });
  await check('nothing was written to it', async () => expect(data() === destroyed, 'it was changed'));
  await check('asked from the box, it gets a new one', async () => {
    await box.shell('busybox touch /var/lib/outpost-box/factory-reset');
    await until('the request is not on the card', resetting, 60);
    await box.restart();
    await box.answers();
    const { text } = await box.line(/outpost-box: reset/);
    await box.settles('A');
    expect(!resetting(), 'the request is still there');
    expect(first().equals(table), 'the card is another one');
    await box.makeAdmin();
    return text.trim();
  }, { seconds: START * 2 });

  begin('A file on the boot partition asks for a factory reset');
  await check('a power cut in the middle of it', async () => {
    await box.cut();
    putOnBoot(card, 'factory-reset.txt');
    await box.on('mishaps-reset-cut');
    await until('the reset does not begin', resetting, START);
    await box.cut();
    return `${/factory-reset/i.test(filesOnBoot(card)) ? 'the file was still there' : 'the file was gone already'}`;
  }, { seconds: START });
  await check('the reset is done at the next start, once', async () => {
    await box.start('mishaps-reset');
    await box.line(/outpost-box: reset/);
    expect(!/factory-reset/i.test(filesOnBoot(card)), 'the file is still there');
    expect(!resetting(), 'the request is still there');
    await box.makeAdmin();
    await box.settles('A');
    await box.cut();
    await box.start('mishaps-after');
    await box.ask({ action: 'meshes' });
    await box.settles('A');
    expect(!box.machine.lines.some((line) => /outpost-box: reset/.test(line.text)), 'it was reset again');
  }, { seconds: START * 2 });

  begin('A reset button, at a pin of the emulated board’s controller (PL061)');
  // Pin 3 is its power button's: low, and high for a tenth of a second when the emulator is asked to switch off. Without ACPI
  // the machine has it. What would switch the box off is not in it.
  const monitor = join(scratch, 'monitor');
  box.more = ['-machine', 'acpi=off', '-qmp', `unix:${monitor},server=on,wait=off`];
  await check('one that is stuck is passed over, and the account is there', async () => {
    await box.cut();
    placeSlot(changeRamDisk(slot, 'etc/outpost/reset-pin', '3 9030000.pl061\n'), card);
    await box.start('mishaps-stuck');
    const { text } = await box.line(/outpost-box: button/);
    await box.settles('A');
    await box.ask({ action: 'meshes' });
    expect(!box.machine.lines.some((line) => /outpost-box: reset/.test(line.text)), 'it was reset');
    return text.trim();
  }, { seconds: START });
  await check('held while the box is switched on, and let go, it resets the box', async () => {
    await box.cut();
    await box.on('mishaps-button');
    await box.line(/reset button is held/, { seconds: START });
    const power = connect(monitor);
    power.on('error', () => undefined);
    power.write('{"execute":"qmp_capabilities"}');
    const pressing = setInterval(() => power.write('{"execute":"system_powerdown"}'), 170);
    await until('it is not reset', resetting, 30).finally(() => (clearInterval(pressing), power.end()));
    await box.answers();
    const { text } = await box.line(/outpost-box: reset/);
    expect(text.includes('by the button'), text);
    await box.makeAdmin();
    await box.settles('A');
    return text.trim();
  }, { seconds: START });
});
