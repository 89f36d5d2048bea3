/** Invitations, a second user with few rights, and the end of a device. */
import { axe, open, shot, URL_OF_SERVER } from '../browser.mjs';
import { check, expect } from '../report.mjs';
import { page as on } from '../words.mjs';
import { nodeId } from './enrolment.mjs';
import { login } from './power.mjs';
import { GROUP } from './setup.mjs';

export const HELPER = { name: 'helper', password: 'copper lantern meadow 17 fog' };

export const invitation = {
  title: '10. The invitation',
  async run(world) {
    world.helper = HELPER;
    const path = world.invitation.replace(URL_OF_SERVER, '');
    await check('opens without a login and shows how to install', async () => {
      const page = await open(world.browser, path);
      await page.getByRole('heading', { name: new RegExp(GROUP) }).waitFor();
      expect(/install\.sh\?c=/.test(await page.locator('pre').innerText()), 'no line');
      const findings = await axe(page);
      await shot(page, world.output, 'invitation');
      await page.context().close();
      expect(findings.length === 0, findings.join('\n'));
    });
    await check('what it offers can be fetched without a login', async () => {
      const cookie = new URL(world.invitation).searchParams.get('c');
      const { out } = world.server.fetch('stranger', `/meshagents?id=6&meshid=${encodeURIComponent(cookie)}`, ['-o', '/dev/null', '-w', '%{http_code} %{size_download}']);
      expect(/^200 \d{6,}/.test(out), out);
      return out;
    });
    for (const [what, changed] of [['garbled', path.slice(0, -6) + 'AAAAAA'], ['cut short', path.slice(0, -20)], ['missing', '/agentinvite']]) {
      await check(`a ${what} one is refused in words`, async () => {
        const page = await open(world.browser, changed, { expected: ['404'] });
        await page.getByText(/not valid|expired/i).first().waitFor();
        const words = await page.locator('main').innerText();
        await page.context().close();
        return words.replaceAll(/\s+/g, ' ').slice(0, 100);
      });
    }
    await check('a stranger’s guess of the group opens nothing', async () => {
      const { out } = world.server.fetch('stranger', `/meshsettings?id=${'A'.repeat(64)}`, ['-w', ' %{http_code}']);
      expect(/ 4\d\d$/.test(out), out);
    });
  },
};

export const shares = {
  title: '9. A second user with few rights',
  async run(world) {
    const page = world.list;
    await check('a group is shared through the page, without the terminal', async () => {
      await page.goto(`${URL_OF_SERVER}/app/groups`);
      await page.getByRole('link', { name: GROUP }).click();
      await on.addMember(page).click();
      await on.who(page).selectOption({ label: HELPER.name });
      await on.chosenRights(page).check();
      await on.right(page, on.noTerminalRight).check();
      await on.add(page).click();
      await page.getByRole('list', { name: 'Members' }).getByRole('link', { name: HELPER.name }).waitFor();
    });
    const helper = await open(world.browser, '/', { expected: ['403'] });
    await check('they log in and see just that group and its device', async () => {
      await login(helper, HELPER);
      await helper.goto(`${URL_OF_SERVER}/app/groups`);
      await helper.getByRole('link', { name: GROUP }).waitFor();
      expect((await helper.getByRole('link', { name: 'Yard' }).count()) === 0, 'the other group is there');
      await helper.goto(`${URL_OF_SERVER}/app/devices`);
      await on.deviceLink(helper, world.deviceName).waitFor();
    });
    await check('the page offers them no terminal', async () => {
      await on.deviceLink(helper, world.deviceName).click();
      await on.tab(helper, 'General').waitFor();
      expect((await on.tab(helper, 'Terminal').count()) === 0, 'there is a terminal tab');
      await helper.goto(`${URL_OF_SERVER}${world.deviceUrl}/terminal`);
      await on.noTerminal(helper).waitFor();
    });
    await check('the server refuses them a terminal too', async () => {
      // The page's own socket and tunnel, spoken by hand.
      const node = nodeId(world);
      const answer = await helper.evaluate(async (nodeid) => {
        const talk = (path, first) =>
          new Promise((resolve) => {
            const socket = new WebSocket(`wss://${location.host}/${path}`);
            const heard = [];
            const end = (how) => (socket.close(), resolve({ how, heard }));
            socket.onopen = () => first?.(socket);
            socket.onmessage = ({ data }) => heard.push(String(data));
            socket.onclose = () => end('closed');
            setTimeout(() => end('time'), 3000);
          });
        const control = await talk('control.ashx', (socket) => socket.send(JSON.stringify({ action: 'msg', type: 'tunnel', nodeid, value: `*/meshrelay.ashx?p=1&nodeid=${nodeid}&id=abcdef012345`, usage: 1, responseid: 'e2e' })));
        const relay = await talk(`meshrelay.ashx?browser=1&p=1&nodeid=${encodeURIComponent(nodeid)}&id=abcdef012345`);
        return { control: control.heard.filter((text) => text.includes('e2e')), relay };
      }, node);
      expect(answer.control.length > 0 && !answer.control.some((text) => /"result":"OK"/.test(text)), `control said ${JSON.stringify(answer.control)}`);
      expect(answer.relay.how === 'closed' && !answer.relay.heard.some((text) => text === 'c'), `the relay: ${JSON.stringify(answer.relay)}`);
      return answer.control[0].slice(0, 120);
    });
    await check('they may not manage users', async () => {
      await helper.goto(`${URL_OF_SERVER}/app/users`);
      await helper.getByText(/may not manage users/).waitFor();
    });
    await check('taken out of the group, they lose the device at once', async () => {
      await helper.goto(`${URL_OF_SERVER}/app/devices`);
      await on.deviceLink(helper, world.deviceName).waitFor();
      await page.getByRole('button', { name: `Remove: ${HELPER.name}` }).click();
      await on.inDialog(page, 'Remove').click();
      await on.deviceLink(helper, world.deviceName).waitFor({ state: 'hidden', timeout: 5000 });
    });
    await helper.context().close();
  },
};

export const removal = {
  title: '9b. The device is removed',
  async run(world) {
    const page = world.list;
    await page.goto(`${URL_OF_SERVER}${world.deviceUrl}`);
    await check('after its consequence was told', async () => {
      await on.actions(page, world.deviceName).click();
      await on.menuItem(page, 'Remove…').click();
      await on.dialog(page).getByText(on.removalWords).waitFor();
      await world.agent.stop();
      await on.inDialog(page, 'Remove').click();
      await page.waitForURL('**/app/devices');
      await on.deviceLink(page, world.deviceName).waitFor({ state: 'hidden' });
    });
  },
};
