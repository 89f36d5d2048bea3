/**
 * Cards at the end of their life: one that refuses writes to its data, one that swallows all writes, one that fails
 * again and again. The box comes up with its data each time, says what is wrong, and tries again when it is started again; it
 * does not claim to have been reset by a card that cannot be erased.
 *
 *   make image BOARD=qemu-arm64 && node failing.mjs
 */
import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { begin, check, expect } from '../e2e/report.mjs';
import { Box, HEALTH, RESET, START, filesOnBoot, makeCard, partition, piece, putOnBoot, story } from './box.mjs';
import { ForgetfulCard, dice } from './card.mjs';

/** MiB */
const CARD = 768;

/** Notes in an ext4 that it had an error, as the kernel does: a bit in its superblock, whose last four bytes are a CRC-32C. */
function noteError(file, at) {
  const superblock = Buffer.alloc(1024);
  readSync(file, superblock, 0, 1024, at + 1024);
  superblock[0x3a] |= 2;
  let crc = ~0;
  for (const byte of superblock.subarray(0, 1020)) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
  }
  superblock.writeUInt32LE(crc >>> 0, 1020);
  writeSync(file, superblock, 0, 1024, at + 1024);
}

await story('failing', async (scratch) => {
  const file = makeCard(join(scratch, 'card.img'), { size: CARD });
  const card = new ForgetfulCard(file, join(scratch, 'socket'), dice(1));
  const box = new Box(card.address);
  const health = () => piece(file, HEALTH * 512, 64).toString().split('\n')[0];
  const groups = async () => (await box.ask({ action: 'meshes' })).meshes.map(({ _id }) => _id);
  const has = async (...wanted) => {
    const found = await groups();
    expect(wanted.every((id) => found.includes(id)), `of ${wanted.length} groups it has ${found.length}`);
  };
  async function cut() {
    await box.cut();
    await card.served;
  }
  const says = async (words, since) => {
    await box.settles('A', { since });
    const { text } = await box.line(/outpost-box: (card|set-aside) /, { since, seconds: 1 });
    expect(/outpost-box: card /.test(text) && text.includes(words), text);
    return text.trim();
  };
  const saysNothing = () => expect(!box.machine.lines.some((line) => /outpost-box: (card|set-aside)/.test(line.text)), 'it says that the card is failing');
  /** From now on the card refuses all writes to the data partition but to its beginning. Gives when the box starts again. */
  async function failsAtData() {
    const { at, length } = partition(file, 4);
    const since = Date.now();
    card.illness = (from, bytes) => (from + bytes > at + 4096 && from < at + length ? 'refused' : null);
    // What this answers is no matter: its writes are refused.
    await box.makeGroup('While it fails').catch(() => undefined);
    box.began = (await box.line(/^U-Boot 20/, { since })).at;
    return box.began;
  }
  let [group, later] = [];

  begin('A box with an account and a group');
  await check('it starts', async () => {
    const seconds = await box.start('failing');
    await box.makeAdmin();
    group = await box.makeGroup('Boxes');
    await box.settles('A');
    expect(/^outpost card 0 [0-9a-f]{16}$/.test(health()), health());
    return `${seconds.toFixed(1)} s after power-on`;
  }, { seconds: START });

  begin('The card refuses writes to all of the data partition but its beginning');
  await check('the box starts again by itself, and has everything', async () => {
    const when = await failsAtData();
    const seconds = await box.answers();
    const said = await says('cannot be repaired', when);
    await has(group);
    return `${seconds.toFixed(1)} s later: ${said}`;
  }, { seconds: START * 2 });
  await check('it works, in memory', async () => {
    later = await box.makeGroup('For now');
    await has(group, later);
  }, { seconds: START });

  begin('The card swallows what is written to it');
  await check('the box has everything that was on the card', async () => {
    await cut();
    card.illness = () => 'swallowed';
    const before = card.written;
    await box.start('failing-swallowed');
    const said = await says('does not keep');
    await has(group);
    expect(!(await groups()).includes(later), 'what was done in memory was on the card');
    expect(card.written === before, 'it has kept something');
    return said;
  }, { seconds: START });

  begin('The card works again');
  await check('the box repairs it, and keeps what is done', async () => {
    await cut();
    card.illness = () => null;
    await box.start('failing-well');
    await box.settles('A');
    saysNothing();
    await has(group);
    later = await box.makeGroup('For good');
  }, { seconds: START });

  begin('The file system had errors again and again');
  await check('the box keeps in memory what it writes', async () => {
    await cut();
    const to = openSync(file, 'r+');
    noteError(to, partition(file, 4).at);
    writeSync(to, 'outpost card 4 0011223344556677\n', HEALTH * 512);
    closeSync(to);
    await box.start('failing-again');
    const said = await says('again and again');
    await has(group, later);
    await box.makeGroup('For now');
    return said;
  }, { seconds: START });
  await check('started again, it tries the card again', async () => {
    await cut();
    await box.start('failing-tried');
    await box.settles('A');
    saysNothing();
    const found = await groups();
    expect(found.length === 2 && found.includes(group) && found.includes(later), `it has ${found.length} groups`);
    expect(health().startsWith('outpost card 2 '), health());
  }, { seconds: START });

  begin('A file on the boot partition asks for a factory reset, and the card cannot be erased');
  const reset = 'factory-reset.txt';
  const erasing = () => piece(file, RESET * 512, 21).toString() === 'outpost factory reset';
  /** Started with an illness, the box has its data, says that it was not reset, and why. */
  const isNotReset = async (name, illness, why) => {
    await cut();
    const { at, length } = partition(file, 4);
    card.illness = (from, bytes) => (from + bytes > at && from < at + length ? illness.data : illness.elsewhere);
    await box.start(name);
    const { text } = await box.line(/outpost-box: card .* was to be reset/);
    expect(text.includes(why), text);
    expect(!box.machine.lines.some((line) => /outpost-box: reset/.test(line.text)), 'it says that it was reset');
    await box.settles('A');
    await has(group, later);
    return text.trim();
  };
  await check('one that swallows everything: the box has its data and says so', async () => {
    putOnBoot(file, reset);
    const said = await isNotReset('failing-reset', { data: 'swallowed', elsewhere: 'swallowed' }, 'nothing has been erased');
    expect(!erasing(), 'it has kept something');
    return said;
  }, { seconds: START });
  await check('one that swallows what is written to its data', async () => {
    const said = await isNotReset('failing-reset-data', { data: 'swallowed', elsewhere: null }, 'tries again');
    expect(erasing(), 'the next start will not try again');
    return said;
  }, { seconds: START });
  await check('one that refuses it', () => isNotReset('failing-reset-refused', { data: 'refused', elsewhere: null }, 'tries again'), { seconds: START });
  await check('working again, it is reset, once', async () => {
    await cut();
    card.illness = () => null;
    await box.start('failing-reset-well');
    await box.line(/outpost-box: reset/);
    await box.settles('A');
    expect(!box.machine.lines.some((line) => /outpost-box: card/.test(line.text)), 'it says that the card is failing');
    expect(!erasing() && !filesOnBoot(file).includes(reset), 'it would be reset again');
    await box.makeAdmin();
    expect((await groups()).length === 0, 'there are groups');
  }, { seconds: START });
});
