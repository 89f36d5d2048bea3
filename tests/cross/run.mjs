/**
 * The programs of `make cross`, each run by an emulator of the processor it is for: the server answers with its page,
 * the agents of all kinds, which a box offers, enrol with it. Needs Debian's `qemu-user-static`.
 *
 *   node run.mjs [target…]   whose servers to run; all without one
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { start, stopAll } from '../e2e/processes.mjs';
import { begin, broken, check, expect, failures, summarise } from '../e2e/report.mjs';
import { ask, fetchFrom } from './control.mjs';

const repository = resolve(fileURLToPath(new URL('.', import.meta.url)), '../..');
const output = join(repository, 'target/cross-test');
const programs = join(repository, 'dist');
/** The emulator of each target's smallest machine. */
const TARGETS = {
  'aarch64-unknown-linux-musl': ['qemu-aarch64-static', '-cpu', 'cortex-a53'],
  'armv7-unknown-linux-musleabihf': ['qemu-arm-static', '-cpu', 'cortex-a7'],
  'arm-unknown-linux-musleabihf': ['qemu-arm-static', '-cpu', 'arm1176'],
  'x86_64-unknown-linux-musl': ['qemu-x86_64-static'],
};
const ADMIN = { name: 'admin', password: 'slate harbour violin 42 dusk' };
/** Emulated and beside others, the first certificates take a while. */
const LONG = 300;

const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
const freePort = () =>
  new Promise((done) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => done(port));
    });
  });
async function until(words, test) {
  for (const from = Date.now(); Date.now() - from < LONG * 1000; await pause(200)) {
    const found = await test();
    if (found) return found;
  }
  throw new Error(words);
}

const started = Date.now();
const scratch = mkdtempSync(join(tmpdir(), 'outpost-cross-'));
rmSync(output, { recursive: true, force: true });
mkdirSync(output, { recursive: true });

async function target(name) {
  begin(name);
  const program = [...TARGETS[name], join(programs, name, 'outpost')];
  const folder = join(scratch, name);
  const [data, port] = [join(folder, 'data'), await freePort()];
  mkdirSync(data, { recursive: true, mode: 0o700 });
  const config = { settings: { port, redirPort: 0, portBind: '127.0.0.1', exactPorts: true, WANonly: true, cert: '127.0.0.1' } };
  writeFileSync(join(data, 'config.json'), JSON.stringify(config));
  const here = { host: '127.0.0.1', port };
  let server;
  await check('the server starts and gives its page', async () => {
    for (const words of [['create-account', ADMIN.name, '--pass', ADMIN.password], ['make-admin', ADMIN.name]]) {
      const { status, stderr, signal } = spawnSync(program[0], [...program.slice(1), '--datapath', data, ...words], { encoding: 'utf8' });
      expect(status === 0, `${words[0]}: ${stderr} ${signal ?? ''}`);
    }
    server = start('server', null, [...program, '--datapath', data], { log: join(output, `${name}-server.log`) });
    const page = await until('no answer', async () => {
      expect(!server.ended, 'the server ended');
      return fetchFrom(here, '/').catch(() => null);
    });
    expect(page.status === 200 && page.body.includes('<title>Outpost'), `${page.status}: ${page.body.slice(0, 200)}`);
  }, { seconds: LONG });
  const settings = join(folder, 'outpost-agent.msh');
  await check('it makes a group for devices', async () => {
    const { meshid } = await ask(here, ADMIN, { action: 'createmesh', meshname: 'Boards', meshtype: 2 });
    const answer = await fetchFrom(here, `/meshsettings?id=${encodeURIComponent(meshid.split('/').at(-1))}`);
    expect(answer.status === 200, `meshsettings answered ${answer.status}`);
    writeFileSync(settings, answer.body);
  });
  const seen = new Set();
  for (const [kind, emulator] of Object.entries(TARGETS)) {
    await check(`the agent for ${kind} enrols`, async () => {
      const state = join(folder, `agent-${kind}`);
      const agent = start('agent', null, [...emulator, join(programs, kind, 'outpost-agent'), 'run', '--msh', settings, '--state', state, '-k', 'Display=off'], { log: join(output, `${name}-agent-${kind}.log`) });
      const { _id } = await until('the device is not there', async () => {
        expect(!agent.ended, 'the agent ended');
        const { nodes } = await ask(here, ADMIN, { action: 'nodes' });
        return Object.values(nodes).flat().find((node) => node.conn === 1 && !seen.has(node._id));
      });
      seen.add(_id);
      await agent.stop();
    }, { seconds: LONG });
  }
  await server?.stop();
}

try {
  const named = process.argv.slice(2);
  const wanted = named.length ? named : Object.keys(TARGETS);
  for (const kind of Object.keys(TARGETS)) expect(existsSync(join(programs, kind, 'outpost-agent')), `there is no ${programs}/${kind}/outpost-agent: scripts/cross.sh --agents`);
  for (const name of wanted) {
    expect(TARGETS[name] && existsSync(join(programs, name, 'outpost')), `there is no ${programs}/${name}/outpost: scripts/cross.sh ${name}`);
    await target(name);
  }
  begin('The processor of the first Raspberry Pi');
  await check('does not run what is made for newer ones, so the emulator tells them apart', async () => {
    const { signal, status } = spawnSync('qemu-arm-static', ['-cpu', 'arm1176', join(programs, 'armv7-unknown-linux-musleabihf/outpost-agent'), '--version'], { encoding: 'utf8' });
    expect(signal === 'SIGILL' || status === 132, `it ended with ${signal ?? status}`);
  });
} catch (error) {
  await broken(error);
} finally {
  await stopAll();
  rmSync(scratch, { recursive: true, force: true });
}
summarise((Date.now() - started) / 1000);
process.exit(failures() ? 1 : 0);
