/**
 * Card care: what a box with 100 agents that have nothing to say writes to its card, counted by the card. Less than 5 MiB an hour.
 *
 *   make image BOARD=qemu-arm64 && MINUTES=6 node care.mjs
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fetchFrom } from '../cross/control.mjs';
import { start } from '../e2e/processes.mjs';
import { begin, check, expect } from '../e2e/report.mjs';
import { Box, START, makeCard, output, pause, repository, story, until } from './box.mjs';
import { ForgetfulCard, dice } from './card.mjs';

const AGENTS = 100;
/** Minutes that are measured, and those before: agents' first reports, and what their enrolment left to be written (the journal is, after five). */
const [MINUTES, SETTLING] = [Number(process.env.MINUTES ?? 6), 5];
/** Bytes an hour: the design's budget. */
const BUDGET = 5 << 20;
const load = ['release', 'debug'].map((kind) => join(repository, 'target', kind, 'examples/load')).find(existsSync);

await story('care', async (scratch) => {
  expect(load, 'there is no target/…/examples/load: cargo build --example load');
  const file = makeCard(join(scratch, 'card.img'));
  const card = new ForgetfulCard(file, join(scratch, 'socket'), dice(1));
  const box = new Box(card.address);

  begin('An idle box');
  await check('it starts', async () => {
    await box.start('care');
    await box.makeAdmin();
    await box.settles('A');
    return `${(card.written / 2 ** 20).toFixed(1)} MiB written by the first start`;
  }, { seconds: START });
  await check(`${AGENTS} agents are connected`, async () => {
    const group = await box.makeGroup('Boxes');
    const settings = await fetchFrom(box.here, `/meshsettings?id=${encodeURIComponent(group.split('/').at(-1))}`);
    const serverId = /^ServerID=(\S+)/m.exec(settings.body)?.[1];
    const hold = String((MINUTES + SETTLING + 10) * 60);
    start('load', null, [load, `127.0.0.1:${box.here.port}`, group, serverId, String(AGENTS)], { log: join(output, 'care-load.log'), env: { LOAD_HOLD: hold } });
    await until('not all are there', async () => (await box.devices()).filter((device) => device.conn === 1).length === AGENTS);
  }, { seconds: START });
  await pause(SETTLING * 60_000);
  await check('what it writes in an hour', async () => {
    const before = card.written;
    const from = Date.now();
    const each = [];
    for (let minute = 0; minute < MINUTES; minute += 1) {
      const at = card.written;
      await pause(60_000);
      each.push(`${((card.written - at) / 1024).toFixed(0)}`);
    }
    const hour = ((card.written - before) / (Date.now() - from)) * 3_600_000;
    const words = `${(hour / 2 ** 20).toFixed(2)} MiB an hour; KiB in each of ${MINUTES} minutes: ${each.join(' ')}`;
    expect(hour < BUDGET, words);
    // What is written is seen: an account that is acknowledged is on the card.
    const idle = card.written;
    await box.ask({ action: 'adduser', username: 'writer', pass: 'slate harbour writer 7' });
    expect(card.written > idle, 'a new account was not seen to be written');
    return words;
  }, { seconds: MINUTES * 60 + 60 });
});
