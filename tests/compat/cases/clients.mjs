/** More of what the command line does: files of devices, agents, events as they happen, keys and codes to log in with. */
import { createHash, createHmac } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ask, meshctrl } from '../client.mjs';
import { LOGIN_KEY, PASSWORD } from '../servers.mjs';

const key = (id) => id.split('/').at(-1);
const folder = (server) => {
  const path = join(server.folder, 'transfers');
  mkdirSync(path, { recursive: true });
  return path;
};
const CONTENT = Buffer.from(Array.from({ length: 300_000 }, (_, n) => (n * 7 + (n >> 8)) & 0xff));
const hash = (data) => createHash('sha256').update(data).digest('hex').slice(0, 16);
/** A transfer again when MeshCentral's client has spoiled its cookie (see `commanded` in case.mjs). */
async function transfer(server, command, words, how) {
  for (let tries = server.kind === 'meshcentral' ? 3 : 1; ; tries -= 1) {
    const done = await meshctrl(server, command, words, { patience: 10_000, ...how });
    if (tries <= 1 || /Connected/.test(done.output)) return done;
  }
}
const said = (text) => text.split('\n').filter((line) => line && !/^(Connecting|Waiting)/.test(line)).map((line) => line.replace(/\/\S*\//g, '')).join('\n');

const upload = async (server) => {
  const [local, remote] = [join(folder(server), 'local.bin'), join(folder(server), 'remote')];
  mkdirSync(remote, { recursive: true });
  writeFileSync(local, CONTENT);
  const { output } = await transfer(server, 'upload', ['--id', key(server.ids.NODE), '--file', local, '--target', remote]);
  // The client leaves when the last block is on its way.
  const written = join(remote, 'local.bin');
  for (let n = 0; n < 40 && !(existsSync(written) && readFileSync(written).length === CONTENT.length); n += 1) await new Promise((resolve) => setTimeout(resolve, 50));
  return { raw: `${said(output)}\n${existsSync(written) && hash(readFileSync(written)) === hash(CONTENT) ? 'the same file' : 'another file'}` };
};
const download = async (server) => {
  const from = join(folder(server), 'remote', 'local.bin');
  const to = join(folder(server), 'back.bin');
  const { output } = await transfer(server, 'download', ['--id', key(server.ids.NODE), '--file', from, '--target', to]);
  return { raw: `${said(output)}\n${existsSync(to) && hash(readFileSync(to)) === hash(CONTENT) ? 'the same file' : 'another file'}` };
};
const missing = async (server) => {
  const { output } = await transfer(server, 'download', ['--id', key(server.ids.NODE), '--file', join(folder(server), 'none'), '--target', join(folder(server), 'none-here')], { patience: 4000 });
  return { raw: said(output) };
};

/** What `showevents` prints of one thing that happens; `mark` tells it from what other chapters do meanwhile. */
const watched = (filter, mark, happen) => async (server) => {
  let connected;
  const listening = new Promise((resolve) => (connected = resolve));
  const seen = meshctrl(server, 'showevents', ['--filter', filter], { until: new RegExp(`${mark}[\\s\\S]*\\n}`), patience: 20_000, heard: (output) => /Connected/.test(output) && connected() });
  await Promise.race([listening, seen]);
  // It says so when the socket opens; who it is comes after that.
  await new Promise((resolve) => setTimeout(resolve, 1200));
  await happen(server);
  const { output } = await seen;
  const one = (output.match(/^\{\n[\s\S]*?^\}/gm) ?? []).find((text) => new RegExp(mark).test(text));
  if (!one) return { raw: `(no such event) ${output.slice(0, 200)}` };
  const { event } = JSON.parse(one);
  return { raw: `${event.action} ${event.etype} ${event.msgid} ${Object.keys(event).filter((name) => !['creatorid', 'noact'].includes(name)).sort().join(' ')}` };
};

/** Milliseconds of a code's 30 s that have to be left when it is handed to a client on a busy machine. */
const LEFT = 15_000;

/**
 * A code of an authenticator app (RFC 6238: SHA-1, 30 s, six digits) that is good for a while yet, and does not begin with
 * zeros: meshctrl takes `--token` for a number and drops them, whereupon MeshCentral refuses it (Outpost does not).
 */
async function code(secret) {
  for (;;) {
    const left = 30_000 - (Date.now() % 30_000);
    const now = left < LEFT ? undefined : codeNow(secret);
    if (now && !now.startsWith('0')) return now;
    await new Promise((resolve) => setTimeout(resolve, left));
  }
}

function codeNow(secret) {
  const bits = [...secret.replace(/=+$/, '')].map((c) => 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'.indexOf(c).toString(2).padStart(5, '0')).join('');
  const bytes = Buffer.from(bits.match(/.{8}/g).map((byte) => parseInt(byte, 2)));
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 30_000)));
  const mac = createHmac('sha1', bytes).update(counter).digest();
  return String((mac.readUInt32BE(mac[19] & 15) & 0x7fffffff) % 1_000_000).padStart(6, '0');
}
const secrets = new Map();
const enrol = async (server) => {
  const first = await ask(server, [{ action: 'otpauth-request' }], { as: 'c-two', enough: ({ action }) => action === 'otpauth-request' });
  const { secret } = first.find(({ action }) => action === 'otpauth-request');
  secrets.set(server, secret);
  const then = await ask(server, [{ action: 'otpauth-setup', secret, token: await code(secret) }], { as: 'c-two', enough: ({ action }) => action === 'otpauth-setup' });
  return { raw: JSON.stringify(then.find(({ action }) => action === 'otpauth-setup')) };
};
const secondFactor = async (server) => {
  const { exit, output } = await meshctrl(server, 'userinfo', [], { credentials: two('--token', await code(secrets.get(server))) });
  return { exit, raw: first(output) };
};
const two = (...more) => ['--loginuser', 'c-two', '--loginpass', PASSWORD, ...more];
const withKey = (...more) => ['--loginkey', LOGIN_KEY, ...more];
/** The line that tells how it went; all of it when there is none. */
const first = (text) => text.split('\n').filter((line) => /^_id|Invalid|required/.test(line)).join('\n') || text;

