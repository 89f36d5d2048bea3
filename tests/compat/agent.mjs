/**
 * The real MeshAgent (Linux x86-64, from MeshCentral's package) against Outpost: found by multicast and by address, core,
 * console, commands, terminal, files, ports, messages; then the server restarted, the link cut, a half-open socket, agents coming back
 * together, and an update to another build. `agent.mjs [--verbose]`, on a network of its own like `run.mjs`, and among processes of its own.
 */
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { appendFileSync, chmodSync, copyFileSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { arch, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { programs } from '../programs.mjs';
import { ask, meshctrl } from './client.mjs';
import { install, MESHCENTRAL, webSocketLibrary } from './peer.mjs';
import { ADMIN, fetchFrom, PASSWORD, start, stopAll } from './servers.mjs';

const root = fileURLToPath(new URL('../../', import.meta.url));
const verbose = process.argv.includes('--verbose');
/** Agents that come back together. */
const CROWD = 5;
/** How long the link stays cut, in seconds: longer than either side waits. */
const CUT = Number(process.env.OUTPOST_CUT_SECONDS ?? 40);
const SERVER = '192.0.2.1';
const BINARY = 'meshagent_x86-64';

if (arch() !== 'x64') {
  console.log('The real MeshAgent is tried on x86-64 only');
  process.exit(0);
}
if (!process.env.OUTPOST_COMPAT_INSIDE) {
  install();
  const user = process.getuid() === 0 ? [] : ['--user', '--map-root-user'];
  // Of the machine's processes it sees these only: MeshAgent's list of processes fails over one that has a line end among its
  // arguments, whoever's it is.
  const words = [...user, '--net', '--pid', '--fork', '--kill-child', '--mount-proc', '--', process.execPath, fileURLToPath(import.meta.url), ...process.argv.slice(2)];
  const child = spawn('unshare', words, { stdio: 'inherit', env: { ...process.env, OUTPOST_COMPAT_INSIDE: '1' } });
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal));
  process.exit(await new Promise((resolve) => child.on('close', (code) => resolve(code ?? 1))));
}

const scratch = mkdtempSync(join(tmpdir(), 'outpost-agent-'));
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => void stopAll().then(() => process.exit(1)));

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const sh = (words, options = {}) => {
  const { status, stdout, stderr, error } = spawnSync(words[0], words.slice(1), { encoding: 'utf8', ...options });
  if (error || status !== 0) throw new Error(`${words.join(' ')}: ${error?.message ?? stdout + stderr}`);
  return stdout;
};
const fileHash = (path) => createHash('sha384').update(readFileSync(path)).digest('hex');

/** Waits until `so` gives something true, and gives that. */
async function until(what, so, seconds = 30) {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const found = await so();
    if (found) return found;
    if (Date.now() > end) throw new Error(`never came within ${seconds} s: ${what}`);
    await pause(250);
  }
}

let passed = 0;
let failed = 0;
async function step(name, act) {
  const began = Date.now();
  try {
    const note = await act();
    passed += 1;
    console.log(`✓ ${name}${note ? `: ${note}` : ''} (${((Date.now() - began) / 1000).toFixed(1)} s)`);
  } catch (error) {
    failed += 1;
    console.log(`✗ ${name}: ${error.message}`);
    if (verbose) console.log(server.program.text().split('\n').slice(-30).join('\n'));
  }
}

