/** What dies and comes back: the agent, and the server in the middle of things. */
import { ask, open, URL_OF_SERVER } from '../browser.mjs';
import { check, expect } from '../report.mjs';
import { page as on } from '../words.mjs';
import { DEVICE, nodeId, startAgent } from './enrolment.mjs';
import { RECORDING } from './recording.mjs';
import { ADMIN } from './setup.mjs';

export async function login(page, { name, password }) {
  await on.login(page).waitFor();
  await on.userName(page).fill(name);
  await on.password(page).fill(password);
  await on.logIn(page).click();
  await on.login(page).waitFor({ state: 'hidden' });
}

export const agentDies = {
  title: '7. The agent is killed and started again',
  async run(world) {
    const page = await open(world.browser, '/app/devices', { state: await world.list.context().storageState() });
    const row = on.device(page, DEVICE);
    await on.state(row, 'Online').waitFor();
    await check('the row goes grey', async () => {
      const killed = Date.now();
      await world.agent.stop('SIGKILL');
      await on.state(row, 'Offline').waitFor({ timeout: 5000 });
      return `${Date.now() - killed} ms`;
    });
    await check('it was last seen just now, and its power history ends with off', async () => {
      const seen = await row.locator('time').getAttribute('datetime');
      expect(Math.abs(Date.now() - Date.parse(seen)) < 10_000, `last seen ${seen}`);
      const { timeline } = await ask(page, { action: 'powertimeline', nodeid: nodeId(world) });
      // The first state, when it ended, the next, its seconds, the next, …; 1 is on, 0 is off.
      expect(timeline?.filter((_, at) => at % 2 === 0).join() === '0,1,0', JSON.stringify(timeline));
      return JSON.stringify(timeline);
    });
    await check('started again it is online, and the same device', async () => {
      const { at } = await startAgent(world).line(/connected to wss/, 15_000);
      await on.state(row, 'Online').waitFor({ timeout: 5000 });
      expect((await row.count()) === 1, `${await row.count()} rows`);
      return `${Date.now() - at} ms after its connection`;
    });
    await page.context().close();
  },
};

export const serverDies = {
  title: '8. The server is killed right after what it acknowledged',
  async run(world) {
    const { server, agent } = world;
    const page = world.list;
    // Longer than the line below it on its page, so that a heading cut for no reason is seen.
    const renamed = 'workbench-at-the-window';
    const connections = () => agent.lines.filter(({ text }) => /connected to wss/.test(text) && !/not connected/.test(text)).length;
    const reconnected = async (before, started) => {
      while (connections() <= before) {
        expect(Date.now() - started < 15_000, 'the agent is not back within 15 s');
        await new Promise((done) => setTimeout(done, 50));
      }
      return Date.now() - started;
    };
    await check('a new name of the device survives', async () => {
      await page.goto(`${URL_OF_SERVER}${world.deviceUrl}`);
      await on.deviceTitle(page).filter({ hasText: DEVICE }).click();
      await on.deviceName(page).fill(renamed);
      await page.keyboard.press('Enter');
      await on.deviceTitle(page).filter({ hasText: renamed }).waitFor();
      const before = connections();
      await server.kill();
      await on.reconnecting(page).waitFor({ timeout: 5000 });
      const started = Date.now();
      await server.start();
      const after = await reconnected(before, started);
      world.connectedAgain = after;
      // Sessions end with the server when it has no sessionKey, so the page asks.
      await login(page, ADMIN);
      await page.goto(`${URL_OF_SERVER}/app/devices`);
      await on.state(on.device(page, renamed), 'Online').waitFor();
      expect((await page.getByRole('row').filter({ hasText: /bench/ }).count()) === 1, 'there are two devices');
      return `the agent was back ${after} ms after the start`;
    }, { seconds: 60 });
    // From here on sessions are kept.
    const config = { settings: { sessionKey: 'a key that only this test has, long enough' }, ...RECORDING };
    await server.process.stop();
    await server.start(config);
    await login(page, ADMIN);
    await check('a new group survives, and with a sessionKey the open page is back by itself', async () => {
      await page.goto(`${URL_OF_SERVER}/app/groups`);
      await on.createGroup(page).first().click();
      await page.getByRole('dialog').getByLabel('Name').fill('Yard');
      await on.createInDialog(page).click();
      await page.getByRole('heading', { name: 'Yard' }).waitFor();
      await page.evaluate(() => (window.untouched = true));
      const before = connections();
      await server.kill();
      const started = Date.now();
      await server.start();
      await page.waitForFunction(() => document.querySelector('nav [title=Connected]') !== null, null, { timeout: 15_000 });
      const again = Date.now() - started;
      expect(await page.evaluate(() => window.untouched === true), 'the page was reloaded');
      await page.goto(`${URL_OF_SERVER}/app/groups`);
      await page.getByRole('link', { name: 'Yard' }).waitFor();
      return `page ${again} ms, agent ${await reconnected(before, started)} ms after the start`;
    }, { seconds: 60 });
    await check('a new user survives', async () => {
      await page.goto(`${URL_OF_SERVER}/app/users`);
      await on.addUser(page).click();
      await on.userName(on.dialog(page)).fill(world.helper.name);
      await on.password(on.dialog(page)).fill(world.helper.password);
      await on.askNewPassword(page).uncheck();
      await on.add(page).click();
      await page.getByRole('link', { name: world.helper.name }).waitFor();
      const before = connections();
      await server.kill();
      const started = Date.now();
      await server.start();
      await page.goto(`${URL_OF_SERVER}/app/users`);
      await page.getByRole('link', { name: world.helper.name }).waitFor({ timeout: 15_000 });
      return `agent back ${await reconnected(before, started)} ms after the start`;
    }, { seconds: 60 });
    await check('power history and events are still there', async () => {
      await page.goto(`${URL_OF_SERVER}/app/events`);
      await page.getByText(/Yard/).first().waitFor();
    });
    world.deviceName = renamed;
  },
};
