/**
 * The box, in an emulator: the very image of the board qemu-arm64 is started on a card of its own. Its page is reached
 * through a forwarded port, the first account is made, an agent enrols from outside; it is switched off without a warning
 * and started again, and everything is still there. Prints how long a start takes and what the box says of itself.
 *
 *   make image BOARD=qemu-arm64 && node run.mjs
 */
import { join } from 'node:path';
import { fetchFrom } from '../cross/control.mjs';
import { begin, check, expect } from '../e2e/report.mjs';
import { enrol } from './agent.mjs';
import { Box, START, makeCard, piece, slots, story, until } from './box.mjs';

/** Numbers of agents (agent-protocol §2.6), and of machines in ELF's header. */
const KINDS = [['x86-64', 6, 62], ['ARM of 32 bits', 25, 40], ['ARM of 64 bits', 26, 183]];

await story('image', async (scratch) => {
  const card = makeCard(join(scratch, 'card.img'));
  const box = new Box(card);

  begin('The first start');
  await check('the card is prepared and the page comes', async () => {
    const seconds = await box.start('first');
    const page = await fetchFrom(box.here, '/');
    expect(page.status === 200 && page.body.includes('<title>Outpost'), `${page.status}: ${page.body.slice(0, 200)}`);
    return `${seconds.toFixed(1)} s after power-on`;
  }, { seconds: START });
  await check('the console shows where the box is, with a code to scan', async () => {
    await box.line(/https:\/\/10\.0\.2\.15\//);
    await box.line(/█▀▀▀▀▀|█ ▄▄▄▄▄ █/);
  }, { seconds: START });
  await check('everything was started, nothing failed', () => box.settles(), { seconds: START });
  await check('the slot is confirmed', async () => void (await until('it is not', () => slots(card).BOOT_A_LEFT === '9')), { seconds: START });
  let group;
  await check('the first account is made', async () => {
    await box.makeAdmin();
    group = await box.makeGroup('Boxes');
  }, { seconds: START });
  await check('it offers agents for all kinds of machines', async () => {
    for (const [name, id, machine] of KINDS) {
      const { status, bytes } = await fetchFrom(box.here, `/meshagents?id=${id}`);
      expect(status === 200 && bytes.readUInt32BE(0) === 0x7f454c46 && bytes.readUInt16LE(18) === machine, `${name}: ${status}, ${bytes.subarray(0, 20).toString('hex')}`);
    }
  });
  let agent;
  await check('an agent that it offers enrols', async () => {
    agent = await enrol(box, group, scratch);
  }, { seconds: START });

  begin('Power cut');
  await box.cut();
  const signature = piece(card, 440, 4).toString('hex');
  await check('the card has become one of its own', () => expect(signature !== '4f55544f', 'it has the signature of the image'));
  await check('the box starts again', async () => `${(await box.start('second')).toFixed(1)} s after power-on`, { seconds: START });
  await check('everything was started, nothing failed', () => box.settles(), { seconds: START });
  await check('account, group and device are there, and the agent comes back', async () => {
    const { meshes } = await box.ask({ action: 'meshes' });
    expect(meshes.some((mesh) => mesh._id === group), 'the group is gone');
    await agent.returns();
  }, { seconds: START });
});
