/** MeshCentral and Outpost on loopback, each with data of its own, and the agents that connect to them. */
import { spawn, spawnSync } from 'node:child_process';
import { chmodSync, createWriteStream, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { MESHCENTRAL } from './peer.mjs';

export const ADMIN = 'admin';
export const PASSWORD = 'correct horse battery';
/** What `--loginkey` takes; both servers are given it. */
export const LOGIN_KEY = 'c0ffee5eed'.repeat(16);
const running = new Set();

/** A port that is free now. */
const freePort = () =>
  new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });

/** Starts a program with a log file. It gets a process group of its own: MeshCentral's server is a child of what is started. */
export function start(words, { log, cwd, env = {} }) {
  const child = spawn(words[0], words.slice(1), { cwd, detached: true, stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env } });
  const file = createWriteStream(log, { flags: 'a' });
  let written = '';
  const program = { child, log, text: () => written, ended: false };
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (data) => {
      file.write(data);
      written = (written + data).slice(-64_000);
    });
  }
  program.exit = new Promise((resolve) => child.on('close', (code) => ((program.ended = true), running.delete(program), file.end(), resolve(code))));
  program.stop = async () => {
    if (program.ended) return;
    const signal = (name) => {
      try {
        process.kill(-child.pid, name);
      } catch {
        // Its group is gone already.
      }
    };
    signal('SIGTERM');
    const late = setTimeout(() => signal('SIGKILL'), 4000);
    await program.exit;
    clearTimeout(late);
  };
  running.add(program);
  return program;
}

export const stopAll = () => Promise.all([...running].map((program) => program.stop()));

/** One HTTPS request; never fails for its status. */
export function fetchFrom(server, path, { method = 'GET', headers = {}, body } = {}) {
  return new Promise((resolve, reject) => {
    const asked = request({ host: '127.0.0.1', port: server.port, path, method, headers, rejectUnauthorized: false, timeout: 15_000 }, (answer) => {
      const parts = [];
      answer.on('data', (part) => parts.push(part));
      answer.on('end', () => resolve({ status: answer.statusCode, headers: answer.headers, body: Buffer.concat(parts) }));
      answer.on('error', reject);
    });
    asked.on('timeout', () => asked.destroy(new Error(`${path}: no answer within 15 s`)));
    asked.on('error', reject);
    asked.end(body);
  });
}

async function answering(server, program) {
  const until = Date.now() + 60_000;
  for (;;) {
    if (program.ended) throw new Error(`${server.name} ended at its start; see ${program.log}`);
    try {
      if ((await fetchFrom(server, '/health.ashx')).status === 200) return;
    } catch {
      // Not listening yet.
    }
    if (Date.now() > until) throw new Error(`${server.name} does not answer after a minute; see ${program.log}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** What both servers are told, and this of their domain; nothing goes beyond loopback. */
const settings = (port, domain) => ({
  settings: {
    port, redirPort: 0, portBind: '127.0.0.1', exactPorts: true, WANonly: true, cert: '127.0.0.1', mpsPort: 0, selfUpdate: false,
    autoBackup: false, agentTimeStampServer: false, interUserMessaging: true, allowLoginToken: true, loginCookieEncryptionKey: LOGIN_KEY, maxInvalidLogin: false,
  },
  domains: { '': { newAccounts: false, agentInviteCodes: true, ...domain } },
});

function accounts(words, folder) {
  for (const more of [['--createaccount', ADMIN, '--pass', PASSWORD, '--email', 'admin@example.com'], ['--adminaccount', ADMIN]]) {
    const { stdout, stderr } = spawnSync(words[0], [...words.slice(1), ...more], { cwd: folder, encoding: 'utf8' });
    if (!/Done/.test(stdout)) throw new Error(`${more[0]} failed: ${stdout}${stderr}`);
  }
}

/** Starts a server. `kind` is `meshcentral` or `outpost`; `programs` says where Outpost's are, `domain` what else its domain is told. */
export async function startServer(kind, folder, programs, domain = {}) {
  const [data, files] = [join(folder, kind, 'data'), join(folder, kind, 'files')];
  for (const one of [data, files]) mkdirSync(one, { recursive: true });
  chmodSync(data, 0o700);
  const server = { kind, name: kind === 'outpost' ? 'Outpost' : 'MeshCentral', folder: join(folder, kind), data, files, programs, port: await freePort(), ids: {} };
  server.url = `wss://127.0.0.1:${server.port}`;
  const config = settings(server.port, domain);
  // Outpost refuses settings it does not know, and leaves out what MeshCentral does over the network at its start.
  if (kind === 'outpost') for (const foreign of ['mpsPort', 'selfUpdate', 'autoBackup', 'agentTimeStampServer']) delete config.settings[foreign];
  writeFileSync(join(data, 'config.json'), JSON.stringify(config, null, 2));
  const words = kind === 'outpost' ? [programs.server] : [process.execPath, MESHCENTRAL];
  words.push('--datapath', data, '--filespath', files);
  accounts(words, server.folder);
  server.words = words;
  server.program = start(words, { log: join(folder, `${kind}.log`), cwd: server.folder });
  await answering(server, server.program);
  return server;
}

/** Stops a server and starts it again on its data. */
export async function restartServer(server) {
  await server.program.stop();
  server.program = start(server.words, { log: server.program.log, cwd: server.folder });
  await answering(server, server.program);
}

/** Enrols our own agent in a group (64 characters of its id). */
export async function startAgent(server, name, group) {
  const folder = join(server.folder, `agent-${name}`);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const answer = await fetchFrom(server, `/meshsettings?id=${encodeURIComponent(group)}`);
  if (answer.status !== 200) throw new Error(`${server.name}: meshsettings answered ${answer.status}`);
  const settingsFile = join(folder, 'settings.msh');
  writeFileSync(settingsFile, answer.body);
  if (!existsSync(server.programs.agent)) throw new Error(`${server.programs.agent} is not there`);
  return start([server.programs.agent, 'run', '--msh', settingsFile, '--state', join(folder, 'state')], { log: join(server.folder, `agent-${name}.log`), cwd: folder });
}
