/** Invitations, a second user with few rights, and the end of a device. */
import { axe, open, shot, URL_OF_SERVER } from '../browser.mjs';
import { PROGRAM, STATE, UNIT } from '../machine.mjs';
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
    await check('they change their password: the old one is refused, the new one is taken', async () => {
      await helper.goto(`${URL_OF_SERVER}/app/account`);
      const fresh = 'birch kettle sundial 88 moss';
      await on.oldPassword(helper).fill(HELPER.password);
      await on.newPassword(helper).fill(fresh);
      await on.changePassword(helper).click();
      await on.passwordChanged(helper).waitFor();
      const other = (world.other = await open(world.browser, '/', { expected: ['401'] }));
      await on.userName(other).fill(HELPER.name);
      await on.password(other).fill(HELPER.password);
      await on.logIn(other).click();
      await on.wrongLogin(other).first().waitFor();
      await login(other, { name: HELPER.name, password: fresh });
    });
    await check('they end their other session, whose page asks to log in', async () => {
      await helper.reload();
      await on.endSession(helper).first().waitFor();
      expect((await on.endSession(helper).count()) === 1, `${await on.endSession(helper).count()} other sessions`);
      await on.endSession(helper).click();
      await on.sessionEnded(helper).waitFor();
      await on.login(world.other).waitFor({ timeout: 5000 });
      await world.other.context().close();
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
  title: '14. The device moves and goes',
  async run(world) {
    const page = world.list;
    await page.goto(`${URL_OF_SERVER}${world.deviceUrl}`);
    await check('it moves to another group and back', async () => {
      for (const group of ['Yard', GROUP]) {
        await on.actions(page, world.deviceName).click();
        await on.menuItem(page, 'Move to another group…').click();
        await on.moveTo(page).selectOption({ label: group });
        await on.inDialog(page, 'Move').click();
        await on.groupOfDevice(page, group).waitFor();
      }
    });
    await check('the agent is uninstalled through the page', async () => {
      await on.actions(page, world.deviceName).click();
      await on.menuItem(page, 'Uninstall the agent…').click();
      await on.inDialog(page, 'Uninstall').click();
      const { device } = world;
      const stop = 'stop --no-block outpost-agent.service';
      for (let wait = 0; wait < 100 && !device.asked().includes(stop); wait += 1) await new Promise((done) => setTimeout(done, 50));
      expect(device.asked().includes('disable outpost-agent.service') && device.asked().includes(stop), device.asked().join('; '));
      expect([PROGRAM, UNIT, `${STATE}/outpost-agent.msh`].every((path) => device.read(path) === null), 'files are left');
    });
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
