/**
 * A screen that no X server draws: our agent in a virtual machine with a graphics card, watched and touched in a browser.
 * Needs Debian's `qemu-system-x86`, `busybox-static`, `chromium`, a C compiler, and apt for its kernel, which is unpacked
 * into target/kms and not installed. Takes the programs from OUTPOST_BIN and OUTPOST_AGENT_BIN or from target/release.
 *
 *   npm ci --prefix ../e2e && node run.mjs
 */
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { start, stopAll, tail } from '../e2e/processes.mjs';
import { begin, broken, check, expect, failures, onFailure, summarise } from '../e2e/report.mjs';
import { page as on } from '../e2e/words.mjs';
import { programs } from '../programs.mjs';
import { HOST, kernel, machine, probe, rootFileSystem } from './machine.mjs';

const here = fileURLToPath(new URL('.', import.meta.url));
const repository = resolve(here, '../..');
const { chromium } = createRequire(join(here, '../e2e/run.mjs'))('playwright-core');
const output = join(repository, 'target/kms/output');
const DEVICE = 'kiosk-7';
const ADMIN = { name: 'admin', password: 'slate harbour violin 42 dusk' };
/** Of the screen. */
const SIZE = { width: 1920, height: 1080 };
const BLUE = [0x3a, 0x6e, 0xa5];
const [RED, GREEN, CURSOR] = [[0xc0, 0x30, 0x20], [0x20, 0x90, 0x40], [0x20, 0xc0, 0x40]];
/** How far a JPEG may be from a colour. */
const NEAR = 10;
const { image, modules } = kernel(join(repository, 'target/kms/kernel'));
const isFast = probe(image);
/** Without a hypervisor everything takes several times as long. */
const SLOW = isFast ? 1 : 5;
const LIMIT_SECONDS = isFast ? 240 : 480;

const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
async function until(words, test, milliseconds = 15_000 * SLOW) {
  const end = Date.now() + milliseconds;
  for (;;) {
    const found = await test();
    if (found) return found;
    expect(Date.now() < end, typeof words === 'function' ? words() : words);
    await wait(100);
  }
}
const hex = (colour) => colour.map((part) => part.toString(16).padStart(2, '0')).join('');
const freePort = () =>
  new Promise((done) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => done(port));
    });
  });

rmSync(output, { recursive: true, force: true });
mkdirSync(output, { recursive: true });
const scratch = mkdtempSync(join(tmpdir(), 'outpost-kms-'));
const started = Date.now();
let browser;
let ending = null;
function end() {
  ending ??= (async () => {
    await browser?.close().catch(() => undefined);
    await stopAll();
    rmSync(scratch, { recursive: true, force: true });
  })();
  return ending;
}
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => void end().then(() => process.exit(130)));
const limit = setTimeout(() => {
  console.error(`This did not end within ${LIMIT_SECONDS} s.`);
  void end().then(() => process.exit(1));
}, LIMIT_SECONDS * 1000);

/** A server on loopback with an administrator and a group; gives its port and the group's settings. */
async function serve() {
  const [data, port] = [join(scratch, 'data'), await freePort()];
  mkdirSync(data, { mode: 0o700 });
  const config = { settings: { port, redirPort: 0, portBind: '127.0.0.1', exactPorts: true, WANonly: true, cert: '127.0.0.1' }, domains: { '': { newAccounts: false } } };
  writeFileSync(join(data, 'config.json'), JSON.stringify(config));
  const words = [programs.server, '--datapath', data];
  for (const more of [['--createaccount', ADMIN.name, '--pass', ADMIN.password], ['--adminaccount', ADMIN.name]]) {
    const { stdout, stderr, status } = spawnSync(words[0], [...words.slice(1), ...more], { encoding: 'utf8' });
    expect(status === 0, stdout + stderr);
  }
  const server = start('server', null, words, { log: join(output, 'server.log') });
  await until('the server does not answer', async () => {
    expect(!server.ended, 'the server ended at its start');
    return spawnSync('curl', ['-sk', `https://127.0.0.1:${port}/health.ashx`], { encoding: 'utf8' }).stdout.trim() === 'ok';
  });
  return port;
}

