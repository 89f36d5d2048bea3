/** A guest with nothing but a link: sees the terminal that is shared, nothing else, and is cut off when it is taken back. */
import { readFileSync } from 'node:fs';
import { ask, axe, open, shots, URL_OF_SERVER } from '../browser.mjs';
import { run } from '../processes.mjs';
import { check, expect } from '../report.mjs';
import { page as on } from '../words.mjs';
import { nodeId, startAgent } from './enrolment.mjs';
import { until } from './files.mjs';
import { lines, type } from './terminal.mjs';

const GUEST = 'Eve';

const onScreen = (page, words) =>
  page.waitForFunction((wanted) => [...document.querySelectorAll('.xterm-rows > div')].some((row) => row.textContent.replaceAll('\u00a0', ' ').trimEnd() === wanted), words, { timeout: 8000 }).catch(async () => {
    throw new Error(`“${words}” is not on the screen:\n${(await lines(page)).slice(-8).join('\n')}`);
  });

/** Waits for the shell's prompt, whatever it is. */
const prompted = (page) =>
  page.waitForFunction(() => /[#$>]\s*$/.test([...document.querySelectorAll('.xterm-rows > div')].map((row) => row.textContent.replaceAll('\u00a0', ' ').trim()).filter(Boolean).at(-1) ?? ''), null, { timeout: 8000 });

/** What axe and the eye find on a page, at each look. */
async function looksGood(page, output, name) {
  await shots(page, output, name);
  const findings = [];
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme });
    // Colours take a moment to change.
    await page.waitForTimeout(300);
    findings.push(...(await axe(page)).map((finding) => `${colorScheme}: ${finding}`));
  }
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  if (wide > 0) findings.push(`${wide} px wider than the screen`);
  expect(findings.length === 0, findings.join('\n'));
}

/** A page of a stranger's browser, whose sockets are noted before it goes anywhere. */
async function stranger(world, expected) {
  const page = await open(world.browser, '/mark.svg', { expected });
  const sockets = [];
  page.on('websocket', (socket) => sockets.push(new URL(socket.url()).pathname));
  return { page, sockets };
}

async function openSharing(page) {
  await on.actions(page, await on.deviceTitle(page).innerText()).click();
  await on.menuItem(page, 'Share with a guest…').click();
  await on.guestName(page).waitFor();
}

