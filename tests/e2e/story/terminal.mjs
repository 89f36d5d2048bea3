/** The terminal of the device, as seen in the page. */
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { longestFrame, open, shot } from '../browser.mjs';
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

const written = (page) => page.locator('[role=tabpanel][id^=terminal-]:not([hidden]) .xterm-rows').innerText().then((words) => words.replaceAll('\u00a0', ' '));
const shown = async (page, words) => {
  for (let n = 0; n < 100; n += 1) {
    if ((await written(page)).includes(words)) return;
    await page.waitForTimeout(100);
  }
  throw new Error(`“${words}” is not on the screen:\n${await written(page)}`);
};

export const several = {
  title: '6a. Several terminals, other shells, files dropped on them',
  async run(world) {
    const page = await open(world.browser, `${world.deviceUrl}/terminal`, { state: await world.list.context().storageState() });
    const tabs = page.getByRole('tablist', { name: 'Terminals' }).getByRole('tab');
    const focus = () => page.locator('[role=tabpanel][id^=terminal-]:not([hidden]) .xterm-helper-textarea').focus();
    await on.reconnect(page).waitFor({ state: 'hidden' });
    await page.waitForFunction(() => /[#$>]\s*$/.test(document.querySelector('.xterm-rows')?.innerText.trim() ?? ''), null, { timeout: 8000 });
    await focus();
    await check('two run side by side, and each keeps its own', async () => {
      await type(page, 'cd /usr; echo first $((1+1))');
      await shown(page, 'first 2');
      await page.keyboard.press('Alt+Shift+T');
      expect((await tabs.count()) === 2, `${await tabs.count()} tabs`);
      await page.waitForFunction(() => /[#$>]\s*$/.test(document.querySelector('[role=tabpanel][id^=terminal-]:not([hidden]) .xterm-rows')?.innerText.trim() ?? ''), null, { timeout: 8000 });
      await focus();
      await type(page, 'echo second $((2+2)) $(pwd)');
      await shown(page, 'second 4');
      expect(!(await written(page)).includes('first 2'), 'they share a screen');
      await on.tab(page, 'General').click();
      await on.tab(page, 'Terminal').click();
      await page.keyboard.press('Control+Shift+PageUp');
      await shown(page, 'first 2');
      await focus();
      await type(page, 'echo still in $(pwd)');
      await shown(page, 'still in /usr');
      await shot(page, world.output, 'terminals-dark');
    });
    await check('another account and another shell are chosen', async () => {
      await page.getByTitle('Run as').filter({ visible: true }).click();
      await page.getByRole('dialog').getByLabel('Run as').selectOption('named');
      await page.getByRole('dialog').getByLabel('Account').fill('nobody');
      await page.getByRole('dialog').getByLabel('Shell', { exact: true }).selectOption('/bin/sh');
      await page.getByRole('dialog').getByRole('button', { name: 'Open terminal' }).click();
      await page.waitForTimeout(500);
      await focus();
      await type(page, 'echo $(id -un) has $SHELL');
      await shown(page, 'nobody has /bin/sh');
    });
    await check('a file dropped on it is in the shell’s folder', async () => {
      await page.keyboard.press('Control+Shift+PageDown');
      const folder = join(world.scratch, 'shell "folder"');
      mkdirSync(folder);
      await focus();
      await type(page, `cd '${folder}'; echo here $((3+3))`);
      await shown(page, 'here 6');
      const dropped = await page.evaluateHandle(() => {
        const data = new DataTransfer();
        data.items.add(new File(['dropped content'], 'dropped.txt'));
        return data;
      });
      await page.locator('[role=tabpanel][id^=terminal-]:not([hidden]) .screen').dispatchEvent('drop', { dataTransfer: dropped });
      await page.getByText('Done, the same on both sides').waitFor();
      expect(readFileSync(join(folder, 'dropped.txt'), 'utf8') === 'dropped content', 'it is another file');
      await focus();
      await type(page, 'cat dropped.txt; echo');
      await shown(page, 'dropped content');
    });
    await check('what was printed is found, and saved as text', async () => {
      await type(page, 'seq 1 500; echo the end of $((499+1))');
      await shown(page, 'the end of 500');
      await page.keyboard.press('Control+Shift+F');
      await page.getByRole('searchbox', { name: 'Find in terminal' }).filter({ visible: true }).fill('dropped content');
      await page.locator('.find [role=status]').filter({ visible: true, hasText: /^\d+ \/ \d+$/ }).waitFor();
      await page.keyboard.press('Escape');
      await page.getByRole('button', { name: 'More of the terminal' }).filter({ visible: true }).click();
      const [saved] = await Promise.all([page.waitForEvent('download'), on.menuItem(page, 'Save everything as a text file').click()]);
      const words = readFileSync(await saved.path(), 'utf8');
      expect(words.includes('second 4') && words.includes('\n250\n') && words.includes('the end of 500'), words.slice(0, 300));
      return saved.suggestedFilename();
    });
    await check('other colours are kept, and a terminal is closed', async () => {
      await page.getByRole('button', { name: 'More of the terminal' }).filter({ visible: true }).click();
      await page.getByRole('menuitemcheckbox', { name: 'Colours: Amber' }).click();
      const colour = () => page.locator('[role=tabpanel][id^=terminal-]:not([hidden]) .screen').evaluate((screen) => getComputedStyle(screen).backgroundColor);
      expect((await colour()) === 'rgb(18, 12, 0)', await colour());
      await shot(page, world.output, 'terminal-amber');
      await page.getByRole('button', { name: /^Close / }).first().click();
      await on.inDialog(page, 'End it').click();
      await page.waitForFunction(() => document.querySelectorAll('[role=tablist][aria-label=Terminals] [role=tab]').length === 1);
    });
    await check('the agent’s console answers what its help names', async () => {
      await on.tab(page, 'Console').click();
      const answer = async (command, words) => {
        await page.getByLabel('Command').fill(command);
        await page.keyboard.press('Enter');
        await page.getByRole('log').getByText(words).first().waitFor();
      };
      await answer('help', /log \[lines\]/);
      await answer('cd /etc', /^\/etc$/);
      await answer('cat hostname', /\w/);
      await answer('df', /file system/);
      await answer('mem', /available/);
      await answer('log 5', /files|terminal/);
      await page.keyboard.press('ArrowUp');
      expect((await page.getByLabel('Command').inputValue()) === 'log 5', await page.getByLabel('Command').inputValue());
    });
    await page.context().close();
  },
};

async function agentMemory(world) {
  const { memory } = await import('../processes.mjs');
  return memory(world.agent.pid) / 1024;
}
