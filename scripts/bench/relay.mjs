/**
 * Outpost's relay beside MeshCentral's: the same agent (ours), the same port of it, the same client, one server after the
 * other. Prints how much goes through for each second of the server's processor, how long a keystroke takes there and
 * back, and what memory that took, with the ratios; it judges nothing.
 * Needs target/release (OUTPOST_BIN, OUTPOST_AGENT_BIN) and MeshCentral's package as tests/compat/install.mjs leaves it.
 *
 *   node scripts/bench/relay.mjs [megabytes]
 */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ask } from '../../tests/compat/client.mjs';
import { MESHCENTRAL, webSocketLibrary } from '../../tests/compat/peer.mjs';
import { startAgent, startServer, stopAll } from '../../tests/compat/servers.mjs';
import { programs } from '../../tests/programs.mjs';

const BYTES = Number(process.argv[2] ?? 256) * 1e6;
const KEYSTROKES = 2000;
/** One message, or one writing; what terminals and files send. */
const PIECE = 16 * 1024;
/** Most that waits in this client, so that it is the server that is measured. */
const AHEAD = 512 * 1024;
const scratch = mkdtempSync(join(tmpdir(), 'outpost-bench-'));
const WebSocket = webSocketLibrary();

/** The processes of a group: MeshCentral's server is a child of what is started. */
function processes(group) {
  const found = [];
  for (const pid of readdirSync('/proc').filter((one) => /^\d+$/.test(one))) {
    try {
      const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
      const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
      if (Number(fields[2]) === group) found.push({ pid, seconds: (Number(fields[11]) + Number(fields[12])) / 100 });
    } catch {
      // It has ended meanwhile.
    }
  }
  return found;
}
/** Seconds of processor time that they have taken. */
const time = (group) => processes(group).reduce((sum, one) => sum + one.seconds, 0);
/** MiB of memory that they have held at most, each for itself. */
const peak = (group) => processes(group).reduce((sum, { pid }) => sum + Number(/^VmHWM:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) / 1024, 0);

/** The device's port: `d` sends without end, `e` echoes, `u` swallows and says how much with a line. */
function port() {
  const block = Buffer.alloc(PIECE, 'x');
  const server = createServer((socket) => {
    socket.setNoDelay(true);
    socket.on('error', () => socket.destroy());
    socket.once('data', (first) => {
      const kind = String.fromCharCode(first[0]);
      if (kind === 'd') {
        const pour = () => {
          while (!socket.destroyed && socket.write(block));
        };
        socket.on('drain', pour);
        pour();
      } else if (kind === 'e') socket.on('data', (data) => socket.write(data));
      else {
        let seen = 0;
        const swallow = (data) => {
          seen += data.length;
          if (seen >= BYTES) socket.write('all');
        };
        swallow(first.subarray(1));
        socket.on('data', swallow);
      }
    });
  });
  return new Promise((done) => server.listen(0, '127.0.0.1', () => done({ port: server.address().port, close: () => server.close() })));
}

async function tunnel(server, nodeid, number) {
  const heard = await ask(server, [{ action: 'getcookie', nodeid, tcpport: number }], { enough: (message) => message.action === 'getcookie' });
  const { cookie } = heard.find((message) => message.action === 'getcookie');
  const socket = new WebSocket(`${server.url}/meshrelay.ashx?auth=${encodeURIComponent(cookie)}`, { rejectUnauthorized: false, perMessageDeflate: false });
  await new Promise((done, fail) => {
    const timer = setTimeout(() => fail(new Error('the device did not open its port')), 20_000);
    socket.on('error', fail);
    socket.once('message', () => (clearTimeout(timer), done()));
  });
  return socket;
}

const next = (socket) => new Promise((done) => socket.once('message', done));

/** `act` with the processor time of the server and the time by the clock that it took. */
async function measured(pid, act) {
  const [cpu, from] = [time(pid), process.hrtime.bigint()];
  await act();
  return { cpu: time(pid) - cpu, seconds: Number(process.hrtime.bigint() - from) / 1e9 };
}

function download(socket) {
  socket.send(Buffer.from('d'));
  let seen = 0;
  return new Promise((done) =>
    socket.on('message', (data) => {
      seen += data.length;
      if (seen >= BYTES) done();
    }),
  );
}

async function upload(socket) {
  const block = Buffer.alloc(PIECE, 'y');
  socket.send(Buffer.from('u'));
  const all = next(socket);
  for (let sent = 0; sent < BYTES; sent += PIECE) {
    await new Promise((done, fail) => socket.send(block, (error) => (error ? fail(error) : socket.bufferedAmount < AHEAD ? done() : setImmediate(done))));
  }
  await all;
}