export const shared = {
  title: '8b. A guest with a link',
  async run(world) {
    const host = world.list;
    const node = nodeId(world);
    const share = (more) => ask(host, { action: 'createDeviceShareLink', nodeid: node, guestname: GUEST, p: 1, consent: 0, ...more });
    const pathOf = (made) => {
      expect(made.result === 'OK', JSON.stringify(made));
      const { pathname, search } = new URL(made.url);
      return pathname + search;
    };
    let link;
    await check('a page makes the link for a terminal, and shows it with a code', async () => {
      await host.goto(URL_OF_SERVER + world.deviceUrl);
      await openSharing(host);
      await on.createGuestLink(host).click();
      await host.getByRole('alert').first().waitFor();
      await on.guestName(host).fill(GUEST);
      for (const part of ['Desktop', 'Files']) if (await on.right(host, part).count()) await on.right(host, part).uncheck();
      await on.right(host, 'Terminal').check();
      await host.getByLabel('For how long').selectOption({ label: '15 minutes' });
      await shots(host, world.output, 'share-dialog');
      await on.createGuestLink(host).click();
      await host.getByRole('img', { name: /QR code/ }).waitFor();
      const { pathname, search } = new URL((await on.guestLink(host).innerText()).trim());
      link = pathname + search;
      expect(pathname === '/sharing' && search.length > 60, link);
    });
    await check('the dialog and the link look right, and axe finds nothing', async () => {
      await looksGood(host, world.output, 'share-link');
      await on.inDialog(host, 'Back').click();
      await host.getByText(/^Terminal, until /).waitFor();
      await looksGood(host, world.output, 'share-list');
      await host.keyboard.press('Escape');
    }, { seconds: 40 });
    const { page: guest, sockets } = await stranger(world, ['404']);
    await check('the guest is told who shares what, and gets the terminal', async () => {
      await guest.goto(URL_OF_SERVER + link);
      await guest.getByText(`shares this device with you, ${GUEST}.`).waitFor();
      await guest.getByText(/^Until /).waitFor();
      await prompted(guest);
    });
    await check('what they type runs on the device', async () => {
      await guest.locator('.xterm-helper-textarea').focus();
      await type(guest, 'echo "six times seven is $((6*7))" on $(hostname)');
      await onScreen(guest, 'six times seven is 42 on bench-one');
    });
    await check('their host sees who is there and with what, above the device and in an own terminal', async () => {
      const there = new RegExp(`${GUEST} \\(guest of .+\\): terminal`);
      await host.getByText(there).first().waitFor();
      await on.tab(host, 'Terminal').click();
      await host.locator('.chip.others').filter({ hasText: GUEST }).waitFor();
      await on.tab(host, 'General').click();
    });
    await check('they see nothing else: no tabs, no rail, no account, no line to the server', async () => {
      expect((await guest.getByRole('tab', { name: /General|Desktop|Files|Console|Processes|Events/ }).count()) === 0 && (await guest.getByRole('navigation').count()) === 0, 'there is more on the page');
      expect((await guest.getByRole('link').count()) === 0, 'there are links');
      expect((await guest.getByTitle('Run the shell as').count()) === 0, 'there is a choice of account');
      expect(sockets.length > 0 && sockets.every((path) => path === '/meshrelay.ashx'), `sockets: ${sockets}`);
      const cookies = await guest.context().cookies();
      expect(cookies.length === 0, `cookies: ${cookies.map(({ name }) => name)}`);
    });
    await check('their cookie opens neither files nor desktop nor the control socket', async () => {
      const heard = await guest.evaluate(async (nodeid) => {
        const { auth } = await (await fetch(`/api/share${location.search}`)).json();
        const talk = (path) =>
          new Promise((resolve) => {
            const socket = new WebSocket(`wss://${location.host}/${path}`);
            const words = [];
            socket.onmessage = ({ data }) => words.push(String(data));
            socket.onclose = () => resolve({ path: path.slice(0, 30), closed: true, words });
            setTimeout(() => (resolve({ path: path.slice(0, 30), closed: false, words }), socket.close()), 3000);
          });
        const query = (p) => `meshrelay.ashx?browser=1&p=${p}&nodeid=${encodeURIComponent(nodeid)}&id=guest${p}${Date.now()}&auth=${encodeURIComponent(auth)}`;
        return Promise.all([talk(query(5)), talk(query(2)), talk(`control.ashx?auth=${encodeURIComponent(auth)}`)]);
      }, node);
      for (const one of heard) expect(one.closed && !one.words.some((words) => words === 'c' || words.includes('userinfo')), JSON.stringify(one));
    });
    await check('it looks right, and axe finds nothing', () => looksGood(guest, world.output, 'guest-terminal'), { seconds: 30 });
    await check('taken back, it ends at once and says so', async () => {
      await openSharing(host);
      await host.getByRole('button', { name: `Take back: ${GUEST}` }).click();
      await on.inDialog(host, 'Take back').click();
      await guest.getByRole('heading', { name: 'This link has ended' }).waitFor({ timeout: 5000 });
      expect((await guest.locator('.xterm').count()) === 0, 'the terminal is still there');
      await host.getByRole('dialog').getByText('None.').waitFor();
      await host.keyboard.press('Escape');
      const answer = await guest.reload();
      expect(answer.status() === 404, `status ${answer.status()}`);
      await guest.getByRole('heading', { name: 'This link has ended' }).waitFor();
    });
    await check('an ended link looks right, and axe finds nothing', () => looksGood(guest, world.output, 'guest-over'), { seconds: 30 });
    await check('a broken link says so', async () => {
      await guest.goto(`${URL_OF_SERVER}/sharing?c=${'A'.repeat(120)}`);
      await guest.getByRole('heading', { name: 'This link does not lead anywhere' }).waitFor();
    });
    await check('a link that is early opens by itself', async () => {
      const now = Math.floor(Date.now() / 1000);
      const early = await share({ start: now + 4, end: now + 60 });
      await guest.goto(URL_OF_SERVER + pathOf(early));
      await guest.getByRole('heading', { name: 'This link is not open yet' }).waitFor();
      await guest.getByText(/^It opens .*\d/).waitFor();
      await guest.locator('.xterm-rows').waitFor({ timeout: 8000 });
      await guest.getByText(/^This ends in \d+ seconds?\./).waitFor();
      expect((await ask(host, { action: 'removeDeviceShare', nodeid: node, publicid: early.publicid })).result === 'OK', 'not taken back');
    });
    await check('one that comes to its end ends by itself', async () => {
      const now = Math.floor(Date.now() / 1000);
      await guest.goto(URL_OF_SERVER + pathOf(await share({ start: now - 60, end: now + 4 })));
      await guest.locator('.xterm-rows').waitFor();
      await guest.getByRole('heading', { name: 'This link has ended' }).waitFor({ timeout: 8000 });
    });
    await check('what several parts are shared has tabs, and files come down', async () => {
      const several = await share({ p: 5, expire: 0 });
      await guest.goto(URL_OF_SERVER + pathOf(several));
      await guest.getByText('Until it is taken back').waitFor();
      expect((await on.tab(guest, 'Terminal').count()) === 1 && (await on.tab(guest, 'Desktop').count()) === 0, 'the tabs are others');
      await on.tab(guest, 'Files').click();
      const grid = guest.getByRole('grid', { name: /^Files of/ });
      world.device.run(['sh', '-c', 'mkdir -p /root/for-guests && printf %s "a note" > /root/for-guests/note.txt']);
      await grid.getByText('etc', { exact: true }).waitFor();
      await guest.getByRole('button', { name: 'Type a path' }).click();
      await guest.getByLabel('Path').fill('/root/for-guests');
      await guest.keyboard.press('Enter');
      await grid.getByText('note.txt', { exact: true }).click();
      const [saved] = await Promise.all([guest.waitForEvent('download'), guest.getByRole('button', { name: 'Download' }).first().click()]);
      expect(readFileSync(await saved.path(), 'utf8') === 'a note', 'it is another file');
      await looksGood(guest, world.output, 'guest-files');
      await ask(host, { action: 'removeDeviceShare', nodeid: node, publicid: several.publicid });
      await until('the page did not end', () => guest.getByRole('heading', { name: 'This link has ended' }).count());
    }, { seconds: 40 });
    await check('while the device is away it says so, and goes on by itself', async () => {
      await world.agent.stop('SIGKILL');
      await until('the device is still there', async () => !Object.values((await ask(host, { action: 'nodes' })).nodes).flat().find(({ _id }) => _id === node).conn);
      const waiting = await share({ expire: 15 });
      await guest.goto(URL_OF_SERVER + pathOf(waiting));
      await guest.getByRole('heading', { name: /is not connected$/ }).waitFor();
      await looksGood(guest, world.output, 'guest-away');
      await startAgent(world).line(/connected to wss/, 15_000);
      await guest.getByRole('button', { name: 'Try again' }).click();
      await prompted(guest);
      await ask(host, { action: 'removeDeviceShare', nodeid: node, publicid: waiting.publicid });
      await guest.getByRole('heading', { name: 'This link has ended' }).waitFor({ timeout: 5000 });
    }, { seconds: 40 });
    await guest.context().close();
  },
};

