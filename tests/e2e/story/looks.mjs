/** Every page, dark and light, at the desk and on a phone: axe, nothing wider than the screen, and pictures. */
import { join } from 'node:path';
import { axe, DESK, open, PHONE, shot, URL_OF_SERVER } from '../browser.mjs';
import { PROGRAM, STATE } from '../machine.mjs';
import { check, expect } from '../report.mjs';
import { page as on } from '../words.mjs';
import { openTerminal, prompted, type } from './terminal.mjs';

/** Pages with the pictures' names that are kept. */
const pages = (world) => [
  ['devices', '/app/devices'],
  ['device', world.deviceUrl],
  ['device-events', `${world.deviceUrl}/events`],
  ['terminal', `${world.deviceUrl}/terminal`],
  ['files', `${world.deviceUrl}/files`],
  ['add-device', '/app/add-device'],
  ['groups', '/app/groups'],
  ['users', '/app/users'],
  ['events', '/app/events'],
  ['account', '/app/account'],
  ['server', '/app/server'],
];

/** A few more devices, so that lists look like lists. They live on the same machine, each with a name and a state of its own. */
async function neighbours(world) {
  const names = ['front-desk', 'lathe-controller', 'lobby-screen', 'nas-basement'];
  const agents = names.map((name) => world.device.start(name, [PROGRAM, 'run', '--msh', `${STATE}/outpost-agent.msh`, '--state', `/var/lib/${name}`, '-k', `agentName=${name}`], join(world.output, 'neighbours.log')));
  const page = world.list;
  await page.goto(`${URL_OF_SERVER}/app/devices`);
  for (const name of names) await on.state(on.device(page, name), 'Online').waitFor({ timeout: 30_000 });
  await agents[2].stop();
  await on.state(on.device(page, names[2]), 'Offline').waitFor();
}

export const everywhere = {
  title: '13. Every page for everybody',
  async run(world) {
    await check('more devices come, one goes', () => neighbours(world), { seconds: 60 });
    const state = await world.list.context().storageState();
    for (const [size, theme, look] of [[DESK, 'dark', 'dark'], [DESK, 'light', 'light'], [PHONE, 'dark', 'phone'], [PHONE, 'light', 'phone-light']]) {
      await check(`axe finds nothing: ${look} at ${size.width}×${size.height}`, async () => {
        const findings = [];
        const judge = async (page, name) => {
          await shot(page, world.output, `${name}-${look}`);
          findings.push(...(await axe(page)).map((finding) => `${name}: ${finding}`));
          const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
          // A heading that ends in … although there is room is a fault of the layout.
          const cut = await page.evaluate(() => [...document.querySelectorAll('h1, h2, h1 *, h2 *')].filter((one) => one.scrollWidth > one.clientWidth + 1 && getComputedStyle(one).overflowX === 'hidden' && one.getClientRects().length > 0 && innerWidth > 1000).map((one) => one.textContent.trim()));
          for (const heading of cut) findings.push(`${name}: the heading “${heading}” is cut off`);
          if (wide > 0) findings.push(`${name} is ${wide} px wider than the screen`);
        };
        const stranger = await open(world.browser, '/', { size, theme });
        await on.login(stranger).waitFor();
        await judge(stranger, 'login');
        await stranger.context().close();
        const page = await open(world.browser, '/app/devices', { size, theme, state });
        for (const [name, path] of pages(world)) {
          await page.goto(URL_OF_SERVER + path);
          await page.locator('[aria-busy=true], p:text-is("Loading…")').first().waitFor({ state: 'hidden' });
          if (name === 'devices') await on.deviceLink(page, world.deviceName).waitFor();
          if (name === 'terminal') {
            await openTerminal(page);
            await type(page, 'clear; ls --color=always /usr /etc/ssl; df -h --output=fstype,size,used,pcent /');
            await prompted(page);
          }
          await judge(page, name);
        }
        await page.context().close();
        expect(findings.length === 0, findings.join('\n'));
      }, { seconds: 60 });
    }
  },
};
