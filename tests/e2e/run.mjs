/**
 * The whole story with real processes: a server, a device and a browser on a LAN of network namespaces.
 * Needs root, Debian's `iproute2`, `util-linux`, `curl` and `chromium`, and the two programs (../programs.mjs). OUTPOST_SCREENSHOTS names a folder that keeps pictures.
 * With OUTPOST_PEER, a folder with `node_modules/meshcentral`, MeshCentral's own agent has its part (story/remote.mjs).
 *
 *   npm ci && node run.mjs
 */
import { copyFileSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { complaints, launch } from './browser.mjs';
import { programs } from '../programs.mjs';
import { connect, disconnect } from './network.mjs';
import { stopAll, tail } from './processes.mjs';
import { begin, broken, check, expect, failures, onFailure, summarise } from './report.mjs';
import { Server } from './server.mjs';
import * as chat from './story/chat.mjs';
import * as enrolment from './story/enrolment.mjs';
import * as secondFactor from './story/factor.mjs';
import * as lookout from './story/discovery.mjs';
import * as files from './story/files.mjs';
import * as filework from './story/filework.mjs';
import * as guest from './story/guest.mjs';
import * as hostility from './story/hostility.mjs';
import * as looks from './story/looks.mjs';
import * as people from './story/people.mjs';
import * as power from './story/power.mjs';
import * as recording from './story/recording.mjs';
import * as remote from './story/remote.mjs';
import * as setup from './story/setup.mjs';
import * as systemd from './story/systemd.mjs';
import * as terminal from './story/terminal.mjs';

const LIMIT_SECONDS = 1200;
const here = fileURLToPath(new URL('.', import.meta.url));
const output = join(here, 'output');

if (process.getuid?.() !== 0) {
  console.error('This needs root: it makes network namespaces and installs an agent inside them.');
  process.exit(2);
}
rmSync(output, { recursive: true, force: true });
mkdirSync(output, { recursive: true });
const scratch = mkdtempSync(join(tmpdir(), 'outpost-e2e-'));
const started = Date.now();
const world = { output, scratch, browser: null, programs };

let ending = null;
/** Everything that was begun ends here, whatever happened. */
function end() {
  ending ??= (async () => {
    await world.browser?.close().catch(() => undefined);
    await stopAll();
    disconnect();
    rmSync(scratch, { recursive: true, force: true });
  })();
  return ending;
}
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => void end().then(() => process.exit(130)));
const limit = setTimeout(() => {
  console.error(`The story did not end within ${LIMIT_SECONDS} s.`);
  void end().then(() => process.exit(1));
}, LIMIT_SECONDS * 1000);

/** Pictures of every open page go beside the logs when something fails. */
onFailure(async (name) => {
  let n = 0;
  for (const context of world.browser?.contexts() ?? []) {
    for (const page of context.pages()) await page.screenshot({ path: join(output, `failed-${name.replaceAll(/\W+/g, '-').slice(0, 60)}-${(n += 1)}.png`), timeout: 3000 }).catch(() => undefined);
  }
});

try {
  connect();
  // The server offers the agent that lies beside it; the two may have been built in different places.
  mkdirSync(join(scratch, 'programs'));
  for (const [name, path] of Object.entries(programs)) copyFileSync(path, (world.programs[name] = join(scratch, 'programs', name === 'server' ? 'outpost' : 'outpost-agent')));
  world.server = new Server(world.programs.server, join(scratch, 'data'), join(output, 'server.log'));
  world.browser = await launch(scratch);
  const withPeer = process.env.OUTPOST_PEER ? [remote.agent, remote.desktop, recording.desktop, guest.screen, remote.files, remote.commands] : [];
  for (const part of [setup.begins, setup.firstRun, setup.group, enrolment.install, enrolment.appears, people.invitation, terminal.works, terminal.several, files.ours, filework.work, power.agentDies, power.serverDies, recording.terminal, guest.shared, chat.talk, guest.port, people.shares, hostility.harmsNobody, lookout.finds, systemd.service, secondFactor.factor, ...withPeer, looks.everywhere, people.removal]) {
    if (ending) break;
    begin(part.title);
    const from = Date.now();
    try {
      await part.run(world);
    } catch (error) {
      await broken(error);
      if (part.needed) break;
    }
    console.log(`  (${((Date.now() - from) / 1000).toFixed(1)} s)`);
  }
  if (ending) throw new Error('ended from outside');
  begin('In the end');
  await check('no page complained', async () => expect(complaints.length === 0, [...new Set(complaints)].join('\n')));
  await check('the server neither panicked nor was ended by the system', async () => expect(!/panicked at/.test(tail(world.server.log, 100_000)), 'panicked; see server.log'));
} catch (error) {
  await broken(error);
} finally {
  clearTimeout(limit);
  await end();
}
if (failures() > 0) {
  for (const name of ['server.log', 'agent.log']) console.log(`\n--- the end of ${name}\n${tail(join(output, name))}`);
}
summarise((Date.now() - started) / 1000);
process.exitCode = failures() > 0 ? 1 : 0;
