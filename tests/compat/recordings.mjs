/**
 * The same sessions recorded by MeshCentral and by Outpost, file against file: what the first block says, the blocks and
 * their order, the text of the terminal, the end; and MeshCentral's own program reads and indexes what Outpost wrote.
 */
import { fork } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ask, meshctrl } from './client.mjs';
import { ADMIN, PASSWORD, startAgent, startServer } from './servers.mjs';
import { MESHCENTRAL, webSocketLibrary } from './peer.mjs';

const HEAD = 16;
const KINDS = { 1: 'about', 2: 'message', 3: 'end', 4: 'index' };
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

async function until(what, so, seconds = 30) {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const found = await so();
    if (found) return found;
    if (Date.now() > end) throw new Error(`never came within ${seconds} s: ${what}`);
    await pause(100);
  }
}

/** The blocks of a recording, to its last byte. */
function blocksOf(file) {
  const bytes = readFileSync(file);
  const blocks = [];
  for (let at = 0; at < bytes.length; ) {
    const [kind, flags, size] = [bytes.readUInt16BE(at), bytes.readUInt16BE(at + 2), bytes.readUInt32BE(at + 4)];
    const data = bytes.subarray(at + HEAD, at + HEAD + size);
    if (!KINDS[kind] || data.length !== size) throw new Error(`${file}: no block at ${at}`);
    blocks.push({ kind: KINDS[kind], flags, size, time: Number(bytes.readBigUInt64BE(at + 8)), data });
    at += HEAD + size;
  }
  return blocks;
}

/** What has to be alike of two recordings of one session, as one text. */
function looks(blocks) {
  const [about, ...rest] = blocks;
  const messages = rest.filter((block) => block.kind === 'message');
  const fields = JSON.parse(about.data);
  const last = rest.at(-1);
  const times = blocks.filter((block) => block.kind !== 'end').map((block) => block.time);
  const from = (flag) => messages.filter((block) => (block.flags & 2) === flag);
  return [
    `first block: ${about.kind}, flags ${about.flags}`,
    // Fields of Outpost's own stand beside those of MeshCentral.
    ...['devicename', 'ipaddr1', 'ipaddr2', 'magic', 'nodeid', 'protocol', 'sessionid', 'time', 'userid', 'username', 'ver'].map((name) => `${name}: ${typeof fields[name]}`),
    `${fields.magic} ${fields.ver}, protocol ${fields.protocol}, by ${fields.userid} ${fields.username}, from ${fields.ipaddr1} to ${fields.ipaddr2}`,
    `then: ${[...new Set(rest.map((block) => block.kind))].join(', ')}`,
    `times ascend: ${times.every((time, n) => n === 0 || time >= times[n - 1])}; a time of today: ${Math.abs(Date.now() - times[0]) < 600_000}`,
    `flags of the viewer's: ${[...new Set(from(2).map((block) => block.flags))].sort().join(' ')}; of the device's: ${[...new Set(from(0).map((block) => block.flags))].sort().join(' ')}`,
    `the viewer said: ${from(2).map((block) => block.data.toString()).join('|')}`,
    // MeshCentral closes a file beside its writing, so its end can be a moment older than what is before it.
    `end: ${last.kind}, flags ${last.flags}, size ${last.size}, ${last.data}; a time of then: ${Math.abs(last.time - times.at(-1)) < 60_000}`,
  ];
}

/** What the device wrote to the terminal, of the command's own output. */
const written = (blocks) => blocks.filter((block) => block.kind === 'message' && block.flags === 1).map((block) => block.data.toString()).join('').split(/[\r\n]+/).filter((line) => /^recorded /.test(line)).join('|');

/** One session as a viewer would have it: what is sent, in order, and until the device has said what is waited for. */
async function session(server, protocol, messages, so) {
  const WebSocket = webSocketLibrary();
  const headers = { 'x-meshauth': [ADMIN, PASSWORD].map((text) => Buffer.from(text).toString('base64')).join(',') };
  const id = `rec${protocol}${Math.random().toString(36).slice(2)}`;
  const [{ cookie }] = (await ask(server, [{ action: 'authcookie' }], { enough: (message) => message.action === 'authcookie' })).filter((message) => message.action === 'authcookie');
  const node = encodeURIComponent(server.ids.NODE);
  const socket = new WebSocket(`${server.url}/meshrelay.ashx?browser=1&p=${protocol}&nodeid=${node}&id=${id}&auth=${encodeURIComponent(cookie)}`, { rejectUnauthorized: false, headers });
  let said = '';
  let joined = '';
  const done = new Promise((resolve, reject) => {
    socket.on('error', reject);
    socket.on('message', (data, binary) => {
      if (!joined) {
        joined = data.toString();
        for (const message of messages) socket.send(message);
        return;
      }
      said += data.toString(binary ? 'latin1' : 'utf8');
      if (so(said)) resolve();
    });
    socket.on('close', () => (so(said) ? resolve() : reject(new Error(`the session ended after: ${joined} ${said.slice(-200)}`))));
    setTimeout(() => reject(new Error(`not heard: ${joined} ${said.slice(-200)}`)), 20_000).unref();
  });
  await new Promise((resolve) => socket.on('open', resolve));
  const tunnel = { action: 'msg', type: 'tunnel', nodeid: server.ids.NODE, usage: protocol, value: `*/meshrelay.ashx?p=${protocol}&nodeid=${server.ids.NODE}&id=${id}`, responseid: 't' };
  const { rcookie } = (await ask(server, [{ action: 'authcookie' }], { enough: (message) => message.action === 'authcookie' })).find((message) => message.action === 'authcookie');
  await ask(server, [{ ...tunnel, value: `${tunnel.value}&rauth=${rcookie}` }], { enough: (message) => message.responseid === 't' });
  await done;
  socket.terminate();
  return joined;
}