export const clients = {
  name: 'Files of devices, keys and codes, events',
  cases: [
    { command: 'upload', what: 'a file to a device', run: upload },
    { command: 'download', what: 'it back', run: download },
    { command: 'download', what: 'what is not there', run: missing },
    { command: 'upload', what: 'a local file that is not there', args: ({ NODE }) => ['--id', key(NODE), '--file', '/no/such/file', '--target', '/tmp'] },
    { command: 'showevents', what: 'a new user', run: watched('accountcreate', 'user//c-new', (server) => meshctrl(server, 'adduser', ['--user', 'c-new', '--pass', PASSWORD])) },
    { command: 'showevents', what: 'a new group', run: watched('createmesh', 'c-group', (server) => meshctrl(server, 'adddevicegroup', ['--name', 'c-group'])) },
    { command: 'showevents', what: 'a device that was changed', run: watched('changenode', '"msgid": 140', (server) => meshctrl(server, 'editdevice', ['--id', server.ids.NODE, '--icon', '4'])) },
    { command: 'showevents', what: 'a new user group', run: watched('createusergroup', 'c-ugroup', (server) => meshctrl(server, 'addusergroup', ['--name', 'c-ugroup'])) },
    { command: 'userinfo', what: 'with the login key', credentials: withKey('--loginuser', 'manager'), clean: first },
    { command: 'userinfo', what: 'with the login key, an unknown user', credentials: withKey('--loginuser', 'nobody'), clean: first },
    { command: 'listdevices', what: 'with the login key', args: ({ LAB }) => ['--id', LAB, '--count'], credentials: withKey('--loginuser', 'admin') },
    { command: 'runcommand', what: 'with the login key', args: ({ NODE }) => ['--id', NODE, '--run', 'echo by key', '--reply'], credentials: withKey('--loginuser', 'admin') },
    { command: 'shell', what: 'with the login key', args: ({ NODE }) => ['--id', key(NODE)], credentials: withKey('--loginuser', 'admin'), input: [[2500, 'echo "by"-key-shell\n']], until: /by-key-shell/, patience: 10_000, clean: (text) => text.split('\n').filter((line) => /^(Connected|Unable|Error)|^by-key/.test(line)).join('\n') },
    { command: 'adduser', what: 'somebody with two factors', args: ['--user', 'c-two', '--pass', PASSWORD] },
    { command: 'control.ashx', what: 'otpauth-setup', run: enrol },
    { command: 'userinfo', what: 'a second factor that is not given', credentials: two(), clean: first },
    // Zeros are not sent at all.
    { command: 'userinfo', what: 'a wrong second factor', credentials: two('--token', '7'), clean: first },
    { command: 'userinfo', what: 'the second factor', run: secondFactor },
    { command: 'agentdownload', what: 'an unknown kind', args: ({ LAB }) => ['--id', key(LAB), '--type', '9999'] },
    { command: 'agentdownload', what: 'no group', args: ['--id', 'short', '--type', '6'] },
    { command: 'addlocaldevice', what: 'to a group of devices with agents', args: ({ LAB }) => ['--id', LAB, '--devicename', 'c-x', '--hostname', '127.0.0.1'] },
    { command: 'addlocaldevice', what: 'to an unknown group', args: ['--id', 'A'.repeat(64), '--devicename', 'c-x', '--hostname', '127.0.0.1'] },
    { command: 'addamtdevice', what: 'on the internet', args: ({ LAB }) => ['--id', LAB, '--devicename', 'c-x', '--hostname', '127.0.0.1', '--user', 'a', '--pass', 'b'], patience: 2500 },
    { command: 'report', what: 'sessions of today', args: ['--type', 'sessions', '--groupby', 'day', '--showtraffic'], clean: (text) => text.split('\n')[0] },
    { command: 'report', what: 'sessions by device', args: ['--type', 'sessions', '--groupby', 'device'], clean: (text) => text.split('\n')[0] },
    { command: 'report', what: 'the database, without full rights', args: ['--type', 'db'], as: 'manager', patience: 2500 },
    { command: 'config', what: 'is about a local file', args: ['--show'], clean: (text) => text.split('\n')[0] },
    { command: 'help', what: 'of a command', args: ['adduser'], clean: (text) => text.split('\n')[0] },
    { command: 'indexagenterrorlog', what: 'is about a local file', clean: (text) => text.split('\n')[0].replace(/'.*'/, '') },
  ],
};
