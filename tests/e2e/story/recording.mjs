/** Recorded sessions: what is recorded, and what the player in the app shows of it at which time. */
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { ask, axe, shots, URL_OF_SERVER } from '../browser.mjs';
import { run } from '../processes.mjs';
import { check, expect } from '../report.mjs';
import { page as on } from '../words.mjs';
import { until, wait } from './files.mjs';
import { openTerminal, prompted, type } from './terminal.mjs';

/** Recorded are those who are marked for it; the story's first user is, for these two parts. */
export const RECORDING = { domains: { '': { sessionRecording: { onlySelectedUsers: true } } } };
const RECORDED = 2;

const position = (page) => page.getByRole('slider', { name: 'Position' });
const seek = (page, seconds) =>
  position(page).evaluate((slider, value) => {
    slider.value = String(value);
    slider.dispatchEvent(new Event('input', { bubbles: true }));
    slider.dispatchEvent(new Event('change', { bubbles: true }));
  }, seconds * 1000);

async function mark(page, flags) {
  const { userinfo } = await page.evaluate(() => new Promise((resolve) => {
    const socket = new WebSocket(`wss://${location.host}/control.ashx`);
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      if (message.action !== 'userinfo') return;
      socket.close();
      resolve(message);
    };
  }));
  const answer = await ask(page, { action: 'edituser', userid: userinfo._id, flags });
  expect(answer.result === 'ok', JSON.stringify(answer));
}

/** Opens the newest recording in the player. */
async function play(page, device) {
  await page.goto(`${URL_OF_SERVER}/app/recordings`);
  await page.getByRole('listitem').filter({ hasText: device }).first().getByRole('link', { name: /^Play/ }).click();
  await page.getByRole('region', { name: 'Player' }).waitFor();
  await position(page).waitFor();
}

const seen = (page) => page.evaluate(() => document.querySelector('.xterm-rows')?.innerText.replaceAll('\u00a0', ' ') ?? '');

export const terminal = {
  title: '10b. A recorded terminal',
  async run(world) {
    const page = world.list;
    const folder = join(world.server.data, '..', 'recordings');
    const recordings = () => readdirSync(world.recordings).filter((name) => name.endsWith('.mcrec'));
    world.recordings = statSync(folder, { throwIfNoEntry: false }) ? folder : `${world.server.data}-recordings`;
    await mark(page, RECORDED);
    await check('the session says that it is recorded', async () => {
      await page.goto(`${URL_OF_SERVER}${world.deviceUrl}`);
      await openTerminal(page);
      await page.getByText('This session is recorded.').waitFor();
      await type(page, 'echo first $((20+1))');
      await prompted(page);
      await wait(1500);
      await type(page, 'clear; echo second $((20+2))');
      await prompted(page);
    });
    await check('it lies on the server when it has ended, for its owner only', async () => {
      await page.goto(`${URL_OF_SERVER}/app/recordings`);
      await until('there is no recording', () => statSync(world.recordings, { throwIfNoEntry: false }) !== undefined && recordings().length === 1);
      const mode = statSync(join(world.recordings, recordings()[0])).mode & 0o777;
      expect(mode === 0o600, mode.toString(8));
      return recordings()[0];
    });
    await check('the list has it, and axe finds nothing', async () => {
      await page.getByRole('listitem').filter({ hasText: world.deviceName }).filter({ hasText: 'Terminal' }).waitFor();
      await shots(page, world.output, 'recordings');
      const findings = await axe(page);
      expect(findings.length === 0, findings.join('\n'));
    });
    await check('it plays to its end, and back to what was there before', async () => {
      await play(page, world.deviceName);
      await page.getByLabel('Speed').selectOption({ label: '16×' });
      await until('the last line was not played', async () => (await seen(page)).includes('second 22'));
      const length = Number(await position(page).getAttribute('max')) / 1000;
      await seek(page, length - 0.2);
      await page.keyboard.press('Home');
      await until('it is not at its start', async () => !(await seen(page)).includes('second 22'));
      await page.getByRole('button', { name: 'Play', exact: true }).click();
      await until('it did not play again', async () => (await seen(page)).includes('second 22'));
      const findings = await axe(page);
      expect(findings.length === 0, findings.join('\n'));
      return `${length.toFixed(1)} s`;
    });
    await mark(page, 0);
  },
};