/** Has MeshCentral's own program read a recording and put an index into it; gives its last word. */
function readByPeer(file, scratch) {
  const program = join(scratch, 'read.cjs');
  writeFileSync(program, `require(${JSON.stringify(join(MESHCENTRAL, 'mcrec.js'))}).indexFile(process.argv[2]);`);
  return new Promise((resolve, reject) => {
    const child = fork(program, [file], { silent: true });
    let last = '';
    let wrong = '';
    child.stdout.resume();
    child.stderr.setEncoding('utf8').on('data', (text) => (wrong += text));
    child.on('error', reject);
    child.on('message', (word) => (last = word));
    child.on('exit', () => resolve(last || wrong));
  });
}

/** Runs it; gives the lines that tell what is not alike. */
export async function compareRecordings(scratch, programs) {
  const place = join(scratch, 'recorded');
  mkdirSync(place);
  const servers = await Promise.all(['meshcentral', 'outpost'].map((kind) => startServer(kind, place, programs, { sessionRecording: { filepath: join(place, `${kind}-films`), protocols: [1, 2], index: false } })));
  const films = (server) => {
    try {
      return readdirSync(join(place, `${server.kind}-films`)).filter((name) => name.endsWith('.mcrec'));
    } catch {
      return [];
    }
  };
  const problems = [];
  const seen = await Promise.all(
    servers.map(async (server) => {
      const made = await meshctrl(server, 'adddevicegroup', ['--name', 'Films']);
      const group = made.output.trim().split(' ')[1];
      if (!group) throw new Error(`${server.name}: ${made.output}`);
      await startAgent(server, 'films', group.split('/')[2]);
      server.ids.NODE = await until(`${server.name}: the device`, async () => {
        const answers = await ask(server, [{ action: 'nodes', responseid: 'x' }], { enough: (message) => message.action === 'nodes' });
        return Object.values(answers.find((message) => message.action === 'nodes')?.nodes ?? {}).flat().find((node) => node.conn === 1)?._id;
      });
      const terminal = await session(server, 1, [JSON.stringify({ ctrlChannel: '102938', type: 'options', cols: 80, rows: 24 }), '1', Buffer.from('echo "recorded" $((40+2)); printf "recorded %s\\n" äöü\n')], (said) => /^recorded 42\r?\nrecorded /m.test(said));
      const desktop = await session(server, 2, ['2'], (said) => said.length > 0);
      // MeshCentral ends a file five seconds after its session. Neither makes an index: that is left to MeshCentral’s program.
      const ended = await until(`${server.name}: two recordings that are whole`, () => {
        const whole = films(server).map((name) => join(place, `${server.kind}-films`, name)).filter((file) => readFileSync(file).subarray(-16).equals(Buffer.from('MeshCentralMCREC')));
        return whole.length === 2 && whole;
      });
      const found = Object.fromEntries(ended.map((file) => [JSON.parse(blocksOf(file)[0].data).protocol, file]));
      return { server, joined: [terminal, desktop].join(' '), found };
    }),
  );
  const compare = (what, [theirs, ours]) => {
    if (theirs !== ours) problems.push(`${what}:\n  MeshCentral: ${theirs}\n  Outpost:     ${ours}`);
  };
  compare('the word that begins a recorded session', seen.map((one) => one.joined));
  for (const [protocol, what] of [[1, 'terminal'], [2, 'desktop']]) {
    const both = seen.map(({ found, server }) => {
      if (!found[protocol]) throw new Error(`${server.name}: no recording of the ${what}`);
      return blocksOf(found[protocol]);
    });
    const texts = both.map(looks);
    texts[0].forEach((line, n) => compare(`${what}, ${line.split(':')[0]}`, texts.map((text) => text[n])));
    if (protocol === 1) {
      compare('the text of the terminal', both.map(written));
      if (written(both[0]) !== 'recorded 42|recorded äöü') problems.push(`the terminal wrote ${written(both[0])}`);
    }
    compare(`what MeshCentral’s program says of the ${what}`, await Promise.all(seen.map(({ found }) => readByPeer(found[protocol], place))));
  }
  // It reads desktops to their end, and puts an index where the end was.
  const ends = seen.map(({ found }) => blocksOf(found[2]).at(-1).data.toString());
  compare('the end of an indexed recording', ends);
  if (ends[1] !== 'MeshCentralMCNDX') problems.push(`MeshCentral’s program did not index what Outpost wrote: ${ends[1]}`);
  await Promise.all(servers.map((server) => server.program.stop()));
  return problems;
}
