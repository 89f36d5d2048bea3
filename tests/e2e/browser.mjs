/** Chromium on the LAN's browser machine, the looks of a page, axe, and what pages complain about. */
import { chmodSync, copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { ADDRESS, namespace } from './network.mjs';

export const DESK = { width: 1440, height: 900 };
export const PHONE = { width: 390, height: 844 };
export const URL_OF_SERVER = `https://${ADDRESS.server}`;

const axeSource = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
/** What pages said on their consoles, and policy breaches. Each is printed once at the end. */
export const complaints = [];

/** Starts the browser inside its namespace. `folder` is scratch space. */
export async function launch(folder) {
  const program = process.env.CHROMIUM ?? '/usr/bin/chromium';
  if (!existsSync(program)) throw new Error(`no browser at ${program}; install Debian's chromium, or set CHROMIUM`);
  const wrapper = join(folder, 'chromium');
  writeFileSync(wrapper, `#!/bin/sh\nexec ip netns exec ${namespace('browser')} ${program} "$@"\n`);
  chmodSync(wrapper, 0o755);
  return chromium.launch({
    executablePath: wrapper,
    timeout: 30_000,
    args: [
      '--headless=new', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync', '--ignore-certificate-errors', '--no-proxy-server',
    ],
  });
}

/** A page in a context of its own. `state` is another context's cookies; `expected` are console errors that the step provokes. */
export async function open(browser, path = '/', { size = DESK, theme = 'dark', state, expected = [] } = {}) {
  const phone = size === PHONE;
  const context = await browser.newContext({
    viewport: size, colorScheme: theme, hasTouch: phone, isMobile: phone, locale: 'en-GB', ignoreHTTPSErrors: true,
    permissions: ['clipboard-read', 'clipboard-write'], ...(state ? { storageState: state } : {}),
  });
  context.setDefaultTimeout(10_000);
  await context.addInitScript(() => {
    addEventListener('securitypolicyviolation', (event) => console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`));
  });
  const page = await context.newPage();
  listen(page, expected);
  // Chromium takes a network that was just made for one that changes, and gives the first page up.
  for (let tries = 3; ; tries -= 1) {
    try {
      await page.goto(URL_OF_SERVER + path);
      return page;
    } catch (error) {
      if (tries === 0 || !/ERR_NETWORK_CHANGED/.test(error.message)) throw error;
      await page.waitForTimeout(1000);
    }
  }
}

/** Collects what a page complains about. A server that is killed on purpose makes sockets fail; that is no complaint. */
export function listen(page, expected = []) {
  const forgiven = [...expected, 'ERR_CONNECTION_REFUSED', 'ERR_CONNECTION_RESET', 'WebSocket connection to'];
  page.on('console', (message) => {
    if (message.type() === 'error' && !forgiven.some((one) => message.text().includes(one))) complaints.push(`${page.url()}: ${message.text()} (${message.location().url})`);
  });
  page.on('pageerror', (error) => complaints.push(`${page.url()}: ${error.message}`));
  page.on('dialog', (dialog) => {
    complaints.push(`${page.url()}: a script from the server ran: ${dialog.message()}`);
    void dialog.dismiss().catch(() => undefined);
  });
}

/** Asks the server over a control socket of the page's own, with the page's cookie; the answer is the message of the same action. */
export function ask(page, message) {
  return page.evaluate(
    (request) =>
      new Promise((resolve, reject) => {
        const socket = new WebSocket(`wss://${location.host}/control.ashx`);
        const timer = setTimeout(() => reject(new Error(`no answer to ${request.action}`)), 5000);
        socket.onopen = () => socket.send(JSON.stringify({ ...request, responseid: 'e2e' }));
        socket.onmessage = ({ data }) => {
          const reply = JSON.parse(data);
          if (reply.action !== request.action) return;
          clearTimeout(timer);
          socket.close();
          resolve(reply);
        };
      }),
    message,
  );
}

/** The pictures that documents use; all others stay in the output folder. */
const KEPT = /^(login|first-run|devices|device|terminal|desktop|recordings|recording|add-device|account|files-work|editor|terminals|commands-peer)-(dark|light|phone)$/;

/** Keeps a picture in the output folder, and in `OUTPOST_SCREENSHOTS` when that is set. */
export async function shot(page, output, name) {
  await page.waitForTimeout(200);
  const path = join(output, `${name}.png`);
  await page.screenshot({ path });
  const kept = process.env.OUTPOST_SCREENSHOTS;
  if (kept && KEPT.test(name)) {
    mkdirSync(kept, { recursive: true });
    copyFileSync(path, join(kept, `${name}.png`));
  }
}

/** Three looks of the page as it stands: desk dark, desk light, phone dark. */
export async function shots(page, output, name) {
  for (const [look, size, colorScheme] of [['dark', DESK, 'dark'], ['light', DESK, 'light'], ['phone', PHONE, 'dark']]) {
    await page.setViewportSize(size);
    await page.emulateMedia({ colorScheme });
    await shot(page, output, `${name}-${look}`);
  }
  await page.setViewportSize(DESK);
  await page.emulateMedia({ colorScheme: 'dark' });
}

/** What axe finds, as lines. */
export async function axe(page) {
  await page.evaluate(axeSource);
  const { violations } = await page.evaluate(() => window.axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }));
  return violations.map((one) => `${one.id}: ${one.help}: ${one.nodes.slice(0, 2).map((node) => node.html.slice(0, 160)).join(' | ')}`);
}

/** The longest time between two frames while `during` runs, in ms. */
export async function longestFrame(page, during) {
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
  return page.evaluate(() => (cancelAnimationFrame(window.watching), Math.round(Math.max(window.longest, 0))));
}
