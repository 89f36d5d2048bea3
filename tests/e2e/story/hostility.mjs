/** A stranger who speaks to the agents' door, while everybody else works. */
import { join } from 'node:path';
import { open, URL_OF_SERVER } from '../browser.mjs';
import { ADDRESS } from '../network.mjs';
import { PROGRAM, STATE } from '../machine.mjs';
import { start } from '../processes.mjs';
import { check, expect } from '../report.mjs';
import { page as on } from '../words.mjs';
import { lines, openTerminal, prompted, type } from './terminal.mjs';

export const harmsNobody = {
  title: '12. A hostile agent',
  async run(world) {
    const { server, output } = world;
    const page = await open(world.browser, world.deviceUrl, { state: await world.list.context().storageState() });
    await on.deviceTitle(page).waitFor();
    await openTerminal(page);
    const before = server.memory;
    const connections = world.agent.lines.filter(({ text }) => /connected/.test(text)).length;
    for (const [kind, words] of [
      ['oversized', 'messages of 2 MiB'],
      ['malformed', 'malformed handshakes and random bytes'],
      ['reconnects', '200 quick reconnects'],
      ['endless', 'handshakes that never end'],
    ]) {
      await check(`${words}: page and agent keep working`, async () => {
        const hostile = start(`hostile ${kind}`, 'stranger', [process.execPath, new URL('../hostile.mjs', import.meta.url).pathname, kind, ADDRESS.server], { log: join(output, 'hostile.log') });
        try {
          await hostile.line(/^working/, 5000);
          const slowest = [];
          for (let round = 0; round < 4; round += 1) {
            const from = Date.now();
            await type(page, `clear; echo round $((${round} + 1000))`);
            await page.waitForFunction((wanted) => document.querySelector('.xterm-rows')?.innerText.replaceAll('\u00a0', ' ').includes(wanted), `round ${1000 + round}`, { timeout: 5000 });
            await prompted(page);
            slowest.push(Date.now() - from);
            await page.waitForTimeout(250);
          }
          const { text } = await hostile.line(/^result /, 20_000);
          expect(world.agent.lines.filter((line) => /connected/.test(line.text)).length === connections, 'the real agent was disconnected');
          // What the stranger still holds must not keep others out, who come from the same network.
          const { out, code } = server.fetch('browser', '/api/bootstrap', ['-o', '/dev/null', '-w', '%{http_code}']);
          expect(out === '200', `while the stranger holds his connections (${text.slice(7)}), a browser of the same network got no page: curl ended with ${code}`);
          return `${text.slice(7)}; a command took ${Math.max(...slowest)} ms at most`;
        } finally {
          await hostile.stop('SIGTERM');
        }
      }, { seconds: 45 });
    }
    await check('the server’s memory stays', async () => {
      const grown = (server.memory - before) / 1024;
      expect(grown <= 24, `${grown.toFixed(1)} MiB more`);
      return `${grown.toFixed(1)} MiB more`;
    });
    await check('a device whose name is a script is shown as text, and removed', async () => {
      const name = `<img src=x onerror=alert(1)>"'&`;
      const evil = world.device.start('evil', [PROGRAM, 'run', '--msh', `${STATE}/outpost-agent.msh`, '--state', '/var/lib/evil', '-k', `agentName=${name}`], join(output, 'hostile.log'));
      try {
        const list = world.list;
        await list.goto(`${URL_OF_SERVER}/app/devices`);
        await on.deviceLink(list, name).waitFor({ timeout: 20_000 });
        expect((await list.locator('img[src=x]').count()) === 0, 'it became an element');
        await list.goto(`${URL_OF_SERVER}/app/events`);
        await list.getByText(name).first().waitFor();
        await evil.stop();
        await list.goto(`${URL_OF_SERVER}/app/devices`);
        await on.state(on.device(list, name), 'Offline').waitFor();
        await on.device(list, name).hover();
        await on.rowActions(list, name).click();
        await on.menuItem(list, 'Remove…').click();
        await on.dialog(list).getByText(on.removalWords).waitFor();
        await on.inDialog(list, 'Remove').click();
        await on.deviceLink(list, name).waitFor({ state: 'hidden' });
      } finally {
        await evil.stop();
      }
    });
    await check('nothing of it became a device', async () => {
      expect((await lines(page)).length > 0, 'the terminal is gone');
      await page.goto(`${URL_OF_SERVER}/app/devices`);
      await on.deviceLink(page, world.deviceName).waitFor();
      await page.getByText(/^1 device/).first().waitFor();
    });
    await page.context().close();
  },
};
