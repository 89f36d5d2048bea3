/**
 * The Debian package of this machine's kind under a real systemd: installed, used, upgraded, removed, purged.
 *
 *   make cross && node run.mjs        (as root)
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run, stopAll } from '../e2e/processes.mjs';
import { begin, broken, check, expect, failures, summarise } from '../e2e/report.mjs';
import { SystemdMachine } from '../e2e/systemd-machine.mjs';

const repository = resolve(fileURLToPath(new URL('.', import.meta.url)), '../..');
const output = join(repository, 'target/deb-test');
/** Seconds that a start may take: the first one makes keys. */
const START = 60;
const ADMIN = { username: 'admin', password: 'slate harbour violin 42 dusk' };

const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
async function until(what, so, seconds = START) {
  const from = Date.now();
  while (!so()) {
    if (Date.now() - from > seconds * 1000) throw new Error(`never came: ${what}`);
    await pause(200);
  }
  return `${((Date.now() - from) / 1000).toFixed(1)} s`;
}

const started = Date.now();
const scratch = mkdtempSync(join(tmpdir(), 'outpost-deb-test-'));
rmSync(output, { recursive: true, force: true });
mkdirSync(output, { recursive: true });
const log = join(output, 'systemd.log');
let machine;
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => void stopAll().then(() => process.exit(130)));

/** A package of some version; /tmp of the machine is its own, so it comes to /opt. */
function build(version) {
  const env = { VERSION: version, OUT: scratch, LEVEL: '0' };
  const { code, out, err } = run(null, [join(repository, 'scripts/deb.sh')], { env, milliseconds: 300_000, cwd: repository });
  expect(code === 0, out + err);
  return /\S+\.deb/.exec(out)[0];
}

/** Runs a line there that has to succeed. */
function line(words, milliseconds = 120_000) {
  const { code, out, err } = machine.run(words, milliseconds);
  expect(code === 0, `${words}: ${code}\n${out}${err}`);
  return out.trim();
}
const install = (file) => line(`dpkg -i /opt/${file.split('/').at(-1)}`);
const active = () => machine.show('outpost', 'ActiveState') === 'active';
const page = (path, how = '') => machine.run(`curl -sk --max-time 20 ${how} https://127.0.0.1${path}`).out;
const post = (path, body) => JSON.parse(page(path, `-w '{"status":%{http_code}}' -o /dev/null -H 'content-type: application/json' -H 'origin: https://127.0.0.1' -d '${JSON.stringify(body)}'`)).status;
const certificate = () => line('sha256sum /var/lib/outpost/webserver-cert-public.crt').split(' ')[0];

