/** The empty box: its ports, its first page, its first group. */
import { statSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { open, shots, URL_OF_SERVER } from '../browser.mjs';
import { ADDRESS, openPorts } from '../network.mjs';
import { run } from '../processes.mjs';
import { check, expect } from '../report.mjs';
import { page as on } from '../words.mjs';

export const ADMIN = { name: 'admin', password: 'slate harbour violin 42 dusk' };
export const GROUP = 'Workshop';

export const begins = {
  title: '1. The server starts on an empty data folder',
  needed: true,
  async run({ server }) {
    await check('starts in LAN mode and answers', () => server.start());
    await check('only the ports it says are open', async () => {
      // The second network scan and the announcement follow within a moment.
      await new Promise((done) => setTimeout(done, 500));
      const ports = openPorts('server').join(', ');
      expect(ports === 'tcp 443, tcp 80, udp 16989, udp 5353', `open: ${ports}`);
      return ports;
    });
    await check('HTTP redirects to HTTPS', async () => {
      const { out } = run('browser', ['curl', '-s', '-o', '/dev/null', '-w', '%{http_code} %{redirect_url}', `http://${ADDRESS.server}/app/devices?x=1`]);
      expect(/^30[1278] https:\/\/10\.77\.0\.1(:443)?\//.test(out), out);
      return out;
    });
    await check('private keys are for the owner only', async () => {
      const keys = readdirSync(server.data).filter((name) => name.endsWith('.key'));
      expect(keys.length >= 3, `keys: ${keys}`);
      for (const key of keys) expect((statSync(join(server.data, key)).mode & 0o077) === 0, `${key} can be read by others`);
      return keys.join(', ');
    });
    await check('the root certificate verifies the web certificate', async () => {
      const certificate = join(server.data, '../root.pem');
      run('browser', ['sh', '-c', `curl -sk https://${ADDRESS.server}/MeshServerRootCert.cer | openssl x509 -inform der -out '${certificate}'`]);
      const { code, err } = run('browser', ['curl', '-sS', '--cacert', certificate, '-o', '/dev/null', `https://${ADDRESS.server}/health.ashx`]);
      expect(code === 0, err);
    });
  },
};

export const firstRun = {
  title: '2. The first-run page',
  needed: true,
  async run(world) {
    const page = await open(world.browser, '/', { expected: ['422', '400'] });
    world.page = page;
    await check('a fresh box shows its first-run page', () => on.firstRun(page).waitFor());
    await check('a weak password is called weak', async () => {
      await on.userName(page).fill(ADMIN.name);
      await on.password(page).fill('password1');
      await page.getByText(on.weak).first().waitFor();
      return (await on.judgement(page).innerText()).split('\n')[0];
    });
    await check('a password that is too short is refused by the server', async () => {
      await on.password(page).fill('Zq7!');
      await page.getByText(on.tooShort).first().waitFor();
      await on.createAccount(page).click();
      await page.waitForTimeout(500);
      expect(await on.firstRun(page).isVisible(), 'the account was made');
      const status = await page.evaluate(async () => (await fetch('/api/account', { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ username: 'admin', password: 'Zq7!' }) })).status);
      expect(status >= 400 && status < 500, `the server answered ${status}`);
      return `status ${status}`;
    });
    await check('a pass-phrase is called strong', async () => {
      await on.password(page).fill(ADMIN.password);
      await page.getByText(on.strong).first().waitFor();
    });
    await check('and the refusal of the one before is gone', async () => expect((await page.getByText(on.tooShort).count()) === 0, 'it still says that the password is too short'));
    await shots(page, world.output, 'first-run');
    await check('the administrator is made and logged in', async () => {
      await on.createAccount(page).click();
      await on.welcome(page).waitFor();
    });
    await check('nobody else can make a first administrator', async () => {
      const { out } = world.server.fetch('stranger', '/api/account', ['-X', 'POST', '-H', `Origin: ${URL_OF_SERVER}`, '-H', 'content-type: application/json', '-d', JSON.stringify({ username: 'eve', password: ADMIN.password }), '-w', ' %{http_code}']);
      expect(/ 4\d\d$/.test(out), out);
      return out.slice(0, 120);
    });
  },
};

export const group = {
  title: '3. A group, and the ways to add a device',
  needed: true,
  async run(world) {
    const { page } = world;
    await check('a device group is created', async () => {
      await on.groupName(page).fill(GROUP);
      await on.createGroup(page).click();
      await on.line(page).waitFor();
    });
    await check('the Linux line is shown', async () => {
      world.line = (await on.line(page).innerText()).trim();
      expect(/install\.sh/.test(world.line) && /[0-9a-f]{64}/.test(world.line), world.line);
      return `${world.line.length} characters`;
    });
    await check('the agent and its settings can be downloaded', async () => {
      await on.filesTab(page).click();
      const [agent] = await Promise.all([page.waitForEvent('download'), on.download(page).first().click()]);
      const size = statSync(await agent.path()).size;
      expect(size > 500_000, `${size} bytes`);
      const [settings] = await Promise.all([page.waitForEvent('download'), on.settingsFile(page).click()]);
      const { out } = run(null, ['cat', await settings.path()]);
      expect(/ServerID=[0-9A-F]{96}/.test(out) && out.includes('MeshServer=local'), out);
      return `${(size / 1024 / 1024).toFixed(1)} MiB`;
    });
    await check('an invitation link is made', async () => {
      await on.inviteTab(page).click();
      await on.createLink(page).click();
      world.invitation = (await on.inviteLink(page).innerText()).trim();
      expect(world.invitation.startsWith(`${URL_OF_SERVER}/agentinvite?c=`), world.invitation);
    });
  },
};
