/**
 * What our agent can do with files beyond MeshCentral's: gigabytes in constant memory, transfers that go on after a cut,
 * archives both ways, editing, copying, searching, and archives that mean harm.
 */
import { createHash } from 'node:crypto';
import { closeSync, createReadStream, existsSync, ftruncateSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { ask, open, PHONE, shot } from '../browser.mjs';
import { ADDRESS } from '../network.mjs';
import { run, start } from '../processes.mjs';
import { check, expect } from '../report.mjs';
import { page as on } from '../words.mjs';
import { nodeId, startAgent } from './enrolment.mjs';
import { until } from './files.mjs';

const GIB = 1024 ** 3;
/** What goes up: a browser hashes and encrypts it on the way, so that more of it would only take longer. */
const UPLOAD = Number(process.env.OUTPOST_UPLOAD ?? GIB + 54_321);
/** Most memory that server and agent may have needed at any time while gigabytes passed, in MiB more than before. */
const MOST_MORE = 24;

const sha256 = (path) =>
  new Promise((settle, fail) => {
    const hash = createHash('sha256');
    createReadStream(path, { highWaterMark: 1 << 20 }).on('data', (piece) => hash.update(piece)).on('error', fail).on('end', () => settle(hash.digest('hex')));
  });

/** A file with holes: words at its beginning, in its middle and at its end, which is no multiple of anything. */
function sparse(path, size) {
  const file = openSync(path, 'w');
  ftruncateSync(file, size);
  for (const at of [0, Math.floor(size / 2) + 7, size - 10]) writeSync(file, `at ${at % 1e7}`.slice(0, 10), at);
  closeSync(file);
}

/** The most memory that a process has needed since this was last asked, in MiB. */
function peak(pid) {
  const most = Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))[1]) / 1024;
  writeFileSync(`/proc/${pid}/clear_refs`, '5');
  return most;
}

/** A ZIP archive made by Python, whose words make the entries. */
const python = (script, ...words) => {
  const { code, err, out } = run(null, ['python3', '-c', script, ...words], { milliseconds: 60_000 });
  expect(code === 0, err || out);
  return out.trim();
};

