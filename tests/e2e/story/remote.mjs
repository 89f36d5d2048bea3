/**
 * MeshCentral's own agent on a device with a screen: desktop, files, console, processes and clipboard through the browser
 * app, every one checked at the device. `OUTPOST_PEER` is the folder that has `node_modules/meshcentral`. Besides what
 * the other parts need: Debian's `xvfb`, `xterm`, `xsel`, `xdotool`, `x11-utils` and `x11-xserver-utils`.
 */
import { chmodSync, copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ask, open, shot } from '../browser.mjs';
import { run, start } from '../processes.mjs';
import { check, expect } from '../report.mjs';
import { page as on } from '../words.mjs';
import { checkFiles, until, wait } from './files.mjs';
import { login } from './power.mjs';
import { ADMIN, GROUP } from './setup.mjs';

const DEVICE = 'screen-42';
const SIZE = { width: 1024, height: 768 };
/** The colour of the screen's background, and how far a JPEG may be from it. */
const COLOUR = [58, 110, 165];
const NEAR = 8;
/** Seconds that nothing else on this machine sleeps for. */
const SLEEP = 424_242 + process.pid;
/** The files that an X server has while it runs, and leaves behind when it is killed. */
const filesOfDisplay = (number) => [`/tmp/.X${number}-lock`, `/tmp/.X11-unix/X${number}`];
/**
 * Of the screen: the first that no X server has or left behind. An old lock names a process of another namespace, so that
 * an X server here would take it for a living one's.
 */
const DISPLAY = Array.from({ length: 800 }, (_, index) => 100 + ((process.pid + index) % 800)).find(
  (number) => !filesOfDisplay(number).some((file) => existsSync(file)),
);

export const agent = {
  title: '16. MeshCentral’s own agent on a device with a screen',
  async run(world) {
    const peer = join(process.env.OUTPOST_PEER, 'node_modules/meshcentral');
    const remote = (world.remote = { folder: join(world.scratch, 'remote'), env: {} });
    mkdirSync(remote.folder, { recursive: true });
    remote.page = await open(world.browser, '/app/devices', { expected: ['401'] });
    await login(remote.page, ADMIN);
    await check('its agents and core are imported from the package', async () => {
      const { code, out, err } = run(null, [world.programs.server, 'agents', 'import', peer, '--datapath', world.server.data], { milliseconds: 60_000 });
      expect(code === 0, err || out);
      return out.trim().split('\n').at(-1);
    });
    await check('a machine with a screen is there', async () => {
      const authority = join(remote.folder, 'xauthority');
      writeFileSync(authority, '');
      remote.env = { DISPLAY: `:${DISPLAY}`, XAUTHORITY: authority };
      // A name and processes of its own. A MeshAgent looks for the screen among the processes, and cannot list those of
      // a machine on which a script of many lines runs. It starts when its settings are there.
      const folder = join(remote.folder, 'agent');
      mkdirSync(folder);
      const script = [
        `hostname ${DEVICE}`,
        `cd '${folder}'`,
        `Xvfb :${DISPLAY} -screen 0 ${SIZE.width}x${SIZE.height}x24 -nolisten tcp -noreset & sleep ${SLEEP} &`,
        `until [ -S /tmp/.X11-unix/X${DISPLAY} ] && [ -e meshagent.msh ]; do sleep 0.1; done`,
        // As a service manager would: it has been seen to die when a desktop session ends while another begins.
        'while :; do ./meshagent connect; echo "it ended with $?"; sleep 1; done',
      ].join('\n');
      const environment = Object.entries(remote.env).map(([name, value]) => `${name}=${value}`);
      process.once('exit', () => filesOfDisplay(DISPLAY).forEach((file) => rmSync(file, { force: true })));
      remote.agent = start('meshagent', 'stranger', ['env', ...environment, 'unshare', '--uts', '--pid', '--fork', '--kill-child', '--mount-proc', 'sh', '-c', script], { log: join(world.output, 'meshagent.log') });
      const colour = `rgb:${COLOUR.map((part) => part.toString(16).padStart(2, '0')).join('/')}`;
      await until('no screen came', () => run(null, ['xsetroot', '-solid', colour], { env: remote.env }).code === 0);
      return remote.env.DISPLAY;
    });
    await check('the agent finds the server by multicast, and gets its core', async () => {
      const { meshes } = await ask(remote.page, { action: 'meshes' });
      const group = meshes.find((one) => one.name === GROUP);
      const folder = join(remote.folder, 'agent');
      const settings = world.server.fetch('stranger', `/meshsettings?id=${encodeURIComponent(group._id.split('/').at(-1))}`).out;
      expect(settings.includes('MeshID='), settings.slice(0, 200));
      copyFileSync(join(peer, 'agents/meshagent_x86-64'), join(folder, 'meshagent'));
      chmodSync(join(folder, 'meshagent'), 0o755);
      const from = Date.now();
      writeFileSync(join(folder, 'meshagent.msh'), settings);
      remote.node = await until('the agent did not report a core with a desktop', async () => Object.values((await ask(remote.page, { action: 'nodes' })).nodes).flat().find((node) => node.name === DEVICE && (node.agent?.caps & 7) === 7), 40_000);
      return `${remote.node.agent.core}, ${((Date.now() - from) / 1000).toFixed(1)} s`;
    }, { seconds: 60 });
    await check('the app shows its tabs', async () => {
      await on.deviceLink(remote.page, DEVICE).click();
      for (const tab of ['Desktop', 'Terminal', 'Files', 'Console', 'Processes']) await on.tab(remote.page, tab).waitFor();
    });
  },
};