/** The machine at the other end of a cable. */
let machine;
function connectMachine() {
  sh(['ip', 'link', 'set', 'lo', 'up']);
  machine = start(['unshare', '--net', '--', 'sleep', '100000'], { log: join(scratch, 'machine.log') });
  const there = ['nsenter', '-t', String(machine.child.pid), '--net', '--'];
  machine.inside = (words) => [...there, ...words];
  // The new namespace is there when it is not this one any more.
  const own = sh(['readlink', '/proc/self/ns/net']);
  for (let wait = 0; sh(['readlink', `/proc/${machine.child.pid}/ns/net`]) === own; wait += 1) {
    if (wait > 100) throw new Error('the machine has no network of its own');
    spawnSync('sleep', ['0.05']);
  }
  sh(['ip', 'link', 'add', 'lan', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', String(machine.child.pid)]);
  sh(['ip', 'address', 'add', `${SERVER}/24`, 'brd', '+', 'dev', 'lan']);
  sh(['ip', 'link', 'set', 'lan', 'up']);
  for (const words of ['link set lo up', 'address add 192.0.2.2/24 brd + dev eth0', 'link set eth0 up', 'route add 224.0.0.0/4 dev eth0']) sh(machine.inside(['ip', ...words.split(' ')]));
  sh(['ip', 'route', 'add', '224.0.0.0/4', 'dev', 'lan']);
}

const data = join(scratch, 'data');
const server = { name: 'Outpost', port: 8443, url: 'wss://127.0.0.1:8443', program: null };
const words = [programs.server, '--datapath', data];
async function startServer() {
  server.program = start([...words, '--debug', 'agent'], { log: join(scratch, 'server.log'), cwd: scratch });
  await until('an answer of the server', () => fetchFrom(server, '/health.ashx').then((answer) => answer.status === 200, () => false));
}

const nodes = async () => {
  const answers = await ask(server, [{ action: 'nodes', responseid: 'n' }], { enough: (message) => message.action === 'nodes', wait: 5000 });
  return Object.values(answers.find((message) => message.action === 'nodes')?.nodes ?? {}).flat();
};
const ready = (node) => node?.conn === 1 && node.agent?.core;
/** The device with this address of the machine that is online with its core. */
const online = (id) => until(`${id ?? 'the device'} online with its core`, async () => (await nodes()).find((node) => (id ? node._id === id : true) && ready(node)), 60);

async function startAgent(name, change = (text) => text) {
  const place = join(scratch, name);
  mkdirSync(place, { recursive: true });
  const program = join(place, 'meshagent');
  if (!existsSync(program)) copyFileSync(join(MESHCENTRAL, 'agents', BINARY), program);
  chmodSync(program, 0o755);
  const settings = await fetchFrom(server, `/meshsettings?id=${encodeURIComponent(group)}`);
  writeFileSync(join(place, 'meshagent.msh'), change(settings.body.toString()));
  // A home of its own: shells that the tests end in the middle leave nothing half done in anybody's.
  const agent = start(machine.inside([program]), { log: join(scratch, `${name}.log`), cwd: place, env: { HOME: place } });
  agent.place = program;
  return agent;
}
const byAddress = (text) => text.replace(/^MeshServer=.*$/m, `MeshServer=wss://${SERVER}:${server.port}/agent.ashx`);

async function command(id, line) {
  const answers = await ask(server, [{ action: 'runcommands', nodeids: [id], type: 3, cmds: line, reply: true, responseid: 'run' }], {
    wait: 15_000, enough: (message) => message.responseid === 'run' && message.result !== 'OK',
  });
  return answers.find((message) => message.responseid === 'run' && message.result !== 'OK')?.result ?? '';
}
async function answers(id, number) {
  const said = await command(id, `echo $((${number}*2))`);
  if (said.trim() !== String(number * 2)) throw new Error(`a command answered ${JSON.stringify(said)}`);
}

/** What a terminal shows after these keys, until `enough` matches or 15 s are over. */
async function terminal(id, keys, enough) {
  const cookies = await ask(server, [{ action: 'authcookie' }], { enough: (message) => message.action === 'authcookie' });
  const { cookie, rcookie } = cookies.find((message) => message.action === 'authcookie');
  const tunnel = `agent-test-${Date.now()}`;
  const WebSocket = webSocketLibrary();
  const relay = `meshrelay.ashx?p=1&nodeid=${id}&id=${tunnel}`;
  const socket = new WebSocket(`${server.url}/${relay.replace('?', '?browser=1&')}&auth=${encodeURIComponent(cookie)}`, { rejectUnauthorized: false });
  let shown = '';
  try {
    await new Promise((resolve, reject) => {
      const timer = setTimeout(resolve, 15_000);
      const end = (act, value) => (clearTimeout(timer), act(value));
      socket.on('error', (error) => end(reject, error));
      socket.on('close', () => end(resolve));
      socket.on('open', () => void ask(server, [{ action: 'msg', type: 'tunnel', nodeid: id, usage: 1, value: `*/${relay}&rauth=${rcookie}` }], { wait: 500 }).catch(reject));
      let begun = false;
      socket.on('message', (part) => {
        const text = part.toString();
        if (!begun && (text === 'c' || text === 'cr')) {
          begun = true;
          socket.send(JSON.stringify({ ctrlChannel: '102938', type: 'options', cols: 80, rows: 25 }));
          socket.send('1');
          setTimeout(() => socket.readyState === 1 && socket.send(Buffer.from(keys)), 1500);
          return;
        }
        shown += text;
        if (enough.test(shown)) end(resolve);
      });
    });
  } finally {
    socket.terminate();
  }
  return shown;
}

async function ownCookie() {
  const heard = await ask(server, [{ action: 'authcookie' }], { enough: (message) => message.action === 'authcookie' });
  return heard.find((message) => message.action === 'authcookie').cookie;
}
async function deviceCookie(fields) {
  const heard = await ask(server, [{ action: 'getcookie', nodeid: device, ...fields }], { enough: (message) => message.action === 'getcookie' });
  return heard.find((message) => message.action === 'getcookie').cookie;
}

/** What comes back of `text` through a port relay. */
function relayed(query, text) {
  const WebSocket = webSocketLibrary();
  const socket = new WebSocket(`${server.url}/meshrelay.ashx?${query}`, { rejectUnauthorized: false });
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => (socket.terminate(), resolve('')), 15_000);
    const end = (act, value) => (clearTimeout(timer), socket.terminate(), act(value));
    socket.on('error', (error) => end(reject, error));
    socket.on('close', () => end(resolve, ''));
    socket.on('message', (part, binary) => {
      if (binary) end(resolve, part.toString());
      else if (part.toString() === 'c') socket.send(Buffer.from(text));
    });
  });
}