export const desktop = {
  title: '17b. A recorded desktop',
  async run(world) {
    const { remote } = world;
    expect(remote?.node, 'the agent is not there');
    const { page, env } = remote;
    const address = `${URL_OF_SERVER}/app/devices/${encodeURIComponent(remote.node._id.split('/').at(-1)).replaceAll('%40', '@').replaceAll('%24', '$')}`;
    const colours = [[0x20, 0x80, 0x40], [0xc0, 0x30, 0x20]];
    const paint = (colour) => run(null, ['xsetroot', '-solid', `rgb:${colour.map((part) => part.toString(16).padStart(2, '0')).join('/')}`], { env });
    const pixel = () => page.locator('canvas').evaluate((canvas) => [...canvas.getContext('2d').getImageData(canvas.width - 20, canvas.height - 20, 1, 1).data.slice(0, 3)]);
    const shows = async (colour, what) => until(what, async () => (await pixel()).every((part, n) => Math.abs(part - colour[n]) <= 8));
    await check('twelve seconds of a screen that changes', async () => {
      // The session before has ended when sessions begin to be recorded, so that there will be one recording. It goes on
      // behind other tabs of the device; another page ends it. This agent tells of its sessions late, so that its end is
      // waited for after its beginning.
      const sessions = async () => {
        const node = Object.values((await ask(page, { action: 'nodes' })).nodes).flat().find((node) => node._id === remote.node._id);
        return node?.conn === 1 && node.agent?.core ? Object.keys(node.sessions?.kvm ?? {}).length : -1;
      };
      await until('the session before was not told of', async () => (await sessions()) > 0, 20_000);
      await page.goto(`${URL_OF_SERVER}/app/events`);
      await until('the session before does not end', async () => (await sessions()) === 0, 20_000);
      await mark(page, RECORDED);
      paint(colours[0]);
      // It has been seen to die between two sessions; then, and only then, the session is begun again when it is back.
      const deaths = () => remote.agent.lines.filter(({ text }) => text.startsWith('it ended with')).length;
      for (let before = -1; before < deaths(); ) {
        before = deaths();
        await until('the agent is not there', async () => (await sessions()) === 0, 30_000);
        await page.goto(`${address}/desktop`);
        await page.getByText('This session is recorded.').waitFor().catch((error) => {
          if (deaths() === before) throw error;
        });
      }
      await shows(colours[0], 'the screen is not there');
      await wait(6000);
      paint(colours[1]);
      await shows(colours[1], 'the screen did not change');
      await wait(6000);
      return deaths() ? `the agent ended ${deaths()} times` : undefined;
    }, { seconds: 120 });
    await check('the right picture is there at any time, by the index', async () => {
      await page.goto(`${URL_OF_SERVER}/app/recordings`);
      await page.getByRole('listitem').filter({ hasText: 'Desktop' }).first().waitFor();
      await play(page, remote.node.name);
      await page.getByRole('button', { name: 'Pause' }).click();
      await seek(page, 11);
      await shows(colours[1], 'another picture at 11 s');
      await seek(page, 3);
      await shows(colours[0], 'another picture at 3 s');
      await seek(page, 11);
      await shows(colours[1], 'another picture at 11 s, again');
      await shots(page, world.output, 'recording');
    });
    await check('a file of one’s own plays as well, and one that is removed is gone', async () => {
      const name = readdirSync(world.recordings).filter((name) => name.endsWith('.mcrec')).sort().at(-1);
      await page.goto(`${URL_OF_SERVER}/app/recordings`);
      await page.locator('input[type=file]').setInputFiles(join(world.recordings, name));
      await page.getByRole('region', { name: 'Player' }).waitFor();
      await shows(colours[0], 'it does not play');
      await page.getByRole('button', { name: 'Close' }).click();
      const rows = page.getByRole('listitem').filter({ hasText: 'Desktop' });
      const before = await rows.count();
      await rows.first().getByRole('button', { name: 'Remove' }).click();
      await on.inDialog(page, 'Remove').click();
      await until('its row stays', async () => (await rows.count()) === before - 1);
      expect(!readdirSync(world.recordings).includes(name), `${name} is still there`);
    });
    await mark(page, 0);
    // The parts that follow begin at the device.
    await page.goto(address);
  },
};