/** The colour of a pixel of the device's screen on the page's canvas. */
const pixel = (page, x, y) => page.locator('canvas').evaluate((canvas, [x, y]) => [...canvas.getContext('2d').getImageData(x, y, 1, 1).data.slice(0, 3)], [x, y]);
const near = (found, wanted) => found.every((part, n) => Math.abs(part - wanted[n]) <= NEAR);

export const desktop = {
  title: '17. Its desktop in the browser',
  async run(world) {
    const { remote } = world;
    expect(remote?.node, 'the agent is not there');
    const { page, env } = remote;
    const typed = join(remote.folder, 'typed.txt');
    const terminal = start('xterm', null, ['xterm', '-geometry', '80x20+0+0', '-bg', 'white', '-fg', 'black', '-xrm', 'XTerm*selectToClipboard: true', '-e', `cat > '${typed}'`], { log: join(world.output, 'xterm.log'), env });
    await until('xterm did not begin', () => existsSync(typed));
    await on.tab(page, 'Desktop').click();
    /** Where a pixel of the device is on the page. */
    const at = async (x, y) => {
      const box = await page.locator('canvas').boundingBox();
      return [box.x + ((x + 0.5) * box.width) / SIZE.width, box.y + ((y + 0.5) * box.height) / SIZE.height];
    };
    await check('the known picture is on the canvas', async () => {
      await page.getByText(`${SIZE.width} × ${SIZE.height}`).waitFor();
      await until('the background has another colour', async () => near(await pixel(page, 1000, 740), COLOUR));
      await until('the window is not where it should be', async () => near(await pixel(page, 300, 200), [255, 255, 255]));
      return `${await pixel(page, 1000, 740)} where it is ${COLOUR}`;
    });
    await check('what changes there changes here', async () => {
      run(null, ['xsetroot', '-solid', 'rgb:c0/30/20'], { env });
      const from = Date.now();
      await until('the picture stayed', async () => near(await pixel(page, 1000, 740), [0xc0, 0x30, 0x20]));
      return `${Date.now() - from} ms`;
    });
    await check('the pointer goes where it is moved', async () => {
      await page.mouse.move(...(await at(700, 500)));
      const place = () => /x:(\d+) y:(\d+)/.exec(run(null, ['xdotool', 'getmouselocation'], { env }).out)?.slice(1).map(Number) ?? [];
      await until('it is elsewhere', () => Math.abs(place()[0] - 700) <= 2 && Math.abs(place()[1] - 500) <= 2);
      return place().join(', ');
    });
    await check('buttons and the wheel arrive', async () => {
      const watcher = start('xev', null, ['xev', '-geometry', '200x120+600+400', '-event', 'button'], { log: join(world.output, 'xev.log'), env });
      await until('no window came', async () => !near(await pixel(page, 700, 470), COLOUR) && !near(await pixel(page, 700, 470), [0xc0, 0x30, 0x20]));
      const seen = () => watcher.lines.map(({ text }) => /button (\d)/.exec(text)?.[1]).filter(Boolean).join('');
      await page.mouse.move(...(await at(700, 470)));
      for (const button of ['left', 'middle', 'right']) await page.mouse.click(...(await at(700, 470)), { button });
      await page.mouse.wheel(0, -100);
      await page.mouse.wheel(0, 200);
      await until('not all arrived', () => seen().length >= 12).catch(() => undefined);
      await watcher.stop();
      // Each button is told twice, pressed and let go; 4 is the wheel turned up, 5 down.
      expect(seen() === '112233445555', `seen: ${seen()}`);
    });
    await check('keys arrive: letters, capitals, signs, other alphabets, Enter', async () => {
      await page.mouse.click(...(await at(200, 150)));
      await page.keyboard.type('The quick brown FOX, 0123456789 ~@{}[]|\\^"!? äöüß€ñ Привет');
      await page.keyboard.press('Enter');
      await page.keyboard.type('second');
      await page.keyboard.press('Backspace');
      await page.keyboard.press('Enter');
      const wanted = 'The quick brown FOX, 0123456789 ~@{}[]|\\^"!? äöüß€ñ Привет\nsecon\n';
      await until(`typed: ${JSON.stringify(readFileSync(typed, 'utf8'))}`, () => readFileSync(typed, 'utf8') === wanted).catch(() => {
        throw new Error(`the device has ${JSON.stringify(readFileSync(typed, 'utf8'))}`);
      });
    });
    await shot(page, world.output, 'desktop-dark');
    await check('nothing arrives in view only', async () => {
      await page.getByRole('button', { name: 'View only' }).click();
      const before = readFileSync(typed, 'utf8');
      await page.mouse.click(...(await at(400, 100)));
      await page.keyboard.type('never\n');
      await wait(800);
      expect(readFileSync(typed, 'utf8') === before, 'keys arrived');
      const { out } = run(null, ['xdotool', 'getmouselocation'], { env });
      expect(!/x:(399|400|401) y:(99|100|101)\b/.test(out), `the pointer moved: ${out}`);
      await page.getByRole('button', { name: 'View only' }).click();
    });
    await check('the clipboard comes from the device', async () => {
      // Two clicks choose the first word that was typed, and this terminal puts it into the clipboard.
      await page.mouse.dblclick(...(await at(10, 9)));
      await until('the terminal did not copy', () => run(null, ['xsel', '--clipboard', '--output'], { env }).out === 'The');
      await page.getByRole('button', { name: 'Clipboard' }).click();
      await page.getByRole('menuitem', { name: 'Fetch' }).click();
      await until('it did not come', async () => (await page.evaluate(() => navigator.clipboard.readText())) === 'The');
    });
    await check('the clipboard goes to the device', async () => {
      const content = 'to the device: ü 世界';
      await page.evaluate((content) => navigator.clipboard.writeText(content), content);
      await page.getByRole('button', { name: 'Clipboard' }).click();
      await page.getByRole('menuitem', { name: 'Send' }).click();
      await page.getByText('The clipboard was sent.').waitFor();
      await until('it did not arrive', () => run(null, ['xsel', '--clipboard', '--output'], { env }).out === content);
    });
    await check('a text is typed from the dialog, and Ctrl+D ends the program', async () => {
      await page.getByRole('button', { name: 'Send keys' }).click();
      await page.getByRole('menuitem', { name: 'Type a text' }).click();
      await page.getByRole('dialog').getByLabel('Text').fill('from the dialog\nlast line\n');
      await page.getByRole('dialog').getByRole('button', { name: 'Type', exact: true }).click();
      await until('the text did not arrive', () => readFileSync(typed, 'utf8').endsWith('from the dialog\nlast line\n'));
      await page.keyboard.press('Control+d');
      await Promise.race([terminal.exit, wait(5000)]);
      expect(terminal.ended, 'the program still runs');
    });
    await check('an ended session says so and begins again', async () => {
      await shot(page, world.output, 'desktop-all-typed');
      await page.getByRole('button', { name: 'Disconnect' }).click();
      await page.getByText('You ended the session.').waitFor();
      await on.reconnect(page).click();
      await page.getByText('You ended the session.').waitFor({ state: 'hidden' });
      await until('no picture came', async () => near(await pixel(page, 1000, 740), [0xc0, 0x30, 0x20]));
    });
    await terminal.stop();
  },
};