/** After the desktop of MeshCentral's own agent was seen by a member. */
export const screen = {
  title: '17c. A guest at a screen',
  async run(world) {
    const { remote } = world;
    expect(remote?.node, 'the agent is not there');
    const nodeid = remote.node._id;
    const { page: guest, sockets } = await stranger(world, ['404']);
    const canvas = guest.locator('canvas');
    const pointer = () => /x:(\d+) y:(\d+)/.exec(run(null, ['xdotool', 'getmouselocation'], { env: remote.env }).out)?.slice(1).map(Number).join() ?? '';
    const enter = async (more) => {
      const made = await ask(remote.page, { action: 'createDeviceShareLink', nodeid, guestname: GUEST, p: 2, consent: 0, expire: 15, ...more });
      expect(made.result === 'OK', JSON.stringify(made));
      const { pathname, search } = new URL(made.url);
      await guest.goto(URL_OF_SERVER + pathname + search);
      await until('no picture came', () => canvas.evaluate((board) => board.width > 1 && board.getContext('2d').getImageData(board.width - 10, board.height - 10, 1, 1).data.slice(0, 3).some((part) => part > 20)), 15_000);
      return made.publicid;
    };
    const leave = async (publicid) => {
      await ask(remote.page, { action: 'removeDeviceShare', nodeid, publicid });
      await guest.getByRole('heading', { name: 'This link has ended' }).waitFor({ timeout: 5000 });
    };
    /** Moves and presses on the canvas; `right` and `down` are parts of it. */
    const touch = async (right, down) => {
      const box = await canvas.boundingBox();
      await guest.mouse.move(box.x + box.width * right, box.y + box.height * down);
    };
    await check('who may only watch sees the picture and moves nothing', async () => {
      const publicid = await enter({ viewOnly: true });
      await guest.getByText('You may watch its desktop, not control it.').waitFor();
      const before = pointer();
      for (const part of [0.2, 0.4, 0.6]) await touch(part, part);
      await guest.waitForTimeout(600);
      expect(pointer() === before, `the pointer went from ${before} to ${pointer()}`);
      expect((await guest.getByRole('button', { name: /Clipboard|Send keys/ }).count()) === 0, 'there are buttons for more');
      await looksGood(guest, world.output, 'guest-desktop');
      await leave(publicid);
    }, { seconds: 40 });
    await check('who may control it does, without a clipboard', async () => {
      const publicid = await enter({});
      const before = pointer();
      await until('the pointer stayed', async () => (await touch(0.3, 0.7), await touch(0.31, 0.71), pointer() !== before));
      expect((await guest.getByRole('button', { name: 'Clipboard' }).count()) === 0, 'there is a clipboard');
      expect((await guest.getByRole('button', { name: 'Send keys' }).count()) === 1, 'there are no keys to send');
      expect(sockets.every((path) => path === '/meshrelay.ashx'), `sockets: ${sockets}`);
      await leave(publicid);
    }, { seconds: 40 });
    await guest.context().close();
  },
};

