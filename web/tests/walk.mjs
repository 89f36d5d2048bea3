/**
 * Walks every page in Chromium against the mock server, at desk and phone size, dark and light: no axe finding, no
 * console error, no breach of the content policy. Then the terminal under a flood and a list of 10,000 devices.
 * Screenshots go to tests/output. Needs Debian's `chromium`, or CHROMIUM=/path/to/it.
 *
 *   npm run build && npm run walk [-- words of the steps to run]
 */
import { strict as assert } from 'node:assert';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { startMock } from '../dev/mock.mjs';

const output = fileURLToPath(new URL('./output/', import.meta.url));
mkdirSync(output, { recursive: true });
const axeSource = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const wanted = process.argv.slice(2);
const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';
if (!existsSync(executablePath)) {
  console.error(`No browser at ${executablePath}. Install Debian's chromium, or set CHROMIUM.`);
  process.exit(1);
}
const browser = await chromium.launch({
  executablePath,
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});

const DESK = { width: 1440, height: 900 };
const PHONE = { width: 390, height: 844 };
const problems = [];

/** A page whose every complaint is collected. `expected` are console errors that the step provokes. */
async function open(mock, { size = DESK, theme = 'dark', path = '', expected = [] } = {}) {
  const context = await browser.newContext({ viewport: size, colorScheme: theme, hasTouch: size === PHONE, isMobile: size === PHONE, locale: 'en-GB', permissions: ['clipboard-read', 'clipboard-write'] });
  await context.addInitScript(() => {
    addEventListener('securitypolicyviolation', (event) => console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`));
  });
  const page = await context.newPage();
  page.on('console', (message) => {
    if (message.type() === 'error' && !expected.some((one) => message.text().includes(one))) problems.push(`${page.url()}: ${message.text()}`);
  });
  page.on('pageerror', (error) => problems.push(`${page.url()}: ${error.message}`));
  page.on('dialog', (dialog) => {
    problems.push(`${page.url()}: script from the server ran: ${dialog.message()}`);
    void dialog.dismiss();
  });
  await page.goto(`http://127.0.0.1:${mock.port}/${path}`);
  return page;
}

async function axe(page, name) {
  // Playwright's evaluate is not bound by the page's policy, unlike a script element.
  await page.evaluate(axeSource);
  const { violations } = await page.evaluate(() => window.axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }));
  for (const violation of violations) {
    problems.push(`${name}: axe ${violation.id}: ${violation.help}: ${violation.nodes.slice(0, 3).map((node) => `${node.html.slice(0, 200)} [${node.failureSummary?.split('\n')[1] ?? ''}]`).join(' | ')}`);
  }
}

async function shot(page, name) {
  await page.waitForTimeout(250);
  await page.screenshot({ path: `${output}${name}.png` });
  await axe(page, name);
}

const steps = {
  async login() {
    const mock = await startMock({ loggedIn: false });
    const page = await open(mock, { expected: ['401', '429'] });
    await page.getByRole('heading', { name: /Log in/ }).waitFor();
    await shot(page, 'login');
    await page.getByRole('button', { name: 'Log in' }).click();
    await page.getByText('Type your user name.').waitFor();
    await page.getByLabel('User name').fill('admin');
    for (let attempt = 0; attempt < 3; attempt += 1) {
      await page.getByLabel('Password', { exact: true }).fill(`wrong${attempt}`);
      await page.getByRole('button', { name: 'Log in' }).click();
      await page.getByText(attempt < 2 ? 'is not right' : 'Too many attempts').waitFor();
    }
    assert(await page.getByRole('button', { name: 'Log in' }).isDisabled());
    await shot(page, 'login-wait');
    const light = await open(mock, { theme: 'light', size: PHONE });
    await light.getByLabel('User name').fill('admin');
    await light.getByLabel('Password', { exact: true }).fill('secret');
    await shot(light, 'login-phone-light');
    await light.getByRole('button', { name: 'Log in' }).click();
    await light.getByRole('heading', { name: 'Devices' }).waitFor();
    await mock.close();
  },

  async first() {
    const mock = await startMock({ firstRun: true });
    const page = await open(mock, { expected: ['422'] });
    await page.getByRole('heading', { name: 'Set up this Outpost' }).waitFor();
    await page.getByLabel('Password', { exact: true }).fill('abc');
    await page.getByText('At least 8 characters; you have 3').waitFor();
    await shot(page, 'first-run-weak');
    await page.getByRole('button', { name: 'Suggest a pass-phrase' }).click();
    await page.getByText(/About \d+ bits/).waitFor();
    await shot(page, 'first-run');
    await page.getByRole('button', { name: 'Create account' }).click();
    await page.getByText('Waiting starts when there is a group.').waitFor();
    await shot(page, 'welcome-1');
    await page.getByRole('button', { name: 'Create group' }).click();
    await page.getByRole('button', { name: 'Copy' }).waitFor();
    await shot(page, 'welcome-2');
    const before = Date.now();
    mock.addDevice();
    await page.getByText('bench-1 is connected.').waitFor();
    console.log(`  the device stood on the page ${Date.now() - before} ms after it connected`);
    await shot(page, 'welcome-3');
    await page.getByRole('link', { name: 'Open the device' }).click();
    await page.getByRole('tab', { name: 'Terminal' }).waitFor();
    await mock.close();
  },

  async pages() {
    const mock = await startMock({ devices: 60 });
    const device = [...mock.world.nodes.values()][0];
    const key = device._id.split('/').at(-1);
    const group = [...mock.world.groups.keys()][0].split('/').at(-1);
    const ugroup = Object.keys(mock.world.ugroups)[0].split('/').at(-1);
    const views = {
      devices: ['app/devices', '60 devices'],
      device: [`app/devices/${key}`, 'AMD Ryzen'],
      'device-events': [`app/devices/${key}/events`, null],
      'add-device': [`app/add-device/${group}`, 'SHA-256 of the script'],
      groups: ['app/groups', 'Workshop'],
      group: [`app/groups/${group}`, 'Members'],
      events: ['app/events', 'Account login'],
      users: ['app/users', 'anna@example.net'],
      user: ['app/users/anna', 'Server rights'],
      'user-groups': ['app/user-groups', 'Operations'],
      'user-group': [`app/user-groups/${ugroup}`, 'Add members'],
      account: ['app/account', 'Firefox'],
      server: ['app/server', 'Agent identity'],
    };
    for (const [size, sizeName] of [[DESK, 'desk'], [PHONE, 'phone']]) {
      for (const theme of ['dark', 'light']) {
        const page = await open(mock, { size, theme, path: 'app/devices' });
        for (const [name, [path, words]] of Object.entries(views)) {
          await page.goto(`http://127.0.0.1:${mock.port}/${path}`);
          await page.locator('[aria-busy=true], p:text-is("Loading…")').first().waitFor({ state: 'hidden' });
          if (words && sizeName === 'desk') await page.getByText(words).first().waitFor();
          await shot(page, `${name}-${sizeName}-${theme}`);
          const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
          if (wide > 0) problems.push(`${name} at ${sizeName} is ${wide} px wider than the screen`);
        }
        await page.context().close();
      }
    }
    await mock.close();
  },

  async keys() {
    const mock = await startMock({ devices: 60 });
    const page = await open(mock, { path: 'app/devices', expected: ['ERR_CONNECTION_REFUSED'] });
    await page.locator('[role=grid], [role=treegrid]').waitFor();
    await page.keyboard.press('?');
    await page.getByRole('heading', { name: 'Keyboard shortcuts' }).waitFor();
    await shot(page, 'keys');
    await page.keyboard.press('Escape');
    await page.keyboard.press('Control+k');
    await page.getByRole('combobox').fill('ws-');
    await page.getByRole('option').first().waitFor();
    await shot(page, 'palette');
    await page.keyboard.press('Escape');
    await page.keyboard.press('/');
    await page.keyboard.type('onerror');
    await page.getByText('1 of 60 devices').waitFor();
    await shot(page, 'hostile-name');
    await page.keyboard.press('Escape');
    await page.locator('[role=grid], [role=treegrid]').focus();
    await page.keyboard.press('Home');
    for (const key of ['ArrowDown', 'x', 'ArrowDown', 'x', 'ArrowDown']) await page.keyboard.press(key);
    await page.getByText('2 selected').waitFor();
    await shot(page, 'selected');
    await page.getByRole('button', { name: 'Move…', exact: true }).click();
    await page.getByLabel('Move to').selectOption({ label: 'Workshop' });
    await shot(page, 'move');
    await page.getByRole('button', { name: 'Move', exact: true }).click();
    await page.getByText('2 devices moved to Workshop.').waitFor();
    await page.locator('[role=grid], [role=treegrid]').focus();
    await page.keyboard.press('Home');
    await page.keyboard.press('ArrowDown');
    await page.keyboard.press('Enter');
    await page.getByRole('tab', { name: 'General' }).waitFor();
    await page.keyboard.press('Escape');
    await page.waitForURL('**/app/devices');
    // Removal says what happens, and the row goes.
    const target = [...mock.world.nodes.values()][0];
    await page.goto(`http://127.0.0.1:${mock.port}/?viewmode=10&gotonode=${target._id.split('/').at(-1)}`);
    await page.getByRole('button', { name: `Actions for ${target.name}` }).last().click();
    await page.getByRole('menuitem', { name: 'Remove…' }).waitFor();
    await shot(page, 'menu');
    await page.getByRole('menuitem', { name: 'Remove…' }).click();
    await shot(page, 'remove');
    await page.getByRole('button', { name: 'Remove', exact: true }).click();
    await page.getByText('59 devices').waitFor();
    // The server goes and comes back: the bar says so, and the list is fresh again.
    mock.dropSockets();
    await page.waitForFunction(() => document.querySelector('nav [title=Connected]') !== null, null, { timeout: 10_000 });
    await mock.close();
    await page.getByText(/Reconnecting/).waitFor();
    await shot(page, 'lost');
  },

  async members() {
    const mock = await startMock({ devices: 12 });
    const group = [...mock.world.groups.keys()][0].split('/').at(-1);
    const page = await open(mock, { path: `app/groups/${group}` });
    await page.getByRole('button', { name: 'Add member' }).click();
    await page.getByLabel('User or user group').selectOption({ label: 'carla' });
    await page.getByLabel('Chosen rights').check();
    await page.getByLabel('Run commands').uncheck();
    await shot(page, 'rights');
    await page.getByRole('button', { name: 'Add', exact: true }).click();
    await page.getByRole('link', { name: 'carla' }).waitFor();
    assert.equal(mock.world.groups.get(`mesh//${group}`).links['user//carla'].rights & 131072, 0);
    await page.goto(`http://127.0.0.1:${mock.port}/app/users`);
    await page.getByRole('button', { name: 'Add user' }).click();
    await page.getByLabel('User name').fill('frida');
    await page.getByRole('button', { name: 'Suggest a pass-phrase' }).click();
    await page.getByText(/About \d+ bits/).waitFor();
    await shot(page, 'add-user');
    await page.getByRole('button', { name: 'Add', exact: true }).click();
    await page.getByRole('link', { name: 'frida' }).waitFor();
    await page.goto(`http://127.0.0.1:${mock.port}/app/account`);
    await page.getByLabel('Current password').fill('not it');
    await page.getByLabel('New password').fill('a quiet harbour at noon');
    await page.getByRole('button', { name: 'Change password' }).click();
    await page.getByText('The current password is not correct.').waitFor();
    await page.getByRole('button', { name: 'End session' }).click();
    await page.getByText('The session was ended.').waitFor();
    await mock.close();
  },

  async terminal() {
    for (const [size, theme, name] of [[DESK, 'dark', 'terminal-desk-dark'], [DESK, 'light', 'terminal-desk-light'], [PHONE, 'dark', 'terminal-phone-dark']]) {
      const mock = await startMock({ devices: 12 });
      const key = [...mock.world.nodes.values()][0]._id.split('/').at(-1);
      const page = await open(mock, { size, theme, path: `app/devices/${key}/terminal` });
      const screen = page.locator('.xterm-rows');
      await screen.getByText('Last login').waitFor();
      await page.keyboard.type('ls\rcolours\rutf8\runame\r');
      await screen.getByText('世界').waitFor();
      await screen.getByText('6.12.48').waitFor();
      await shot(page, name);
      if (size === DESK && theme === 'dark') await exercise(page, screen);
      await page.context().close();
      await mock.close();
    }
    // An agent that ignores acknowledgements: output may be skipped, the page must stay alive.
    const mock = await startMock({ devices: 12, ignoresAcks: true });
    const key = [...mock.world.nodes.values()][0]._id.split('/').at(-1);
    const page = await open(mock, { path: `app/devices/${key}/terminal` });
    await page.locator('.xterm-rows').getByText('Last login').waitFor();
    const longest = await watchFrames(page, async () => {
      await page.keyboard.type('flood 100\r');
      await page.waitForTimeout(500);
      await prompted(page);
    });
    console.log(`  100 MB from an agent without flow control: longest frame ${longest} ms`);
    assert(longest < 1000, 'the page froze');
    await mock.close();
  },

  async many() {
    const mock = await startMock({ devices: 10_000, churn: true });
    const page = await open(mock, { path: 'app/devices' });
    await page.getByText('10,000 devices').waitFor();
    await page.locator('[role=grid], [role=treegrid]').waitFor();
    await shot(page, 'many');
    const measure = (pixels) => page.evaluate(async (pixels) => {
      const grid = document.querySelector('[role=grid], [role=treegrid]');
      const times = [];
      let last = performance.now();
      for (let step = 0; step < 300; step += 1) {
        grid.scrollTop += pixels;
        await new Promise(requestAnimationFrame);
        const now = performance.now();
        times.push(now - last);
        last = now;
      }
      return { times: times.sort((a, b) => a - b), rows: document.querySelectorAll('[role=row]').length, top: grid.scrollTop };
    }, pixels);
    const wheel = await measure(120);
    console.log(`  10,000 devices, 400 events a second, scrolled as by a wheel: frame median ${wheel.times[150].toFixed(1)} ms, 95 % ${wheel.times[285].toFixed(1)} ms`);
    const frames = await measure(700);
    const at = (share) => frames.times[Math.floor(frames.times.length * share)].toFixed(1);
    console.log(`  10,000 devices, 400 events a second, almost a screen for each frame: frame median ${at(0.5)} ms, 95 % ${at(0.95)} ms, longest ${frames.times.at(-1).toFixed(1)} ms, ${frames.rows} rows in the page`);
    assert(frames.rows < 120, 'rows out of sight are in the page');
    assert(frames.top > 100_000, 'the list did not scroll');
    const typed = await page.evaluate(async () => {
      const field = document.querySelector('input[type=search]');
      const started = performance.now();
      field.value = 'srv-09';
      field.dispatchEvent(new Event('input', { bubbles: true }));
      await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
      return performance.now() - started;
    });
    console.log(`  filtering 10,000 devices took ${typed.toFixed(0)} ms`);
    const longest = await watchFrames(page, () => page.waitForTimeout(3000));
    console.log(`  longest frame in 3 s of 400 events a second: ${longest} ms`);
    await mock.close();
  },
};

async function watchFrames(page, during) {
  await page.evaluate(() => {
    let last = performance.now();
    window.longest = 0;
    const watch = () => {
      const now = performance.now();
      window.longest = Math.max(window.longest, now - last);
      last = now;
      window.watching = requestAnimationFrame(watch);
    };
    watch();
  });
  await during();
  return page.evaluate(() => (cancelAnimationFrame(window.watching), Math.round(window.longest)));
}

/** The shell waits again: its prompt is the last thing on the screen. */
const prompted = (page) =>
  page.waitForFunction(
    () => {
      const rows = [...document.querySelectorAll('.xterm-rows > div')].map((row) => row.textContent.replaceAll('\u00a0', ' ').trim()).filter(Boolean);
      return /^root@\S+#$/.test(rows.at(-1) ?? '') && /again|brown|skipped|the/.test(rows.at(-2) ?? '');
    },
    null,
    { timeout: 90_000 },
  );

async function exercise(page, screen) {
  // True colours reach the screen although style attributes are forbidden.
  const colours = await page.evaluate(() => new Set([...document.querySelectorAll('.xterm-rows span')].map((span) => getComputedStyle(span).backgroundColor)).size);
  assert(colours > 40, `only ${colours} colours on screen`);
  const started = Date.now();
  const longest = await watchFrames(page, async () => {
    await page.keyboard.type('flood 100\r');
    await page.waitForTimeout(500);
    await prompted(page);
  });
  console.log(`  100 MB through the terminal in ${((Date.now() - started) / 1000).toFixed(1)} s, longest frame ${longest} ms`);
  assert(longest < 1000, 'the page froze');
  await page.keyboard.press('Control+Shift+F');
  await page.getByRole('searchbox', { name: 'Find in terminal' }).fill('lazy');
  await page.getByText(/\d+ \/ 1000/).waitFor();
  await shot(page, 'terminal-find');
  await page.keyboard.press('Escape');
  await page.locator('.xterm-screen').click({ button: 'right' });
  await page.getByRole('menuitem', { name: /Paste/ }).waitFor();
  await shot(page, 'terminal-menu');
  await page.keyboard.press('Escape');
  await page.evaluate(() => navigator.clipboard.writeText('uname'));
  await page.locator('.xterm-screen').click({ button: 'right' });
  await page.getByRole('menuitem', { name: /Paste/ }).click();
  await screen.getByText(/# uname\s*$/).waitFor();
  await page.keyboard.press('Enter');
  await page.keyboard.type('exit\r');
  await page.getByText('The session ended').waitFor();
  await shot(page, 'terminal-ended');
  await page.keyboard.press('Enter');
  await page.getByText('The session ended').waitFor({ state: 'hidden' });
  await page.setViewportSize({ width: 1100, height: 700 });
  await page.waitForTimeout(400);
}

let failed = false;
for (const [name, step] of Object.entries(steps)) {
  if (wanted.length > 0 && !wanted.includes(name)) continue;
  console.log(name);
  try {
    await step();
  } catch (error) {
    failed = true;
    console.error(`  failed: ${error.stack ?? error}`);
    for (const context of browser.contexts()) for (const page of context.pages()) await page.screenshot({ path: `${output}failed-${name}.png` }).catch(() => undefined);
  }
  for (const context of browser.contexts()) await context.close();
}
await browser.close();
for (const problem of [...new Set(problems)]) console.error(`problem: ${problem}`);
console.log(failed || problems.length > 0 ? `${problems.length} problems` : 'all well');
process.exit(failed || problems.length > 0 ? 1 : 0);