/** What the page asks over a control socket of its own. */
const ask = (page, message) =>
  page.evaluate(
    (request) =>
      new Promise((done, failed) => {
        const socket = new WebSocket(`wss://${location.host}/control.ashx`);
        const timer = setTimeout(() => failed(new Error(`no answer to ${request.action}`)), 10_000);
        socket.onopen = () => socket.send(JSON.stringify({ ...request, responseid: 'kms' }));
        socket.onmessage = ({ data }) => {
          const reply = JSON.parse(data);
          if (reply.action !== request.action) return;
          clearTimeout(timer);
          socket.close();
          done(reply);
        };
      }),
    message,
  );

/** The machine, with its commands and what it tells. */
function boot(port, settings) {
  const guest = join(scratch, 'guest');
  const compiled = spawnSync('cc', ['-static', '-O2', '-Wall', '-Werror', '-o', guest, join(here, 'guest.c')], { encoding: 'utf8' });
  expect(compiled.status === 0, compiled.stderr);
  const root = rootFileSystem(scratch, modules, {
    programs: { guest, 'outpost-agent': programs.agent },
    files: { 'agent.msh': settings, 'etc/passwd': 'root:x:0:0:root:/root:/bin/sh\n' },
    start: `hostname ${DEVICE}
stty -F /dev/ttyS1 raw -echo
guest < /dev/ttyS1 > /dev/ttyS1 2>&1 &
outpost-agent run --msh /agent.msh --state /run/outpost -k MeshServer=wss://${HOST}:${port}/agent.ashx > /dev/ttyS0 2>&1 &
echo "agent $!" > /dev/ttyS1
wait
`,
  });
  const log = join(output, 'kernel.log');
  const running = start('machine', null, machine({ image, root, log, size: SIZE, isFast }), { log: join(output, 'guest.log'), input: true });
  const told = () => running.lines.map(({ text }) => text.trim());
  return {
    running,
    told,
    /** Has the program there do something, and waits for it. */
    async does(command) {
      const before = told().filter((line) => line === `done ${command}`).length;
      running.child.stdin.write(`${command}\n`);
      await until(() => `it did not do ${command}: ${told().slice(-3).join(' / ')}`, () => told().filter((line) => line === `done ${command}`).length > before);
    },
    /** The events since line `from` that are of these types. */
    events: (from, ...types) =>
      told().slice(from).map((line) => /^event (\d+) (\d+) (-?\d+)$/.exec(line)?.slice(1).map(Number)).filter((event) => event && types.includes(event[0])),
  };
}

