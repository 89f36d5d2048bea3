/** A device's files through the browser app, byte for byte and with names that scripts stumble over. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { open, shot } from '../browser.mjs';
import { check, expect } from '../report.mjs';
import { page as on } from '../words.mjs';

/** Names that scripts and shells stumble over. */
const ODD = ['two\nlines', 'quote\'s "double".txt', 'Grüße 世界', ' lead and trail ', 'a&b<c>.html', '-rf', '$(reboot)'];

export const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
export async function until(words, test, milliseconds = 8000) {
  const end = Date.now() + milliseconds;
  for (;;) {
    const found = await test();
    if (found) return found;
    expect(Date.now() < end, words);
    await wait(100);
  }
}
/** Bytes that look like nothing and repeat nowhere near. */
const noise = (length) => Buffer.from(Array.from({ length }, (_, n) => (n * 7919 + (n >> 8) * 31) & 255));

/** The checks, on a page whose Files tab is open; `there` is a folder to use, on the device and here. */
export async function checkFiles(page, output, there, picture) {
  mkdirSync(join(there, 'inner'), { recursive: true });
  for (const name of ODD) writeFileSync(join(there, name), `content of ${name}`);
  writeFileSync(join(there, 'inner/deep'), 'deep');
  const large = noise(9_000_001);
  // The last one ends with a whole block, so that its end comes in a block of its own.
  const downloads = { 'large.bin': large, 'nothing.bin': Buffer.alloc(0), 'exact.bin': noise(16_380 * 3) };
  for (const [name, content] of Object.entries(downloads)) writeFileSync(join(there, name), content);
  const grid = page.getByRole('grid', { name: /^Files of/ });
  const entry = (name) => grid.getByText(name.replace('\n', '␊'), { exact: true });
  const goTo = async (path) => {
    await page.getByRole('button', { name: 'Type a path' }).click();
    await page.getByLabel('Path').fill(path);
    await page.keyboard.press('Enter');
  };
  await check('a folder is listed, odd names as they are', async () => {
    await grid.getByText('etc', { exact: true }).waitFor();
    await goTo(there);
    await entry('large.bin').waitFor();
    for (const name of ODD) expect((await grid.getByRole('gridcell').evaluateAll((cells, name) => cells.filter((cell) => cell.textContent === name).length, name.replace('\n', '␊'))) === 1, `${JSON.stringify(name)} is not shown`);
    await shot(page, output, picture);
  });
  await check('files come down byte for byte', async () => {
    for (const [name, content] of Object.entries({ ...downloads, [ODD[0]]: Buffer.from(`content of ${ODD[0]}`), [ODD[6]]: Buffer.from(`content of ${ODD[6]}`) })) {
      await entry(name).click();
      const [saved] = await Promise.all([page.waitForEvent('download', { timeout: 25_000 }), page.getByRole('button', { name: 'Download' }).first().click()]);
      expect(readFileSync(await saved.path()).equals(content), `${JSON.stringify(name)} is not what it was`);
    }
  }, { seconds: 60 });
  await check('files go up byte for byte', async () => {
    const uploads = { 'up.bin': large, 'empty.bin': Buffer.alloc(0), '{"a":1}.json': Buffer.from('{"action":"rm","path":"/"}'), 'zeros.bin': Buffer.alloc(200_000), 'Übung 世界': Buffer.from('x') };
    const [chooser] = await Promise.all([page.waitForEvent('filechooser'), page.getByRole('button', { name: 'Upload files' }).click()]);
    await chooser.setFiles(Object.entries(uploads).map(([name, buffer]) => ({ name, mimeType: 'application/octet-stream', buffer })));
    await page.getByText('10 files moved').waitFor({ timeout: 30_000 });
    for (const [name, content] of Object.entries(uploads)) expect(readFileSync(join(there, name)).equals(content), `${name} arrived changed`);
  }, { seconds: 45 });
  await check('a folder is made, a file renamed, a tree deleted', async () => {
    await page.getByRole('button', { name: 'New folder' }).click();
    await page.getByLabel('Name of the folder').fill('new "folder"');
    await page.keyboard.press('Enter');
    await entry('new "folder"').waitFor();
    expect(existsSync(join(there, 'new "folder"')), 'it is not on the device');
    await entry(ODD[0]).click();
    await page.keyboard.press('F2');
    await page.getByLabel('New name').fill('it\'s $HOME; now');
    await page.keyboard.press('Enter');
    await entry('it\'s $HOME; now').waitFor();
    expect(readFileSync(join(there, 'it\'s $HOME; now'), 'utf8') === `content of ${ODD[0]}`, 'it is another file');
    await entry('inner').click();
    for (const name of ['-rf', '$(reboot)']) await entry(name).click({ modifiers: ['Control'] });
    await page.keyboard.press('Delete');
    await on.inDialog(page, 'Delete').click();
    await entry('-rf').waitFor({ state: 'hidden' });
    const left = readdirSync(there);
    expect(!left.includes('inner') && !left.includes('-rf') && !left.includes('$(reboot)') && left.includes('a&b<c>.html'), left.join(', '));
  });
  await check('what the device refuses is told', async () => {
    await goTo('/proc');
    await grid.getByText('self', { exact: true }).or(grid.getByText('1', { exact: true })).first().waitFor();
    await page.getByRole('button', { name: 'New folder' }).click();
    await page.getByLabel('Name of the folder').fill('never');
    await page.keyboard.press('Enter');
    const words = await page.getByRole('dialog').getByRole('alert').innerText();
    expect(/did not create/.test(words), words);
    await page.keyboard.press('Escape');
    await goTo('/no/such/folder');
    await page.getByText(/This folder (does not exist|cannot be shown)/).waitFor();
    return words;
  });
}

/** The same of our own agent, on the device that the story is about. */
export const ours = {
  title: '6b. The files of the device',
  async run(world) {
    const page = await open(world.browser, `${world.deviceUrl}/files`, { state: await world.list.context().storageState() });
    await checkFiles(page, world.output, join(world.scratch, 'files-of-the-device'), 'files-dark');
    await page.context().close();
  },
};