/** Milliseconds of a byte there and back: the middle one and the 99th of a hundred, by `send` and `heard`. */
async function keystrokes(send, heard) {
  const times = [];
  for (let n = 0; n < KEYSTROKES; n += 1) {
    const from = process.hrtime.bigint();
    const answer = heard();
    send();
    await answer;
    times.push(Number(process.hrtime.bigint() - from) / 1e6);
  }
  times.sort((a, b) => a - b);
  return { middle: times[KEYSTROKES / 2], late: times[Math.floor(KEYSTROKES * 0.99)] };
}

const key = Buffer.from('k');

async function direct(number) {
  const socket = connect(number, '127.0.0.1').setNoDelay(true);
  socket.write('e');
  await new Promise((done) => setTimeout(done, 100));
  const result = await keystrokes(() => socket.write(key), () => new Promise((done) => socket.once('data', done)));
  socket.destroy();
  return result;
}

const progress = (words) => process.stderr.write(`${words}…\n`);

async function trial(kind, number) {
  progress(`starting ${kind}`);
  const server = await startServer(kind, scratch, programs);
  const pid = server.program.child.pid;
  const made = await ask(server, [{ action: 'createmesh', meshname: 'Bench', meshtype: 2 }], { enough: (message) => message.action === 'createmesh' });
  const { meshid } = made.find((message) => message.action === 'createmesh');
  const agent = await startAgent(server, 'bench', meshid.split('/').at(-1));
  let id;
  for (const end = Date.now() + 60_000; !id; await new Promise((done) => setTimeout(done, 200))) {
    const heard = await ask(server, [{ action: 'nodes' }], { enough: (message) => message.action === 'nodes' });
    id = Object.values(heard.find((message) => message.action === 'nodes')?.nodes ?? {}).flat().find((node) => node.conn === 1)?._id;
    if (!id && Date.now() > end) throw new Error(`${server.name}: the agent did not come`);
  }
  const with_ = async (act) => {
    const socket = await tunnel(server, id, number);
    try {
      return await act(socket);
    } finally {
      socket.terminate();
      await new Promise((done) => setTimeout(done, 500));
    }
  };
  const before = peak(pid);
  progress('from the device');
  const down = await with_((socket) => measured(pid, () => download(socket)));
  progress('to the device');
  const up = await with_((socket) => measured(pid, () => upload(socket)));
  progress('keystrokes');
  const keys = await with_(async (socket) => {
    socket._socket.setNoDelay(true);
    socket.send(Buffer.from('e'));
    await new Promise((done) => setTimeout(done, 200));
    return keystrokes(() => socket.send(key), () => next(socket));
  });
  const peakOf = peak(pid);
  const result = { down, up, keys, memory: peakOf - before };
  await agent.stop();
  await server.program.stop();
  const rate = ({ cpu, seconds }) => `${(BYTES / seconds / 1e6).toFixed(0).padStart(5)} MB/s by the clock ${(BYTES / cpu / 1e6).toFixed(0).padStart(6)} MB for a second of the server's processor`;
  console.log(server.name);
  console.log(`  from the device ${rate(down)}`);
  console.log(`  to the device   ${rate(up)}`);
  console.log(`  a keystroke there and back ${keys.middle.toFixed(3)} ms, 99 of 100 within ${keys.late.toFixed(3)} ms`);
  console.log(`  memory at its peak ${peakOf.toFixed(1)} MiB, ${result.memory.toFixed(1)} MiB more than before`);
  return result;
}

try {
  for (const one of [programs.server, programs.agent, MESHCENTRAL]) if (!existsSync(one)) throw new Error(`there is no ${one}`);
  const device = await port();
  const bare = await direct(device.port);
  console.log(`Without a relay a keystroke takes ${bare.middle.toFixed(3)} ms, 99 of 100 within ${bare.late.toFixed(3)} ms`);
  const theirs = await trial('meshcentral', device.port);
  const ours = await trial('outpost', device.port);
  device.close();
  const times = (name) => theirs[name].cpu / ours[name].cpu;
  console.log(`Outpost beside MeshCentral: ${times('down').toFixed(1)} times the bytes for a second of processor from the device, ${times('up').toFixed(1)} times to it;`);
  console.log(`  a keystroke takes ${(ours.keys.middle / theirs.keys.middle).toFixed(2)} times as long, and ${(ours.keys.middle - bare.middle).toFixed(3)} ms longer than without server and agent`);
} catch (error) {
  console.error(error);
  process.exitCode = 1;
} finally {
  await stopAll();
  rmSync(scratch, { recursive: true, force: true });
}
