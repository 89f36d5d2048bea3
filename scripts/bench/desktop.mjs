/**
 * Our agent's desktop beside MeshAgent's: the same server, the same pictures on Xvfb at 1920 × 1080, one viewer, one after
 * the other. Prints pictures a second, the processor time that each took, and the ratios; it judges nothing.
 * Needs target/release (OUTPOST_BIN, OUTPOST_AGENT_BIN), target/release/examples/motion (OUTPOST_MOTION), Xvfb, and
 * MeshCentral's package as tests/compat/install.mjs leaves it. As root, for namespaces of processes.
 *
 *   node scripts/bench/desktop.mjs [seconds]
 */
import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ask } from '../../tests/compat/client.mjs';
import { MESHCENTRAL, webSocketLibrary } from '../../tests/compat/peer.mjs';
import { fetchFrom, start, startServer, stopAll } from '../../tests/compat/servers.mjs';
import { program, programs } from '../../tests/programs.mjs';

const motion = program('OUTPOST_MOTION', 'examples/motion');
const SECONDS = Number(process.argv[2] ?? 15);
const [WIDTH, HEIGHT] = [1920, 1080];
/** Pictures a second that are shown: more than either agent takes. */
const RATE = 30;
const scratch = mkdtempSync(join(tmpdir(), 'outpost-bench-'));
const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

async function until(words, test, milliseconds = 60_000) {
  const end = Date.now() + milliseconds;
  for (;;) {
    const found = await test();
    if (found) return found;
    if (Date.now() > end) throw new Error(words);
    await wait(200);
  }
}

/** Hundredths of a second that processes of this name have taken, with their children that are gone. */
function time(name) {
  let sum = 0;
  for (const pid of readdirSync('/proc').filter((one) => /^\d+$/.test(one))) {
    try {
      const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
      if (text.slice(text.indexOf('(') + 1, text.lastIndexOf(')')) !== name) continue;
      const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
      sum += [11, 12, 13, 14].reduce((all, at) => all + Number(fields[at]), 0);
    } catch {
      // It has ended meanwhile.
    }
  }
  return sum;
}

/** Pixels of a JPEG picture, by its frame header. */
function area(image) {
  for (let at = 2; at + 9 < image.length && image[at] === 0xff; at += 2 + image.readUInt16BE(at + 2)) {
    if (image[at + 1] >= 0xc0 && image[at + 1] <= 0xc2) return image.readUInt16BE(at + 5) * image.readUInt16BE(at + 7);
  }
  return 0;
}

/** Watches a device's desktop; counts what comes. */
async function watch(server, id) {
  const cookies = await ask(server, [{ action: 'authcookie' }], { enough: (message) => message.action === 'authcookie' });
  const { cookie, rcookie } = cookies.find((message) => message.action === 'authcookie');
  const relay = `meshrelay.ashx?p=2&nodeid=${id}&id=bench-${Date.now()}`;
  const WebSocket = webSocketLibrary();
  const socket = new WebSocket(`${server.url}/${relay.replace('?', '?browser=1&')}&auth=${encodeURIComponent(cookie)}`, { rejectUnauthorized: false });
  const seen = { pixels: 0, bytes: 0, socket };
  let begun = false;
  socket.on('error', (error) => console.error(String(error)));
  socket.on('message', (data, binary) => {
    if (!begun && /^cr?$/.test(data.toString())) {
      begun = true;
      socket.send('2');
      // Quality 50, full size, a picture every 20 ms at most; go on; everything.
      for (const command of [[0, 5, 0, 10, 1, 50, 4, 0, 0, 20], [0, 8, 0, 5, 0], [0, 6, 0, 4]]) socket.send(Buffer.from(command));
      return;
    }
    if (!binary || data.length < 8) return;
    seen.bytes += data.length;
    const jumbo = data.readUInt16BE(0) === 27;
    const command = data.readUInt16BE(jumbo ? 8 : 0);
    if (command === 3) seen.pixels += area(data.subarray(jumbo ? 16 : 8));
  });
  await new Promise((done) => socket.on('open', done));
  await ask(server, [{ action: 'msg', type: 'tunnel', nodeid: id, usage: 2, value: `*/${relay}&rauth=${rcookie}` }], { wait: 500 });
  await until('no picture came', () => seen.pixels > 0, 30_000);
  return seen;
}

async function measure(server, id, name) {
  const seen = await watch(server, id);
  await wait(2000);
  const [pixels, bytes, before, from] = [seen.pixels, seen.bytes, time(name), Date.now()];
  await wait(SECONDS * 1000);
  const seconds = (Date.now() - from) / 1000;
  const result = { rate: (seen.pixels - pixels) / (WIDTH * HEIGHT) / seconds, share: (time(name) - before) / seconds, megabytes: (seen.bytes - bytes) / seconds / 1e6 };
  seen.socket.terminate();
  await wait(1500);
  return result;
}