export const work = {
  title: '6c. Gigabytes, cuts, archives and edits',
  async run(world) {
    const page = await open(world.browser, `${world.deviceUrl}/files`, { state: await world.list.context().storageState() });
    const there = join(world.scratch, 'work-on-the-device');
    mkdirSync(join(there, 'sub/inner'), { recursive: true });
    const grid = page.getByRole('grid', { name: /^Files of/ });
    const entry = (name) => grid.getByText(name, { exact: true });
    const goTo = async (path) => {
      await page.getByRole('button', { name: 'Type a path' }).click();
      await page.getByLabel('Path', { exact: true }).fill(path);
      await page.keyboard.press('Enter');
    };
    const row = (name) => grid.getByRole('row').filter({ has: page.getByText(name, { exact: true }) });
    const act = async (name, item) => {
      await row(name).click({ button: 'right' });
      await on.menuItem(page, item).click();
    };
    const transfers = page.getByRole('region', { name: 'Transfers' });
    const clear = async () => {
      const button = transfers.getByRole('button', { name: 'Clear finished' });
      if (await button.isVisible()) await button.click();
    };
    const key = nodeId(world).split('/').at(-1);
    const download = async (path) => {
      const { cookie } = await ask(page, { action: 'authcookie' });
      return `https://${ADDRESS.server}/devicefile.ashx?c=${encodeURIComponent(cookie)}&n=${encodeURIComponent(key)}&f=${encodeURIComponent(path)}`;
    };
    await grid.getByText('etc', { exact: true }).waitFor();
    const size = Number(process.env.OUTPOST_LARGE ?? 3 * GIB + 12_345);
    const large = join(there, 'large.img');
    sparse(large, size);
    const known = await sha256(large);

    await check(`${(size / GIB).toFixed(1)} GiB come down in constant memory`, async () => {
      peak(world.server.pid), peak(world.agent.pid);
      const before = [peak(world.server.pid), peak(world.agent.pid)];
      const from = Date.now();
      const { out, err } = run('browser', ['sh', '-c', `curl -skf '${await download(large)}' | sha256sum`], { milliseconds: 120_000 });
      const seconds = (Date.now() - from) / 1000;
      expect(out.startsWith(known), err || out);
      const after = [peak(world.server.pid), peak(world.agent.pid)];
      const words = `${seconds.toFixed(1)} s, peak of the server ${after[0].toFixed(1)} MiB (before ${before[0].toFixed(1)}), of the agent ${after[1].toFixed(1)} MiB (before ${before[1].toFixed(1)})`;
      expect(after.every((one, n) => one - before[n] <= MOST_MORE), words);
      return words;
    }, { seconds: 120 });

    await check('a download that was cut goes on where it was', async () => {
      const file = join(there, 'half.bin');
      sparse(file, 60_000_000);
      const part = join(world.scratch, 'half.part');
      const address = await download(file);
      const cut = start('curl', 'browser', ['curl', '-skf', '--limit-rate', '20M', '-o', part, address], { log: join(world.output, 'curl.log') });
      await until('nothing came', () => existsSync(part) && statSync(part).size > 5_000_000);
      await cut.stop('SIGKILL');
      const had = statSync(part).size;
      expect(had < 60_000_000, 'it was all there already');
      const { code, out, err } = run('browser', ['curl', '-skf', '-C', '-', '-o', part, '-w', '%{http_code} %{size_download}', address], { milliseconds: 30_000 });
      expect(code === 0 && out === `206 ${60_000_000 - had}`, `${code} ${out} ${err}`);
      expect((await sha256(part)) === (await sha256(file)), 'it is another file');
      return `${had} bytes were there`;
    }, { seconds: 40 });

    await check('an upload goes on after the agent was killed in its middle, and both sides have the same', async () => {
      await goTo(there);
      await entry('large.img').waitFor();
      mkdirSync(join(world.scratch, 'here'), { recursive: true });
      const here = join(world.scratch, 'here/upload.img');
      sparse(here, UPLOAD);
      peak(world.server.pid);
      const before = peak(world.server.pid);
      const from = Date.now();
      const [chooser] = await Promise.all([page.waitForEvent('filechooser'), page.getByRole('button', { name: 'Upload files' }).click()]);
      await chooser.setFiles(here);
      const target = join(there, 'upload.img');
      await until('nothing arrived', () => existsSync(target) && statSync(target).size > UPLOAD / 3, 60_000);
      const first = peak(world.agent.pid);
      await world.agent.stop('SIGKILL');
      const had = statSync(target).size;
      expect(had < UPLOAD, 'it was all there already');
      await transfers.getByText(/Waiting for the link|link to come back/).waitFor();
      await startAgent(world).line(/connected to wss/, 15_000);
      const fresh = peak(world.agent.pid);
      await transfers.getByText('Done, the same on both sides').waitFor({ timeout: 120_000 });
      expect((await sha256(target)) === (await sha256(here)), 'it is another file');
      const [server, agent] = [peak(world.server.pid), peak(world.agent.pid)];
      const words = `${((Date.now() - from) / 1000).toFixed(1)} s with ${(had / GIB).toFixed(2)} GiB there at the cut; peak of the server ${server.toFixed(1)} MiB (before ${before.toFixed(1)}), of the agent ${first.toFixed(1)} and ${agent.toFixed(1)} MiB (fresh ${fresh.toFixed(1)})`;
      expect(server - before <= MOST_MORE && agent - fresh <= MOST_MORE, words);
      rmSync(target), rmSync(here);
      await shot(page, world.output, 'files-work-dark');
      return words;
    }, { seconds: 180 });

    writeFileSync(join(there, 'sub/text'), 'hello '.repeat(1000));
    writeFileSync(join(there, 'sub/inner/Grüße 世界'), 'deep');
    writeFileSync(Buffer.concat([Buffer.from(`${there}/sub/odd`), Buffer.from([0xff, 0x0a, 0xc3])]), 'odd');
    symlinkSync('/etc/passwd', join(there, 'sub/link'));
    await check('a folder comes as an archive', async () => {
      await clear();
      await page.getByRole('button', { name: 'Refresh' }).click();
      await entry('sub').click();
      const [saved] = await Promise.all([page.waitForEvent('download', { timeout: 20_000 }), page.getByRole('button', { name: 'Download', exact: true }).first().click()]);
      expect(saved.suggestedFilename() === 'sub.zip', saved.suggestedFilename());
      const names = python('import sys, zipfile\nz = zipfile.ZipFile(sys.argv[1])\nassert z.testzip() is None\nassert z.read("sub/text") == b"hello " * 1000 and z.read("sub/inner/Grüße 世界") == b"deep"\nassert z.read("sub/link") == b"/etc/passwd"\nprint(len(z.namelist()))', await saved.path());
      expect(names === '6', names);
      return `${names} entries`;
    }, { seconds: 30 });
    await check('names that are no UTF-8 are shown, renamed and deleted', async () => {
      await goTo(join(there, 'sub'));
      await entry('odd\\xff␊\\xc3').click();
      await page.keyboard.press('F2');
      await page.getByLabel('New name').fill('plain');
      await page.keyboard.press('Enter');
      await entry('plain').waitFor();
      expect(readFileSync(join(there, 'sub/plain'), 'utf8') === 'odd', 'it is another file');
      await grid.getByText('→ /etc/passwd').waitFor();
      await entry('inner').waitFor();
    });
    await check('a text is edited in place, and nobody’s change is lost', async () => {
      const file = join(there, 'sub/notes.txt');
      writeFileSync(file, '\ufeffone\r\ntwo\r\n', { mode: 0o640 });
      await page.getByRole('button', { name: 'Refresh' }).click();
      await entry('notes.txt').waitFor();
      await act('notes.txt', 'Edit');
      const area = page.getByLabel('Text of the file');
      await area.waitFor();
      expect((await area.inputValue()) === 'one\ntwo\n', await area.inputValue());
      await area.fill('one\nzwei\n');
      await page.keyboard.press('Control+s');
      await page.getByText('Saved', { exact: true }).waitFor();
      expect(readFileSync(file, 'utf8') === '\ufeffone\r\nzwei\r\n' && (statSync(file).mode & 0o777) === 0o640, JSON.stringify(readFileSync(file, 'utf8')));
      writeFileSync(file, 'theirs\n');
      await area.fill('mine\n');
      await page.keyboard.press('Control+s');
      await page.getByText('Somebody changed this file since you opened it.').waitFor();
      expect(readFileSync(file, 'utf8') === 'theirs\n', 'their change is lost');
      await shot(page, world.output, 'editor-dark');
      await page.getByRole('button', { name: 'Show theirs' }).click();
      await until('their text is not shown', async () => (await area.inputValue()) === 'theirs\n');
      await page.getByRole('button', { name: 'Close the editor' }).click();
      expect(readdirSync(join(there, 'sub')).every((name) => !name.startsWith('.outpost-')), 'something is left beside');
    });
    await check('what is copied where the same is already asks, and both are kept', async () => {
      await entry('text').click();
      await page.keyboard.press('Control+c');
      await page.keyboard.press('Control+v');
      await on.inDialog(page, 'Keep both').click();
      await entry('text (2)').waitFor();
      expect(readFileSync(join(there, 'sub/text (2)')).equals(readFileSync(join(there, 'sub/text'))), 'it is another file');
      await entry('inner').click();
      await page.keyboard.press('Control+x');
      await goTo(there);
      await entry('sub').waitFor();
      await page.getByRole('button', { name: 'Move it here' }).click();
      await entry('inner').waitFor();
      expect(existsSync(join(there, 'inner/Grüße 世界')) && !existsSync(join(there, 'sub/inner')), readdirSync(there).join());
    });
    await check('an archive is made on the device and taken apart; a bomb and one that leads out are refused', async () => {
      await act('sub', 'Make an archive…');
      await page.getByLabel('Name of the archive').fill('made.zip');
      await page.keyboard.press('Enter');
      await entry('made.zip').waitFor();
      python('import sys, zipfile\nassert zipfile.ZipFile(sys.argv[1]).testzip() is None', join(there, 'made.zip'));
      rmSync(join(there, 'sub'), { recursive: true });
      await act('made.zip', 'Unpack here');
      await until('it was not taken apart', () => existsSync(join(there, 'sub/notes.txt')));
      python('import sys, zipfile\nz = zipfile.ZipFile(sys.argv[1] + "/slip.zip", "w")\nz.writestr("good", "x")\nz.writestr("../../slipped", "x")\nz.close()\nz = zipfile.ZipFile(sys.argv[1] + "/bomb.zip", "w", zipfile.ZIP_DEFLATED)\nwith z.open("zeros", "w", force_zip64=True) as f:\n    block = bytes(1 << 20)\n    for n in range(1200): f.write(block)\nz.close()', there);
      await page.getByRole('button', { name: 'Refresh' }).click();
      for (const [name, words] of [['slip.zip', 'leads out of the folder'], ['bomb.zip', 'which is what a bomb does']]) {
        await entry(name).waitFor();
        await act(name, 'Unpack here');
        await transfers.getByText(words).waitFor();
      }
      expect(!existsSync(join(there, 'good')) && !existsSync(join(there, 'zeros')) && !existsSync(join(world.scratch, 'slipped')), 'something was written');
    }, { seconds: 45 });
    await check('names are found below a folder', async () => {
      await page.getByRole('button', { name: 'Search by name' }).click();
      await page.getByLabel('Name to look for').fill('grüße*');
      await page.keyboard.press('Enter');
      await page.getByText('1 hit', { exact: true }).waitFor();
      await shot(page, world.output, 'search-dark');
      await page.getByRole('button', { name: 'inner/Grüße 世界' }).click();
      await entry('Grüße 世界').waitFor();
    });
    await check('it can be used on a phone', async () => {
      await page.setViewportSize(PHONE);
      await shot(page, world.output, 'files-phone');
      await page.emulateMedia({ colorScheme: 'light' });
      await shot(page, world.output, 'files-light');
      expect((await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)) <= 0, 'the page is wider than the phone');
    });
    await page.context().close();
    rmSync(there, { recursive: true, force: true });
  },
};