let group;
let agent;
let device;
try {
  connectMachine();
  mkdirSync(data, { mode: 0o700 });
  // Waits that fit a test; an agent waits as long as its settings say.
  writeFileSync(join(data, 'config.json'), JSON.stringify({ settings: { port: server.port, redirPort: 0, exactPorts: true, agentIdleTimeout: 20, agentConfig: ['controlChannelIdleTimeout=5'] } }));
  sh([...words, 'create-account', ADMIN, '--pass', PASSWORD]);
  sh([...words, 'make-admin', ADMIN]);
  await startServer();
  const made = await ask(server, [{ action: 'createmesh', meshname: 'Official', meshtype: 2, responseid: 'm' }], { enough: (message) => message.responseid === 'm' });
  group = made.find((message) => message.responseid === 'm').meshid.split('/').at(-1);

  await step('found by multicast, enrolled without a core', async () => {
    agent = await startAgent('multicast');
    const node = await until('the device online', async () => (await nodes()).find((one) => one.conn === 1));
    device = node._id;
    if (node.agent.core) throw new Error('it has a core from somewhere');
    return `${node.name} at ${node.ip}`;
  });
  await step('agents are imported while the server runs, and the one that waits gets its core', async () => {
    const list = sh([...words, 'agents', 'import', MESHCENTRAL]);
    const node = await online(device);
    if (!node.osdesc || !(node.agent.caps & 2)) throw new Error(JSON.stringify(node.agent));
    return `${list.split('\n')[0].split(',')[0]}; core ${node.agent.core}; ${node.osdesc}`;
  });
  await step('console', async () => {
    const heard = await ask(server, [{ action: 'msg', type: 'console', nodeid: device, value: 'info' }], { wait: 8000, enough: (message) => message.type === 'console' });
    if (!heard.some((message) => message.type === 'console' && /Current Core/.test(message.value))) throw new Error('no answer');
  });
  await step('run a command with its output', () => answers(device, 21));
  await step('terminal', async () => {
    const output = await terminal(device, 'echo ter"min"al-$((6*7))\n', /terminal-42/);
    if (!/terminal-42/.test(output)) throw new Error(`it showed ${JSON.stringify(output.slice(-300))}`);
  });
  await step('files, there and back', async () => {
    const [there, back] = [join(scratch, 'there'), join(scratch, 'back')];
    for (const one of [there, back]) mkdirSync(one);
    const file = join(scratch, 'file.bin');
    writeFileSync(file, Buffer.from(Array.from({ length: 300_000 }, (_, at) => (at * 7919) % 251)));
    const id = device.split('/').at(-1);
    await meshctrl(server, 'upload', ['--id', id, '--file', file, '--target', there], { patience: 20_000 });
    await meshctrl(server, 'download', ['--id', id, '--file', join(there, 'file.bin'), '--target', join(back, 'file.bin')], { patience: 20_000 });
    if (fileHash(join(back, 'file.bin')) !== fileHash(file)) throw new Error('it came back changed');
  });
  await step('a download over HTTPS', async () => {
    const file = join(scratch, 'pushed "file".bin');
    writeFileSync(file, Buffer.from(Array.from({ length: 500_000 }, (_, at) => (at * 31) % 251)));
    const cookie = await ownCookie();
    const path = (name) => `/devicefile.ashx?c=${encodeURIComponent(cookie)}&n=${encodeURIComponent(device.split('/').at(-1))}&f=${encodeURIComponent(name)}`;
    const got = await fetchFrom(server, path(file));
    if (got.status !== 200 || !readFileSync(file).equals(got.body)) throw new Error(`status ${got.status}, or another content`);
    const missing = await fetchFrom(server, path('/no/such/file'));
    if (missing.status !== 401) throw new Error(`a missing file answers ${missing.status}`);
  });
  await step('a file for many devices is fetched by the agent', async () => {
    const [boundary, folder] = ['----form-7d1', join(scratch, 'batch')];
    const field = (name, value) => `--${boundary}\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`;
    const file = `--${boundary}\r\nContent-Disposition: form-data; name="files"; filename="for all.txt"\r\n\r\nfor all of you\r\n--${boundary}--\r\n`;
    const body = field('auth', await ownCookie()) + field('nodeIds', device) + field('linuxpath', folder) + field('overwriteFiles', 'on') + field('createFolder', 'on') + file;
    const sent = await fetchFrom(server, '/uploadfilebatch.ashx', { method: 'POST', headers: { 'content-type': `multipart/form-data; boundary=${boundary}` }, body });
    if (sent.status !== 200) throw new Error(`status ${sent.status}`);
    const there = join(folder, 'for all.txt');
    await until('the file on the device', () => existsSync(there) && readFileSync(there, 'utf8') === 'for all of you', 20);
  });
  await step('ports of the device: TCP and UDP', async () => {
    const echo = "const s=require('net').createServer((c)=>c.pipe(c)).listen(7007,'127.0.0.1');const u=require('dgram').createSocket('udp4');u.on('message',(m,r)=>u.send(m,r.port,r.address)).bind(7008,'127.0.0.1',()=>console.log('ready'))";
    const program = start(machine.inside([process.execPath, '-e', echo]), { log: join(scratch, 'echo.log') });
    await until('the echo', () => /ready/.test(program.text()));
    for (const [kind, port] of [['tcp', 7007], ['udp', 7008]]) {
      const words = kind === 'tcp' ? `auth=${encodeURIComponent(await deviceCookie({ tcpport: port }))}` : `nodeid=${device}&udpport=${port}&udpaddr=127.0.0.1&auth=${encodeURIComponent(await ownCookie())}`;
      const heard = await relayed(words, `through ${kind}`);
      if (heard !== `through ${kind}`) throw new Error(`${kind}: ${JSON.stringify(heard)}`);
    }
    program.child.kill();
  });
  await step('processes, services, a message and a toast', async () => {
    for (const type of ['ps', 'services']) {
      // MeshAgent asks a program for each process; on a busy machine it takes its time.
      const heard = await ask(server, [{ action: 'msg', type, nodeid: device }], { wait: 60_000, enough: (message) => message.type === type });
      const answer = heard.find((message) => message.type === type);
      if (!answer) throw new Error(`no answer to ${type}`);
      // A machine without an init system has processes and no services.
      const list = Object.values(JSON.parse(answer.value ?? '[]'));
      if (type === 'ps' && !list.some(({ cmd }) => cmd?.includes('meshagent'))) throw new Error(`processes: ${answer.value}`);
    }
    await ask(server, [{ action: 'toast', nodeids: [device], title: 'Test', msg: 'A toast', responseid: 't' }, { action: 'msg', type: 'messagebox', nodeid: device, title: 'Test', msg: 'A message', timeout: 1000, responseid: 'b' }], { wait: 3000 });
    const logged = async () => {
      const heard = await ask(server, [{ action: 'events', nodeid: device, limit: 100 }], { wait: 5000, enough: (message) => message.action === 'events' });
      const numbers = heard.find((message) => message.action === 'events')?.events.map((event) => event.msgid) ?? [];
      return numbers.includes(18) && numbers.includes(26);
    };
    await until('both in the log of the device', logged, 20);
  });
  await step('found by its address', async () => {
    const other = await startAgent('address', byAddress);
    const node = await until('a second device', async () => (await nodes()).find((one) => one._id !== device && ready(one)));
    await answers(node._id, 4);
    await other.stop();
  });
  await step('the server is restarted: back by the fast way, with the core it has', async () => {
    await server.program.stop();
    await startServer();
    await online(device);
    await answers(device, 5);
    const log = readFileSync(join(scratch, 'server.log'), 'utf8');
    if (!log.includes(`${device} is let in: full handshake`)) throw new Error('there was no full handshake before');
    if (!log.includes(`${device} is let in: it knew the certificate`)) throw new Error('the certificate was not known');
  });
  await step(`the link is cut for ${CUT} s`, async () => {
    sh(['ip', 'link', 'set', 'lan', 'down']);
    await until('the device offline', async () => (await nodes()).every((node) => node._id !== device || node.conn !== 1), CUT);
    await pause(CUT * 500);
    sh(['ip', 'link', 'set', 'lan', 'up']);
    sh(['ip', 'route', 'replace', '224.0.0.0/4', 'dev', 'lan']);
    await until('the device back', async () => (await nodes()).some((node) => node._id === device && ready(node)), 120);
    await answers(device, 6);
  });
  await step('a half-open socket: the agent stops without a word, comes back, and gets the commands that waited, once', async () => {
    const { pid } = agent.child;
    process.kill(pid, 'SIGSTOP');
    await until('the device offline', async () => (await nodes()).every((node) => node._id !== device || node.conn !== 1), 40);
    const ran = join(scratch, 'ran');
    const waiting = [];
    for (const n of [1, 2]) {
      const heard = await ask(server, [{ action: 'queuecommands', nodeids: [device], cmds: `echo ${n} >> ${ran}; echo said-$((${n}+40))`, responseid: 'q' }], { enough: (message) => message.responseid === 'q' });
      waiting.push(heard.find((message) => message.responseid === 'q').jobid);
    }
    process.kill(pid, 'SIGCONT');
    await online(device);
    await answers(device, 7);
    for (const [at, jobid] of waiting.entries()) {
      const outcome = () => ask(server, [{ action: 'job', jobid, responseid: 'j' }], { enough: (message) => message.responseid === 'j' }).then((heard) => heard.find((message) => message.responseid === 'j').runs[0]);
      const done = await until(`the commands that waited: ${jobid}`, async () => outcome().then((one) => one.state === 'done' && one), 60);
      if (done.output.trim() !== `said-${at + 41}`) throw new Error(`they said ${JSON.stringify(done)}`);
    }
    if (readFileSync(ran, 'utf8') !== '1\n2\n') throw new Error(`they ran as ${JSON.stringify(readFileSync(ran, 'utf8'))}`);
  });
  await step(`${CROWD} agents come back together after a restart, none twice`, async () => {
    for (let n = 0; n < CROWD; n += 1) await startAgent(`crowd-${n}`, byAddress);
    const all = async () => (await nodes()).filter(ready).length;
    await until('all online', async () => (await all()) === CROWD + 1, 60);
    const before = (await nodes()).map((node) => node._id).sort();
    await server.program.stop();
    await startServer();
    const began = Date.now();
    await until('all back', async () => (await all()) === CROWD + 1, 60);
    const after = (await nodes()).map((node) => node._id).sort();
    if (String(after) !== String(before)) throw new Error(`${before.length} devices became ${after.length}`);
    return `after ${((Date.now() - began) / 1000).toFixed(1)} s`;
  });
  await step('another build is imported, and the agent becomes it', async () => {
    const changed = join(scratch, 'package');
    mkdirSync(changed);
    for (const one of ['package.json', 'LICENSE', 'agents']) cpSync(join(MESHCENTRAL, one), join(changed, one), { recursive: true });
    const binary = join(changed, 'agents', BINARY);
    appendFileSync(binary, 'another build');
    const listPath = join(changed, 'agents/hashagents.json');
    const list = JSON.parse(readFileSync(listPath, 'utf8'));
    Object.assign(list['6'], { hash: fileHash(binary).toUpperCase(), size: readFileSync(binary).length });
    writeFileSync(listPath, JSON.stringify(list));
    const { agct: connected } = await online(device);
    sh([...words, 'agents', 'import', changed]);
    await until('the agent replaced', () => existsSync(agent.place) && fileHash(agent.place) === fileHash(binary), 90);
    // The one before may still be connected for a moment.
    await until('the other build online', async () => (await nodes()).some((node) => node._id === device && ready(node) && node.agct !== connected), 60);
    await answers(device, 8);
  });
  await step('a damaged package changes nothing', async () => {
    const before = sh([...words, 'agents', 'list']);
    const changed = join(scratch, 'package');
    appendFileSync(join(changed, 'agents', BINARY), '!');
    const { status, stderr } = spawnSync(programs.server, [...words.slice(1), 'agents', 'import', changed], { encoding: 'utf8' });
    if (status === 0 || !stderr.includes(`agents/${BINARY} is not what agents/hashagents.json says`)) throw new Error(stderr);
    if (sh([...words, 'agents', 'list']) !== before) throw new Error('something changed');
  });
} finally {
  await stopAll();
  if (!process.env.OUTPOST_COMPAT_KEEP) rmSync(scratch, { recursive: true, force: true });
}
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
