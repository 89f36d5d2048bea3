/**
 * Walks every page in Chromium against the mock server, at desk and phone size, dark and light: no axe finding, no
 * console error, no breach of the content policy. Then the terminal under a flood and a list of 10,000 devices.
 * Screenshots go to tests/output. Needs Debian's `chromium`, or CHROMIUM=/path/to/it.
 *
 *   npm run build && npm run walk [-- words of the steps to run]
 */
import { strict as assert } from 'node:assert';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
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
    for (const context of browser.contexts()) await context.close();
    await mock.close();
    const strict = await startMock({ loggedIn: false, secondFactor: true });
    const code = await open(strict, { expected: ['401'] });
    await code.getByLabel('User name').fill('admin');
    await code.getByLabel('Password', { exact: true }).fill('secret');
    await code.getByRole('button', { name: 'Log in' }).click();
    await code.getByLabel('Code of your second factor').fill('999999');
    await code.getByRole('button', { name: 'Log in' }).click();
    await code.getByText('That code is not right.').waitFor();
    await shot(code, 'login-code');
    await code.getByLabel('Code of your second factor').fill('123456');
    await code.getByRole('button', { name: 'Log in' }).click();
    await code.getByRole('heading', { name: 'Devices' }).waitFor();
    await code.context().close();
    await strict.close();
  },

  async commands() {
    const mock = await startMock({ devices: 30 });
    const page = await open(mock, { path: 'app/commands' });
    await page.getByText('No commands yet').waitFor();
    await shot(page, 'commands-empty');
    await page.goto(`http://127.0.0.1:${mock.port}/app/devices`);
    await page.getByRole('checkbox', { name: 'Select all' }).click();
    await page.getByRole('button', { name: 'Run commands' }).click();
    await page.getByRole('dialog').getByLabel('Commands').fill('# how much room is left\nuptime\ndf -h /');
    await shot(page, 'commands-dialog');
    await page.getByRole('dialog').getByRole('button', { name: 'Run', exact: true }).click();
    await page.getByText('Ended, exit 0').first().waitFor();
    await page.getByText('Ended with an error').first().waitFor();
    await page.getByRole('button', { name: 'Output of' }).first().click();
    await page.getByRole('radio', { name: /^Ended/ }).check({ force: true });
    await shot(page, 'commands-run');
    const download = page.waitForEvent('download');
    await page.getByRole('button', { name: 'Export' }).click();
    await page.getByRole('menuitem', { name: /CSV/ }).click();
    assert.match((await download).suggestedFilename(), /^commands-[0-9a-f]{16}\.csv$/);
    await page.getByRole('button', { name: /^Take back from/ }).click();
    await page.getByText('will not get the commands').waitFor();
    await page.getByRole('button', { name: 'Run again' }).click();
    assert.match(await page.getByRole('dialog').getByLabel('Commands').inputValue(), /df -h/);
    await page.getByRole('dialog').getByRole('button', { name: 'Run', exact: true }).click();
    await page.getByText('30 devices', { exact: true }).waitFor();
    for (const [size, theme, name] of [[DESK, 'light', 'light'], [PHONE, 'dark', 'phone'], [PHONE, 'light', 'phone-light']]) {
      const other = await open(mock, { size, theme, path: 'app/commands' });
      await other.getByText('uptime').first().waitFor();
      await shot(other, `commands-list-${name}`);
      await other.getByRole('link', { name: 'uptime' }).first().click();
      await other.getByText('30 devices', { exact: true }).waitFor();
      await other.getByRole('button', { name: 'Output of' }).first().click();
      await shot(other, `commands-run-${name}`);
      await other.context().close();
    }
    for (const context of browser.contexts()) await context.close();
    await mock.close();
  },

  async account() {
    const mock = await startMock({ devices: 12 });
    const page = await open(mock, { path: 'app/account' });
    await page.getByRole('button', { name: 'Set up an authenticator app' }).click();
    await page.getByLabel('Code that the app shows').fill('111111');
    await page.getByRole('button', { name: 'Turn on' }).click();
    await page.getByText('That code does not fit.').waitFor();
    await shot(page, 'factor-set');
    await page.getByLabel('Code that the app shows').fill('123 456');
    await page.getByRole('button', { name: 'Turn on' }).click();
    await page.getByText('0123 4567').waitFor();
    await shot(page, 'factor-codes');
    await page.getByRole('button', { name: 'Close' }).last().click();
    await page.getByRole('button', { name: 'Create a token' }).click();
    await page.getByLabel('What for').fill('inventory script');
    await page.getByRole('button', { name: 'Create', exact: true }).click();
    await page.getByText('oAJasFhOlS5uLbP9s5ig').waitFor();
    await shot(page, 'token-made');
    await page.getByRole('button', { name: 'Close' }).last().click();
    await page.getByRole('button', { name: 'Remove: inventory script' }).click();
    await page.getByRole('button', { name: 'Remove', exact: true }).last().click();
    await page.getByText('The token was removed.').waitFor();
    await shot(page, 'account-on');
    await page.getByRole('button', { name: 'Turn off' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Turn off' }).click();
    await page.getByText('The second factor is off.').waitFor();
    const key = [...mock.world.nodes.values()][0]._id.split('/').at(-1);
    await page.goto(`http://127.0.0.1:${mock.port}/app/devices/${key}`);
    const device = page.getByRole('region').filter({ has: page.getByRole('tab') });
    await device.getByRole('button', { name: /^Actions for/ }).first().click();
    await page.getByRole('menuitem', { name: 'Send a message' }).click();
    await page.getByRole('dialog').getByLabel('Message').fill('Please save your work.');
    await shot(page, 'message');
    await page.getByRole('button', { name: 'Send', exact: true }).click();
    await page.getByText('The message was sent.').waitFor();
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

  async bundle() {
    const mock = await startMock({ devices: 3 });
    const group = [...mock.world.groups.keys()][0].split('/').at(-1);
    for (const [size, sizeName, theme] of [[DESK, 'desk', 'dark'], [PHONE, 'phone', 'light']]) {
      const page = await open(mock, { size, theme, path: 'app/server', expected: ['422'] });
      const file = page.locator('input[type=file]');
      await file.setInputFiles({ name: 'x.tgz', mimeType: 'application/gzip', buffer: Buffer.from('no') });
      await page.getByRole('alert').getByText('not compressed with gzip').waitFor();
      await file.setInputFiles({ name: 'x.tgz', mimeType: 'application/gzip', buffer: Buffer.alloc(5000, 'x') });
      await page.getByText('MeshCentral 1.1.55').waitFor();
      await page.getByText('6 agents').click();
      await page.getByText('macOS universal').waitFor();
      await shot(page, `bundle-${sizeName}-${theme}`);
      await page.goto(`http://127.0.0.1:${mock.port}/app/add-device/${group}`);
      await page.getByRole('tab', { name: 'Windows, macOS' }).click();
      await page.getByRole('link', { name: 'Download: Windows x86-64 service' }).waitFor();
      await page.getByText('OpenWrt', { exact: true }).click();
      await shot(page, `official-${sizeName}-${theme}`);
      await page.goto(`http://127.0.0.1:${mock.port}/app/server`);
      await page.getByRole('button', { name: 'Remove' }).click();
      await page.getByRole('dialog').getByRole('button', { name: 'Remove' }).click();
      await page.getByText('None are imported yet.').waitFor();
      await page.goto(`http://127.0.0.1:${mock.port}/app/add-device/${group}`);
      await page.getByRole('tab', { name: 'Windows, macOS' }).click();
      await page.getByRole('link', { name: 'Import them under Server' }).waitFor();
      await page.context().close();
    }
    await mock.close();
  },

  async box() {
    for (const [size, sizeName, theme] of [[DESK, 'desk', 'dark'], [DESK, 'desk', 'light'], [PHONE, 'phone', 'light'], [PHONE, 'phone', 'dark']]) {
      const mock = await startMock({ devices: 3 });
      const page = await open(mock, { size, theme, path: 'app/server', expected: ['422', '401', 'Failed to fetch'] });
      await page.getByRole('tab', { name: 'This box' }).click();
      await page.getByText('Raspberry Pi 4 Model B').waitFor();
      await shot(page, `box-${sizeName}-${theme}`);
      // For the guide: desk in both themes, phone in the dark one.
      if (process.env.OUTPOST_SCREENSHOTS && (sizeName === 'desk' || theme === 'dark')) {
        await page.screenshot({ path: join(process.env.OUTPOST_SCREENSHOTS, `box-${sizeName === 'desk' ? theme : 'phone'}.png`) });
      }
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      if (wide > 0) problems.push(`the box at ${sizeName} is ${wide} px wider than the screen`);
      const file = page.locator('input[type=file]');
      await file.setInputFiles({ name: 'x.raucb', mimeType: 'application/octet-stream', buffer: Buffer.from('no') });
      await page.getByRole('alert').getByText('or it is not whole').waitFor();
      await page.getByRole('button', { name: 'From an address' }).click();
      await page.getByLabel('Address of the file').fill('ftp://x');
      await page.getByRole('button', { name: 'Fetch and install' }).click();
      await page.getByText('begins with https://').waitFor();
      await shot(page, `box-address-${sizeName}-${theme}`);
      await page.keyboard.press('Escape');
      await page.getByRole('button', { name: 'From a USB stick' }).click();
      await page.getByText('SanDisk Ultra Fit').waitFor();
      await shot(page, `box-stick-${sizeName}-${theme}`);
      await page.getByRole('button', { name: 'Install: outpost' }).click();
      await page.getByText(/Installing: \d+ %/).waitFor();
      await page.getByRole('heading', { name: 'Update', exact: true }).scrollIntoViewIfNeeded();
      await shot(page, `box-installing-${sizeName}-${theme}`);
      await page.getByRole('button', { name: 'Restart now' }).waitFor({ timeout: 15_000 });
      assert.equal(await page.getByRole('alert').count(), 0, 'what went wrong before is past');
      await shot(page, `box-installed-${sizeName}-${theme}`);
      await page.getByRole('button', { name: 'Download a copy of everything' }).click();
      await page.getByLabel('Your password', { exact: true }).fill('wrong');
      await page.getByRole('button', { name: 'Download', exact: true }).click();
      await page.getByText('The password is wrong').waitFor();
      await shot(page, `box-copy-${sizeName}-${theme}`);
      await page.keyboard.press('Escape');
      await page.getByRole('button', { name: 'Factory reset' }).click();
      assert(await page.getByRole('dialog').getByRole('button', { name: 'Factory reset' }).isDisabled());
      await page.getByRole('dialog').getByRole('textbox').fill('outpost');
      await shot(page, `box-reset-${sizeName}-${theme}`);
      await page.getByRole('dialog').getByRole('button', { name: 'Factory reset' }).click();
      await page.getByText('The box restarts.').waitFor();
      await page.context().close();
      await mock.close();
      const ill = await startMock({ devices: 3, boxTrouble: true });
      const trouble = await open(ill, { size, theme, path: 'app/box' });
      await trouble.getByText('Version 0.2.0 was given up').waitFor();
      await shot(trouble, `box-trouble-${sizeName}-${theme}`);
      await trouble.getByRole('button', { name: 'Take this browser’s time' }).click();
      await trouble.getByText('The time is set.').waitFor();
      await trouble.getByRole('button', { name: 'Take this browser’s time' }).waitFor({ state: 'hidden' });
      await trouble.context().close();
      await ill.close();
    }
    const none = await startMock({ devices: 3, noBox: true });
    const page = await open(none, { path: 'app/box' });
    await page.getByText('by that system’s package manager').waitFor();
    assert.equal(await page.getByRole('button', { name: 'Factory reset' }).count(), 0);
    await shot(page, 'box-none');
    await page.context().close();
    await none.close();
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

  async desktop() {
    for (const [size, theme] of [[DESK, 'dark'], [DESK, 'light'], [PHONE, 'dark']]) {
      const mock = await startMock({ devices: 12 });
      const key = [...mock.world.nodes.values()][0]._id.split('/').at(-1);
      const page = await open(mock, { size, theme, path: `app/devices/${key}/desktop` });
      const canvas = page.locator('canvas');
      await page.getByText('1280 × 800').waitFor();
      // The title bar of the mock's window, and the colour beside it.
      const pixel = (x, y) => canvas.evaluate((board, [x, y]) => [...board.getContext('2d').getImageData(x, y, 1, 1).data.slice(0, 3)], [x, y]);
      await page.waitForFunction(() => document.querySelector('canvas').getContext('2d').getImageData(300, 100, 1, 1).data[0] === 58);
      assert.deepEqual(await pixel(300, 100), [58, 110, 165]);
      await shot(page, `desktop-${size === DESK ? 'desk' : 'phone'}-${theme}`);
      const sent = (command) => mock.received.filter((frame) => frame.readUInt16BE(0) === command);
      const box = await canvas.boundingBox();
      const at = (x, y) => [box.x + (x / 1280) * box.width, box.y + (y / 800) * box.height];
      if (size === PHONE) {
        await page.touchscreen.tap(...at(400, 250));
        await page.waitForTimeout(300);
        const click = sent(2).find((frame) => frame[5] === 2);
        assert(click && Math.abs(click.readUInt16BE(6) - 400) <= 4, 'the tap did not arrive where it was meant');
        await page.getByRole('button', { name: 'Ctrl', exact: true }).tap();
        await page.getByRole('button', { name: 'Keyboard', exact: true }).tap();
        await page.keyboard.insertText('c');
        await page.waitForTimeout(200);
        assert.deepEqual(sent(1).slice(-4).map((frame) => [frame[4], frame[5]]), [[0, 17], [0, 67], [1, 67], [1, 17]]);
      } else {
        await page.mouse.click(...at(400, 250));
        await page.keyboard.type('Az');
        await page.keyboard.press('Control+c');
        await page.waitForTimeout(200);
        assert.deepEqual(sent(85).map((frame) => [frame[4], frame.readUInt16BE(5)]), [[0, 65], [1, 65], [0, 122], [1, 122]]);
        assert(sent(1).some((frame) => frame[4] === 0 && frame[5] === 67), 'Ctrl+C did not arrive');
        assert.deepEqual(await pixel(400, 250), [230, 70, 60]);
        await page.getByRole('button', { name: 'Send keys' }).click();
        await shot(page, `desktop-keys-${theme}`);
        await page.getByRole('menuitem', { name: 'Alt+Tab' }).click();
        await page.getByRole('button', { name: 'View', exact: true }).click();
        await page.getByRole('menuitem', { name: 'Picture and input…' }).click();
        await shot(page, `desktop-settings-${theme}`);
        await page.getByRole('button', { name: 'Close' }).last().click();
        await page.getByRole('button', { name: 'Clipboard' }).click();
        await page.getByRole('menuitem', { name: 'Fetch' }).click();
        await page.getByText('The device’s clipboard is now yours.').waitFor();
        assert.equal(await page.evaluate(() => navigator.clipboard.readText()), 'from the device');
        await page.getByRole('button', { name: 'Full screen' }).click();
        await page.waitForFunction(() => document.fullscreenElement !== null);
        await page.mouse.move(720, 2);
        await page.getByRole('button', { name: 'Clipboard' }).click();
        await page.getByRole('menuitem', { name: 'Send' }).click();
        await page.getByText('The clipboard was sent.').waitFor();
        await page.waitForTimeout(300);
        await page.screenshot({ path: `${output}desktop-full-${theme}.png` });
        await page.getByRole('button', { name: 'Full screen' }).click();
        await page.waitForFunction(() => document.fullscreenElement === null);
        await page.getByRole('button', { name: 'View only' }).click();
        const before = mock.received.length;
        await page.mouse.click(...at(200, 200));
        await page.keyboard.type('x');
        await page.waitForTimeout(200);
        assert.equal(mock.received.slice(before).filter((frame) => [1, 2, 85].includes(frame.readUInt16BE(0))).length, 0, 'input left in view only');
        await page.getByRole('button', { name: 'Disconnect' }).click();
        await page.getByText('You ended the session.').waitFor();
        await shot(page, `desktop-ended-${theme}`);
        await page.getByRole('button', { name: 'Reconnect' }).click();
        await page.waitForFunction(() => document.querySelector('canvas').getContext('2d').getImageData(300, 100, 1, 1).data[0] === 58);
      }
      await page.context().close();
      await mock.close();
    }
    for (const [consent, words] of [['deny', 'The person at the device did not allow it.'], ['grant', '1280 × 800']]) {
      const mock = await startMock({ devices: 12, consent });
      const key = [...mock.world.nodes.values()][0]._id.split('/').at(-1);
      const page = await open(mock, { path: `app/devices/${key}/desktop` });
      await page.getByText('Waiting for someone at the device').waitFor();
      await page.getByText(words).waitFor();
      await page.context().close();
      await mock.close();
    }
    const mock = await startMock({ devices: 12 });
    const node = [...mock.world.nodes.values()][0];
    node.agent.caps = 14;
    const page = await open(mock, { path: `?viewmode=11&gotonode=${encodeURIComponent(node._id)}` });
    await page.getByText('This device’s agent offers no desktop.').waitFor();
    assert.equal(await page.getByRole('tab', { name: 'Desktop' }).count(), 0);
    await page.context().close();
    await mock.close();
  },

  async files() {
    for (const [size, theme] of [[DESK, 'dark'], [DESK, 'light'], [PHONE, 'dark']]) {
      const mock = await startMock({ devices: 12, slowFiles: 120 });
      const anna = mock.disk.entries.get('home').entries.get('anna');
      const key = [...mock.world.nodes.values()][0]._id.split('/').at(-1);
      const page = await open(mock, { size, theme, path: `app/devices/${key}/files`, expected: ['404'] });
      const grid = page.getByRole('grid', { name: /^Files of/ });
      const enter = async (name) => {
        const row = grid.getByRole('row', { name: new RegExp(name) });
        if (size === PHONE) await row.tap();
        else await row.dblclick();
      };
      await grid.getByText('home').waitFor();
      await enter('home');
      await enter('anna');
      await grid.getByText('two␊lines').waitFor();
      await shot(page, `files-${size === DESK ? 'desk' : 'phone'}-${theme}`);
      if (size === PHONE || theme === 'light') {
        await page.context().close();
        await mock.close();
        continue;
      }
      await page.getByRole('button', { name: 'New folder' }).click();
      await page.getByLabel('Name of the folder').fill('a/b');
      await page.getByRole('button', { name: 'Create' }).click();
      await page.getByText('A name may not contain a slash.').waitFor();
      await page.getByLabel('Name of the folder').fill('new folder');
      await page.getByRole('button', { name: 'Create' }).click();
      await grid.getByText('new folder').waitFor();
      assert(anna.entries.get('new folder').entries);
      await page.keyboard.press('F2');
      await page.getByLabel('New name').fill('Ünïcode "1"');
      await page.getByRole('button', { name: 'Rename', exact: true }).last().click();
      await grid.getByText('Ünïcode "1"').waitFor();
      await page.keyboard.press('Delete');
      await page.getByRole('heading', { name: 'Delete Ünïcode' }).waitFor();
      await shot(page, 'files-delete');
      await page.getByRole('button', { name: 'Delete', exact: true }).last().click();
      await grid.getByText('Ünïcode "1"').waitFor({ state: 'hidden' });
      // Files that begin with the bytes that need care, an empty one, and one of several blocks.
      const contents = { 'brace.bin': Buffer.from('{"a":1}'), 'zero.bin': Buffer.alloc(200_000), 'empty.bin': Buffer.alloc(0), 'large.bin': Buffer.from(Array.from({ length: 3_000_000 }, (_, n) => (n * 7919) & 255)) };
      const [chooser] = await Promise.all([page.waitForEvent('filechooser'), page.getByRole('button', { name: 'Upload files' }).click()]);
      await chooser.setFiles(Object.entries(contents).map(([name, buffer]) => ({ name, mimeType: 'application/octet-stream', buffer })));
      await page.getByText(/to go/).waitFor();
      await shot(page, 'files-upload');
      await page.getByText('4 files moved').waitFor();
      for (const [name, content] of Object.entries(contents)) assert(anna.entries.get(name).content.equals(content), `${name} arrived changed`);
      await grid.getByText('large.bin').click();
      const [saved] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Download' }).first().click()]);
      assert(readFileSync(await saved.path()).equals(contents['large.bin']), 'the download is not what was there');
      const [again] = await Promise.all([page.waitForEvent('filechooser'), page.getByRole('button', { name: 'Upload files' }).click()]);
      await again.setFiles([{ name: 'brace.bin', mimeType: 'text/plain', buffer: Buffer.from('other') }]);
      await page.getByText('1 file exists already').waitFor();
      await shot(page, 'files-exists');
      await page.getByRole('button', { name: 'Replace' }).click();
      await page.waitForTimeout(1000);
      assert.equal(anna.entries.get('brace.bin').content.toString(), 'other');
      const tree = mkdtempSync(join(tmpdir(), 'walk-'));
      mkdirSync(join(tree, 'top/inner'), { recursive: true });
      writeFileSync(join(tree, 'top/one.txt'), 'one');
      writeFileSync(join(tree, 'top/inner/two.txt'), 'two');
      const [whole] = await Promise.all([page.waitForEvent('filechooser'), page.getByRole('button', { name: 'Upload a folder' }).click()]);
      await whole.setFiles(join(tree, 'top'));
      await grid.getByText('top', { exact: true }).waitFor();
      await page.getByText('8 files moved').waitFor();
      const top = anna.entries.get('top');
      assert.equal(top.entries.get('one.txt').content.toString() + top.entries.get('inner').entries.get('two.txt').content.toString(), 'onetwo');
      rmSync(tree, { recursive: true });
      await page.getByRole('button', { name: 'Type a path' }).click();
      await page.getByLabel('Path').fill('/nowhere');
      await page.keyboard.press('Enter');
      await page.getByText('This folder does not exist').waitFor();
      await page.context().close();
      await mock.close();
    }
  },

  async console() {
    for (const [size, theme] of [[DESK, 'dark'], [PHONE, 'light']]) {
      const mock = await startMock({ devices: 12 });
      const name = size === DESK ? 'desk' : 'phone';
      const key = [...mock.world.nodes.values()][0]._id.split('/').at(-1);
      const page = await open(mock, { size, theme, path: `app/devices/${key}/console` });
      await page.getByLabel('Command').fill('help');
      await page.keyboard.press('Enter');
      await page.getByText('Available commands').waitFor();
      await page.getByLabel('Command').press('ArrowUp');
      assert.equal(await page.getByLabel('Command').inputValue(), 'help');
      await shot(page, `console-${name}`);
      await page.getByRole('tab', { name: 'Processes' }).click();
      await page.getByRole('cell', { name: 'firefox', exact: true }).waitFor();
      await shot(page, `processes-${name}`);
      await page.getByRole('button', { name: /^End vim,/ }).click();
      await page.getByRole('button', { name: 'End', exact: true }).last().click();
      await page.getByText(/was told to end/).waitFor();
      await page.getByRole('radio', { name: 'Services' }).click();
      await page.getByRole('cell', { name: 'NetworkManager', exact: true }).waitFor();
      await shot(page, `services-${name}`);
      await page.context().close();
      await mock.close();
    }
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
