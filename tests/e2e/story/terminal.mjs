/** The terminal of the device, as seen in the page. */
import { longestFrame } from '../browser.mjs';
import { check, expect } from '../report.mjs';
import { page as on } from '../words.mjs';

/** Lines of the terminal's screen, the empty ones at its end left out. */
export const lines = (page) =>
  page.evaluate(() => [...document.querySelectorAll('.xterm-rows > div')].map((row) => row.textContent.replaceAll('\u00a0', ' ').trimEnd()).join('\n').trimEnd().split('\n'));

const PROMPT = 'root@workbench:~#';

/** Waits until the shell is back at its prompt. */
export const prompted = (page, milliseconds = 10_000) =>
  page.waitForFunction(
    (prompt) => {
      const rows = [...document.querySelectorAll('.xterm-rows > div')].map((row) => row.textContent.replaceAll('\u00a0', ' ').trim()).filter(Boolean);
      return rows.at(-1) === prompt;
    },
    PROMPT,
    { timeout: milliseconds, polling: 50 },
  );

export async function type(page, line) {
  await page.keyboard.type(line);
  await page.keyboard.press('Enter');
}

/** Opens the terminal tab and gives the shell a prompt that can be recognised. */
export async function openTerminal(page) {
  await on.tab(page, 'Terminal').click();
  await page.waitForFunction(() => /[#$>]\s*$/.test([...document.querySelectorAll('.xterm-rows > div')].map((row) => row.textContent.replaceAll('\u00a0', ' ').trim()).filter(Boolean).at(-1) ?? ''), null, { timeout: 8000 });
  await page.locator('.xterm-helper-textarea').focus();
  await type(page, `PS1='${PROMPT} '; clear`);
  await prompted(page);
}

export const works = {
  title: '6. The terminal',
  async run(world) {
    const page = world.list;
    await check('opens', () => openTerminal(page));
    const shows = async (command, words) => {
      await type(page, command);
      await page.waitForFunction((wanted) => [...document.querySelectorAll('.xterm-rows > div')].some((row) => row.textContent.replaceAll('\u00a0', ' ').trimEnd() === wanted), words, { timeout: 10_000 }).catch(async () => {
        throw new Error(`“${words}” is not on the screen:\n${(await lines(page)).slice(-8).join('\n')}`);
      });
      await prompted(page);
    };
    await check('what a command prints is seen', () => shows('echo "six times seven is $((6*7))"', 'six times seven is 42'));
    await check('it runs as root on the device', () => shows('echo $(id -un) on $(hostname)', 'root on bench-one'));
    await check('UTF-8 comes through, both ways', () => shows("printf '%s\\n' 'äöü € 漢字 🚀 ß' | sed 's/ß/ẞ/'", 'äöü € 漢字 🚀 ẞ'));
    await check('its size follows the window', async () => {
      let asked = 0;
      const size = async () => {
        const tag = `size${(asked += 1)}`;
        await page.waitForTimeout(600);
        await type(page, `clear; echo ${tag} $(stty size)`);
        await page.waitForFunction((tag) => new RegExp(`${tag} \\d+ \\d+`).test(document.querySelector('.xterm-rows')?.innerText.replaceAll('\u00a0', ' ') ?? ''), tag, { timeout: 5000 });
        await prompted(page);
        return new RegExp(`${tag} (\\d+) (\\d+)`).exec((await lines(page)).join('\n')).slice(1).map(Number);
      };
      const before = await size();
      await page.setViewportSize({ width: 1000, height: 620 });
      const after = await size();
      await page.setViewportSize({ width: 1440, height: 900 });
      const again = await size();
      const footer = (await on.terminal(page).locator('footer').innerText()).match(/(\d+) × (\d+)/).slice(1).map(Number);
      expect(after[0] < before[0], `rows ${before} to ${after}`);
      expect(again.join() === before.join(), `${before} and then ${again}`);
      expect(footer[1] === again[0] && footer[0] === again[1], `the page says ${footer}, the shell ${again}`);
      return `${before.join('×')}, ${after.join('×')}, ${again.join('×')}`;
    });
    await check('100 MB of output neither freeze the page nor grow the server', async () => {
      await type(page, 'clear');
      await prompted(page);
      const before = world.server.memory;
      let most = before;
      const watch = setInterval(() => (most = Math.max(most, world.server.memory)), 50);
      const started = Date.now();
      let longest;
      try {
        longest = await longestFrame(page, async () => {
          await type(page, `yes ${'0123456789'.repeat(8)} | head -c 100M; echo; echo "all $((50+50)) MB"`);
          await page.waitForFunction(() => document.querySelector('.xterm-rows')?.innerText.replaceAll('\u00a0', ' ').includes('all 100 MB'), null, { timeout: 90_000, polling: 100 });
        });
      } finally {
        clearInterval(watch);
      }
      await prompted(page);
      const grown = (most - before) / 1024;
      const words = `${((Date.now() - started) / 1000).toFixed(1)} s, longest frame ${longest} ms, server ${(before / 1024).toFixed(1)} MiB and ${grown.toFixed(1)} more at most, agent ${(await agentMemory(world)).toFixed(1)} MiB`;
      expect(longest < 1000, `the page stood still: ${words}`);
      expect(grown <= 16, `the server grew: ${words}`);
      return words;
    }, { seconds: 110 });
    await check('Ctrl-C ends an endless output within two seconds', async () => {
      await type(page, 'yes endless');
      await page.waitForTimeout(1500);
      const pressed = Date.now();
      await page.keyboard.press('Control+c');
      await prompted(page, 8000);
      const after = Date.now() - pressed;
      expect(after <= 2000, `${after} ms`);
      return `${after} ms`;
    });
    await check('output stands still behind another tab and comes back', async () => {
      await on.tab(page, 'General').click();
      await on.general(page).waitFor();
      await on.tab(page, 'Terminal').click();
      await page.locator('.xterm-helper-textarea').focus();
      await shows('echo still $((1+1)) here', 'still 2 here');
    });
    await check('exit ends the session, and Enter opens a new one', async () => {
      await type(page, 'exit');
      await on.reconnect(page).waitFor();
      await page.keyboard.press('Enter');
      await on.reconnect(page).waitFor({ state: 'hidden' });
      await page.waitForTimeout(300);
      await openTerminal(page);
    });
  },
};

async function agentMemory(world) {
  const { memory } = await import('../processes.mjs');
  return memory(world.agent.pid) / 1024;
}