/** A port alone: the page says what to run, and the program brings it to the guest's computer. */
export const port = {
  title: '8d. A guest and a port',
  async run(world) {
    const host = world.list;
    await check('the dialog makes a link for a port, and its page has the line for it', async () => {
      await host.goto(URL_OF_SERVER + world.deviceUrl);
      await openSharing(host);
      await on.guestName(host).fill(GUEST);
      await host.getByRole('checkbox', { name: 'Terminal' }).uncheck();
      await host.getByLabel('A TCP port').fill('22');
      await host.getByRole('button', { name: 'Make the link' }).click();
      const { pathname, search } = new URL((await on.guestLink(host).innerText()).trim());
      const { page: guest } = await stranger(world, ['404']);
      await guest.goto(URL_OF_SERVER + pathname + search);
      await guest.getByRole('heading', { name: 'Port 22 is shared with you' }).waitFor();
      const line = await guest.locator('code').innerText();
      expect(line.startsWith(`outpost connect --link '${URL_OF_SERVER}${pathname}${search}' --certificate `), line);
      expect((await guest.getByRole('tab').count()) === 0, 'there are tabs');
      await looksGood(guest, world.output, 'guest-port');
      await guest.context().close();
      await host.goto(URL_OF_SERVER + world.deviceUrl);
    });
  },
};