export const files = {
  title: '18. Its files',
  async run(world) {
    const { remote } = world;
    expect(remote?.node, 'the agent is not there');
    await on.tab(remote.page, 'Files').click();
    await checkFiles(remote.page, world.output, join(remote.folder, 'files'), 'files-peer-dark');
  },
};

export const commands = {
  title: '19. Its console and processes',
  async run(world) {
    const { remote } = world;
    expect(remote?.node, 'the agent is not there');
    const { page } = remote;
    await check('the console answers', async () => {
      await on.tab(page, 'Console').click();
      await page.getByLabel('Command').fill('help');
      await page.keyboard.press('Enter');
      await page.getByRole('log').getByText(/netinfo/).waitFor();
    });
    await check('its terminal works', async () => {
      await on.tab(page, 'Terminal').click();
      await until('no prompt came', async () => /[#$] *$/.test((await on.screen(page).innerText()).trim()));
      await page.keyboard.type('echo $((6*7))-$(hostname)\r');
      await on.screen(page).getByText(`42-${DEVICE}`).waitFor();
    });
    await check('a script runs and its output comes back', async () => {
      await on.actions(page, DEVICE).click();
      await on.menuItem(page, 'Run commands').click();
      await page.getByRole('textbox', { name: 'Commands' }).fill('echo one\necho "two: $((40+2))"\n');
      await on.inDialog(page, 'Run').click();
      await page.getByRole('region', { name: 'Output of' }).getByText('two: 42').waitFor();
      await shot(page, world.output, 'commands-peer-dark');
      await page.goBack();
    });
    await check('a process is listed and ended', async () => {
      const running = () => run(null, ['pgrep', '-xf', `sleep ${SLEEP}`]).out.trim() !== '';
      expect(running(), 'the process to end is not there');
      await on.tab(page, 'Processes').click();
      await page.getByRole('searchbox', { name: 'Filter', exact: true }).fill(`sleep ${SLEEP}`);
      await page.getByRole('button', { name: /^End sleep, process \d+$/ }).click();
      await on.inDialog(page, 'End').click();
      await page.getByText(/^Process \d+ was told to end/).waitFor();
      expect(!running(), 'it still runs');
    });
    await check('the device’s own log tells of it', async () => {
      await on.tab(page, 'Events').click();
      await page.getByText(/Started desktop session|desktop/i).first().waitFor();
    });
    await remote.agent.stop('SIGKILL');
    // The parts that follow count devices.
    await ask(page, { action: 'removedevices', nodeids: [remote.node._id] });
    await page.context().close();
  },
};