const row = (words, { rate, share, megabytes }) => console.log(`  ${words.padEnd(34)} ${rate.toFixed(1).padStart(6)} pictures/s ${share.toFixed(1).padStart(6)} % of a processor ${megabytes.toFixed(1).padStart(6)} MB/s`);

try {
  if (!existsSync(MESHCENTRAL)) throw new Error(`there is no ${MESHCENTRAL}`);
  const server = await startServer('outpost', scratch, programs);
  const imported = spawnSync(programs.server, ['agents', 'import', MESHCENTRAL, '--datapath', server.data], { encoding: 'utf8' });
  if (imported.status !== 0) throw new Error(imported.stderr);
  const made = await ask(server, [{ action: 'createmesh', meshname: 'Bench', meshtype: 2 }], { enough: (message) => message.action === 'createmesh' });
  const { meshid } = made.find((message) => message.action === 'createmesh');
  const results = {};
  for (const [name, flavour] of [['outpost-agent', 'outpost'], ['meshagent', 'mesh']]) {
    const folder = join(scratch, name);
    mkdirSync(folder);
    const settings = await fetchFrom(server, `/meshsettings?id=${encodeURIComponent(meshid.split('/').at(-1))}`);
    writeFileSync(join(folder, `${name}.msh`), settings.body);
    copyFileSync(flavour === 'mesh' ? join(MESHCENTRAL, 'agents/meshagent_x86-64') : programs.agent, join(folder, name));
    chmodSync(join(folder, name), 0o755);
    const number = 700 + (process.pid % 200) + (flavour === 'mesh' ? 1 : 0);
    writeFileSync(join(folder, 'authority'), '');
    // Names and processes of its own: MeshAgent looks for the screen among the processes.
    const script = [
      `hostname ${name}`, `cd '${folder}'`,
      `Xvfb :${number} -screen 0 ${WIDTH}x${HEIGHT}x24 -nolisten tcp -noreset & sleep 424242 &`,
      `until [ -S /tmp/.X11-unix/X${number} ]; do sleep 0.1; done`,
      flavour === 'mesh' ? './meshagent connect' : `./outpost-agent run --msh ${name}.msh --state state`, 'wait',
    ].join('\n');
    const env = { DISPLAY: `:${number}`, XAUTHORITY: join(folder, 'authority') };
    const running = start(['unshare', '--uts', '--pid', '--fork', '--kill-child', '--mount-proc', 'sh', '-c', script], { log: join(scratch, `${name}.log`), env });
    const id = await until(`${name} did not come with a desktop`, async () => {
      const heard = await ask(server, [{ action: 'nodes' }], { enough: (message) => message.action === 'nodes' });
      const nodes = Object.values(heard.find((message) => message.action === 'nodes')?.nodes ?? {}).flat();
      return nodes.find((node) => node.name === name && ((node.agent?.caps ?? 0) & 1) === 1)?._id;
    });
    await wait(3000);
    const [before, from] = [time(name), Date.now()];
    await wait(SECONDS * 1000);
    const idle = (time(name) - before) / ((Date.now() - from) / 1000);
    const still = await measure(server, id, name);
    const moving = start([motion, env.DISPLAY, String(RATE)], { log: join(scratch, 'motion.log'), env });
    await until('no pictures are shown', () => moving.text().includes('ready'));
    const full = await measure(server, id, name);
    await moving.stop();
    await running.stop();
    for (const file of [`/tmp/.X${number}-lock`, `/tmp/.X11-unix/X${number}`]) rmSync(file, { force: true });
    results[name] = full;
    console.log(`${name}, ${SECONDS} s each`);
    console.log(`  ${'nobody watches'.padEnd(34)} ${' '.repeat(17)} ${idle.toFixed(2).padStart(6)} % of a processor`);
    row('a still screen', still);
    row(`${RATE} pictures a second, all changing`, full);
  }
  const [ours, theirs] = [results['outpost-agent'], results.meshagent];
  const each = ({ share, rate }) => (share * 10) / rate;
  console.log(`Ours beside MeshAgent: ${(ours.rate / theirs.rate).toFixed(2)} times the pictures, ${(ours.share / theirs.share).toFixed(2)} times the processor, ${(each(ours) / each(theirs)).toFixed(2)} times for each picture (${each(ours).toFixed(1)} and ${each(theirs).toFixed(1)} ms)`);
} catch (error) {
  console.error(error);
  process.exitCode = 1;
} finally {
  await stopAll();
  rmSync(scratch, { recursive: true, force: true });
}