try {
  expect(process.getuid() === 0, 'as root, please: it makes namespaces');
  machine = new SystemdMachine({ name: 'outpost-deb', network: null, folder: scratch, log });
  await machine.ready();
  line('ip link set lo up');

  begin('Installing');
  const [first, second] = [build('0.1.0~test1'), build('0.1.0~test2')];
  // Through the process's own view of the root: the overlay is in its mount namespace.
  line('mkdir -p /opt');
  for (const file of [first, second]) expect(run(null, ['cp', file, `/proc/${machine.pid}/root/opt/`]).code === 0, 'not copied');
  await check('the package is in order', () => {
    const { code, out, err } = run(null, ['dpkg-deb', '--info', first]);
    expect(code === 0 && /Depends: systemd/.test(out) && /Installed-Size: [1-9]/.test(out), out + err);
    const files = run(null, ['dpkg-deb', '--contents', first]).out;
    const odd = files.trim().split('\n').filter((entry) => !/^[dl-]rwxr-xr-x root\/root |^-rw-r--r-- root\/root |^lrwxrwxrwx root\/root /.test(entry));
    expect(odd.length === 0, odd.join('\n'));
    return /Installed-Size: \d+/.exec(out)[0];
  });
  await check('dpkg installs it, and the server starts by itself', async () => {
    install(first);
    return until('the service is active', active);
  }, { seconds: 2 * START });
  await check('it serves its page and offers the agents of the package', () => {
    // Pages are sent compressed, which not every curl can read.
    const said = page('/', "-o /dev/null -w '%{http_code} %{content_type}'");
    expect(/^200 text\/html/.test(said), said);
    expect(page('/health.ashx') === 'ok', 'not well');
    return Object.entries({ 'x86-64': 6, 'ARM, 32 bits': 25, 'ARM, 64 bits': 26 }).map(([kind, id]) => {
      const size = page(`/meshagents?id=${id}`, "-o /dev/null -w '%{size_download}'");
      expect(Number(size) > 1 << 20, `${kind}: the agent has ${size} bytes`);
      return `${kind}: ${size} bytes`;
    }).join(', ');
  });
  await check('it runs as its own user, with its data and nobody else reading it', () => {
    expect(line('ps -o user= -p $(systemctl show -p MainPID --value outpost)') === 'outpost', 'another user');
    expect(line('stat -c "%U %a" /var/lib/outpost') === 'outpost 700', line('stat -c "%U %a" /var/lib/outpost'));
    expect(line('outpost --version').startsWith('outpost '), 'no command');
  });
  await check('the first account is made', () => expect(post('/api/account', ADMIN) === 201, 'refused'));
  await check('the journal has who and from where as fields', () => {
    expect(post('/api/login', { ...ADMIN, password: 'wrong' }) === 401, 'a wrong password was taken');
    const entries = line('journalctl -u outpost -o json --no-pager').split('\n').map((entry) => JSON.parse(entry));
    const entry = entries.find((one) => /wrong password/.test(one.MESSAGE));
    expect(entry?.USER_ID === 'user//admin' && entry?.REMOTE === '127.0.0.1', JSON.stringify(entry));
  });
  await check('its sandbox as systemd sees it', () => {
    const said = line('systemd-analyze security --no-pager outpost.service | tail -n 1');
    const exposure = Number(/level for outpost.service: ([\d.]+)/.exec(said)?.[1]);
    expect(exposure <= 1.5, said);
    return `exposure ${exposure}`;
  });

  begin('Upgrading');
  await check('an upgrade restarts it, and everything is there', async () => {
    const [pid, was] = [machine.show('outpost', 'MainPID'), certificate()];
    install(second);
    await until('another process', () => active() && machine.show('outpost', 'MainPID') !== pid);
    expect(certificate() === was, 'it has another certificate');
    expect(post('/api/login', ADMIN) === 200, 'the account is gone');
    expect(line("dpkg-query -W -f '${Version}' outpost") === '0.1.0~test2', 'the old version');
  }, { seconds: 2 * START });
  await check('whoever switched it off still has it off after an upgrade', () => {
    line('systemctl disable --now outpost');
    install(second);
    expect(!active() && machine.run('systemctl is-enabled outpost').out.trim() === 'disabled', 'it was switched on');
    line('systemctl enable --now outpost');
  }, { seconds: START });

  begin('Removing');
  await check('removed, it stops and leaves its data', () => {
    line('dpkg -r outpost');
    expect(!active(), 'it still runs');
    expect(line('ls /var/lib/outpost').includes('outpost.redb'), 'the data is gone');
    expect(machine.run('ls -d /usr/lib/outpost /usr/bin/outpost /usr/lib/systemd/system/outpost.service').out === '', 'files are left');
  }, { seconds: START });
  await check('installed again, it goes on with them', async () => {
    install(second);
    await until('the service is active', active);
    expect(post('/api/login', ADMIN) === 200, 'the account is gone');
  }, { seconds: 2 * START });
  await check('purged, nothing is left', () => {
    line('dpkg -P outpost');
    const left = machine.run('ls -d /var/lib/outpost* /usr/lib/outpost /etc/systemd/system/*/outpost.service').out.trim();
    expect(left === '' && !active(), left);
    expect(line('systemctl list-units --failed --plain --no-legend --no-pager') === '', line('systemctl list-units --failed --plain --no-legend --no-pager'));
  }, { seconds: START });
} catch (error) {
  await broken(error);
} finally {
  await machine?.holder.stop('SIGKILL');
  await stopAll();
  rmSync(scratch, { recursive: true, force: true });
}
summarise((Date.now() - started) / 1000);
process.exit(failures() ? 1 : 0);
