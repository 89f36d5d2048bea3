/** The clients that are compared: `meshctrl.js`, plain requests on the control socket, HTTP, and libmeshctrl. */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MESHCENTRAL, webSocketLibrary } from './peer.mjs';
import { ADMIN, PASSWORD } from './servers.mjs';

const work = mkdtempSync(join(tmpdir(), 'outpost-compat-work-'));
process.on('exit', () => rmSync(work, { recursive: true, force: true }));

/**
 * Runs a program and gives `{ exit, output }`; `exit` is "waits" when it did not end within `patience` ms. `heard` is
 * called with all that was printed so far.
 */
export function run(words, { patience = 12_000, input, cwd = work, env, until, heard } = {}) {
  return new Promise((resolve) => {
    const child = spawn(words[0], words.slice(1), { stdio: ['pipe', 'pipe', 'pipe'], cwd, env: { ...process.env, TZ: 'UTC', ...env } });
    let output = '';
    let waits = false;
    const take = (data) => {
      output += data;
      heard?.(output);
      if (until?.test(output)) child.kill('SIGKILL');
    };
    child.stdout.setEncoding('utf8').on('data', take);
    child.stderr.setEncoding('utf8').on('data', take);
    child.stdin.on('error', () => undefined);
    if (input) for (const [after, text] of input) setTimeout(() => child.stdin.write(text), after);
    const timer = setTimeout(() => ((waits = true), child.kill('SIGKILL')), patience);
    child.on('close', (code) => (clearTimeout(timer), resolve({ exit: waits ? 'waits' : until?.test(output) ? 0 : code, output })));
  });
}

/** How a session logs in: `--loginuser` and `--loginpass`, or what the case says instead. */
const login = (as, password = PASSWORD) => ['--loginuser', as, '--loginpass', password];

export const meshctrl = (server, command, words, { as = ADMIN, credentials, ...how } = {}) =>
  run([process.execPath, join(MESHCENTRAL, 'meshctrl.js'), command, ...words, '--url', server.url, ...(credentials ?? login(as))], how);

/** A control socket: sends `messages`, gives what is answered within `wait` ms, or until `enough` says so. */
export function ask(server, messages, { as = ADMIN, wait = 1500, enough } = {}) {
  const WebSocket = webSocketLibrary();
  const [name, password] = [as, PASSWORD].map((text) => Buffer.from(text).toString('base64'));
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(`${server.url}/control.ashx`, { rejectUnauthorized: false, headers: { 'x-meshauth': `${name},${password}` } });
    const answers = [];
    const end = () => (clearTimeout(timer), socket.terminate(), resolve(answers));
    const timer = setTimeout(end, wait);
    socket.on('error', (error) => (clearTimeout(timer), reject(error)));
    socket.on('message', (data) => {
      const message = JSON.parse(data);
      if (message.action === 'userinfo') for (const one of messages) socket.send(JSON.stringify(one));
      answers.push(message);
      if (message.action === 'close' || enough?.(message, answers)) end();
    });
  });
}