try {
  begin('A screen that no X server draws');
  const port = await serve();
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--headless=new', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--no-proxy-server'],
  });
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, colorScheme: 'dark', locale: 'en-GB', ignoreHTTPSErrors: true, permissions: ['clipboard-read', 'clipboard-write'] });
  context.setDefaultTimeout(20_000);
  const page = await context.newPage();
  onFailure((name) => page.screenshot({ path: join(output, `failed-${name.replaceAll(/\W+/g, '-').slice(0, 60)}.png`), timeout: 3000 }).catch(() => undefined));
  await page.goto(`https://127.0.0.1:${port}/app/devices`);
  await on.login(page).waitFor();
  await on.userName(page).fill(ADMIN.name);
  await on.password(page).fill(ADMIN.password);
  await on.logIn(page).click();
  await on.login(page).waitFor({ state: 'hidden' });
  const { meshid } = await ask(page, { action: 'createmesh', meshname: 'Kiosks', meshtype: 2 });
  const settings = spawnSync('curl', ['-sk', `https://127.0.0.1:${port}/meshsettings?id=${encodeURIComponent(meshid.split('/').at(-1))}`], { encoding: 'utf8' }).stdout;
  expect(settings.includes('MeshID='), settings);

  let guest;
  const pixel = (x, y) => page.locator('canvas').evaluate((canvas, [x, y]) => [...canvas.getContext('2d').getImageData(x, y, 1, 1).data.slice(0, 3)], [x, y]);
  const shows = async (x, y, colour) => (await pixel(x, y)).every((part, n) => Math.abs(part - colour[n]) <= NEAR);
  const comes = (x, y, colour) => {
    let last;
    return until(() => `${last} instead of ${colour} at ${x}, ${y}`, async () => ((last = await pixel(x, y)), shows(x, y, colour)));
  };
  const at = async (x, y) => {
    const box = await page.locator('canvas').boundingBox();
    return [box.x + ((x + 0.5) * box.width) / SIZE.width, box.y + ((y + 0.5) * box.height) / SIZE.height];
  };

  const enrolled = await check('the machine starts, and its agent enrols', async () => {
    guest = boot(port, settings);
    await until(() => `no mode was set: ${guest.told().slice(-3).join(' / ')}`, () => (expect(!guest.running.ended, 'the machine ended at its start'), guest.told().some((line) => line.startsWith('mode 0'))), 60_000 * SLOW);
    const isThere = async () => Object.values((await ask(page, { action: 'nodes' })).nodes).flat().find((node) => node.name === DEVICE && ((node.agent?.caps ?? 0) & 1) === 1);
    await until('no agent with a desktop came', isThere, 60_000 * SLOW);
    return `${((Date.now() - started) / 1000).toFixed(1)} s, ${isFast ? 'KVM' : 'emulated'}`;
  }, { seconds: 130 * SLOW });
  if (!enrolled) throw new Error('nothing to look at');

  await check('the known picture is on the canvas', async () => {
    await guest.does('fill 400 300 200 100 ffffff');
    await on.deviceLink(page, DEVICE).click();
    await on.tab(page, 'Desktop').click();
    await page.getByText(`${SIZE.width} × ${SIZE.height}`).waitFor();
    await comes(1900, 1060, BLUE);
    await comes(500, 350, [255, 255, 255]);
    return `${await pixel(1900, 1060)} where it is ${BLUE}`;
  }, { seconds: 60 * SLOW });
  await check('what is painted there comes here: a large part, one row, another buffer', async () => {
    const times = [];
    for (const [command, x, y, colour] of [
      [`fill 800 500 300 300 ${hex(RED)}`, 900, 600, RED],
      ['fill 1200 901 400 1 ffffff', 1300, 901, [255, 255, 255]],
      [`flip ${hex(GREEN)}`, 60, 1000, GREEN],
    ]) {
      const from = Date.now();
      await guest.does(command);
      // One row alone is lost in a JPEG's blocks.
      await until(`${command} did not come`, async () => (y === 901 ? !(await shows(x, y, BLUE)) : shows(x, y, colour)));
      times.push(Date.now() - from);
    }
    return `${times.join(', ')} ms`;
  }, { seconds: 60 * SLOW });
  await check('the hardware’s cursor is in the picture', async () => {
    await guest.does('cursor 1000 200');
    await comes(1030, 230, CURSOR);
    expect(await shows(1000 + 70, 230, GREEN), 'it is larger than it is');
  }, { seconds: 60 * SLOW });
  await check('the pointer, its buttons and the wheel arrive', async () => {
    await until(() => `no pointer came: ${guest.told().slice(-5).join(' / ')}`, () => guest.told().some((line) => /Outpost pointer/.test(line)));
    const from = guest.told().length;
    await page.mouse.move(...(await at(960, 540)));
    for (const button of ['left', 'right', 'middle']) await page.mouse.click(...(await at(960, 540)), { button });
    await page.mouse.wheel(0, -100);
    await until(() => `only ${guest.told().slice(from).join(', ')}`, () => guest.events(from, 2).length >= 1);
    const buttons = guest.events(from, 1).filter(([, code]) => code >= 0x110).map(([, code, value]) => `${(code - 0x110)}${value ? 'v' : '^'}`).join('');
    expect(buttons === '0v0^1v1^2v2^', `buttons: ${buttons}`);
    expect(guest.events(from, 2).some(([, code, value]) => code === 8 && value === 1), 'the wheel');
    // The last place of each axis, as the kernel leaves out what stays as it was.
    const place = [0, 1].map((axis) => guest.events(0, 3).filter(([, code]) => code === axis).at(-1)?.[2]);
    const wanted = [960 / 1919, 540 / 1079].map((part) => part * 65_535);
    // The page shows less than a pixel for one of the screen's, so it may be two or three of them off.
    expect(place.every((part, n) => Math.abs(part - wanted[n]) < 200), `at ${place} of 65535, wanted ${wanted}`);
    return place.map((part) => (part / 65_535).toFixed(3)).join(', ');
  }, { seconds: 40 * SLOW });
  await check('keys arrive, and what is held is let go', async () => {
    const from = guest.told().length;
    await page.mouse.click(...(await at(960, 540)));
    await page.keyboard.press('a');
    await page.keyboard.press('F5');
    await page.keyboard.type('B');
    const keys = () => guest.events(from, 1).filter(([, code]) => code < 0x100).map(([, code, value]) => `${code}${value ? 'v' : '^'}`).join(' ');
    const wanted = /30v 30\^ 63v 63\^ .*48v .*48\^/;
    await until(() => `keys: ${keys()}`, () => wanted.test(keys()));
    return keys();
  }, { seconds: 40 * SLOW });
  await check('another mode is followed', async () => {
    const smaller = guest.told().map((line) => /^offers (\d+) (\d+)x(\d+)$/.exec(line)?.slice(1).map(Number)).find((mode) => mode && mode[1] < SIZE.width);
    await guest.does(`mode ${smaller[0]}`);
    await page.getByText(`${smaller[1]} × ${smaller[2]}`).waitFor();
    await comes(10, 10, [0x80, 0x80, 0x80]);
    await guest.does('mode 0');
    await page.getByText(`${SIZE.width} × ${SIZE.height}`).waitFor();
    return `${smaller[1]} × ${smaller[2]} and back`;
  }, { seconds: 60 * SLOW });
  /** Opens the desktop afresh, with these consent bits of the group. */
  const reopen = async (consent) => {
    const reply = await ask(page, { action: 'editmesh', meshid, consent });
    expect(reply.result === 'ok', JSON.stringify(reply));
    await page.goto(`https://127.0.0.1:${port}/app/devices`);
    await on.deviceLink(page, DEVICE).click();
    await on.tab(page, 'Desktop').click();
  };
  await check('a session that must show a bar says that there is none', async () => {
    await reopen(64);
    await page.getByText(/cannot be shown who is connected/).first().waitFor();
    await page.getByText(`${SIZE.width} × ${SIZE.height}`).waitFor();
  }, { seconds: 60 * SLOW });
  await check('a session that must be asked for is refused, as nothing can be asked there', async () => {
    await reopen(8);
    await page.getByText(/must be asked first/).first().waitFor();
    expect(!(await page.getByText(`${SIZE.width} × ${SIZE.height}`).isVisible()), 'there is a picture');
  }, { seconds: 60 * SLOW });
  await reopen(0);
  await page.getByText(`${SIZE.width} × ${SIZE.height}`).waitFor();
  if (process.env.OUTPOST_SCREENSHOTS) {
    for (const [x, colour] of [[0, '1f4e79'], [480, '2e7d4f'], [960, 'b08030'], [1440, '8a3a4a']]) await guest.does(`fill ${x} 0 480 1080 ${colour}`);
    await wait(1500);
    await page.screenshot({ path: join(output, 'kms.png') });
    mkdirSync(process.env.OUTPOST_SCREENSHOTS, { recursive: true });
    copyFileSync(join(output, 'kms.png'), join(process.env.OUTPOST_SCREENSHOTS, 'desktop-console-dark.png'));
  }
  const pid = guest.told().map((line) => /^agent (\d+)$/.exec(line)?.[1]).find(Boolean);
  const cost = async (seconds) => {
    const time = async () => {
      await guest.does(`time ${pid}`);
      return Number(/^time (\d+) of 100/.exec(guest.told().findLast((line) => line.startsWith('time ')))?.[1]);
    };
    const [before, from] = [await time(), Date.now()];
    await wait(seconds * 1000);
    return ((await time()) - before) / ((Date.now() - from) / 10);
  };
  await check('a still screen that is watched costs little', async () => {
    // It is looked at less often once it has been calm for a while.
    await wait(7000);
    const share = await cost(10);
    expect(share < (isFast ? 0.02 : 0.2), `${(share * 100).toFixed(2)} % of a processor`);
    return `${(share * 100).toFixed(2)} % of a processor at ${SIZE.width} × ${SIZE.height}`;
  }, { seconds: 60 });
  await check('an agent that nobody watches costs nothing', async () => {
    await page.goto(`https://127.0.0.1:${port}/app/devices`);
    await until(() => 'its devices stayed', () => guest.told().filter((line) => line.startsWith('gone ')).length >= 2);
    const share = await cost(10);
    expect(share < (isFast ? 0.005 : 0.05), `${(share * 100).toFixed(2)} % of a processor`);
    return `${(share * 100).toFixed(2)} % of a processor`;
  }, { seconds: 60 * SLOW });
} catch (error) {
  await broken(error);
} finally {
  clearTimeout(limit);
  await end();
}
if (failures() > 0) {
  for (const name of ['kernel.log', 'guest.log', 'server.log']) if (existsSync(join(output, name))) console.log(`\n--- the end of ${name}\n${tail(join(output, name))}`);
}
summarise((Date.now() - started) / 1000);
process.exitCode = failures() > 0 ? 1 : 0;
