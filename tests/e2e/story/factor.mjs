/** The second factor in the app, and login tokens: set up, asked for, spared with a backup code, taken away. */
import { createHmac } from 'node:crypto';
import { open, shot, URL_OF_SERVER } from '../browser.mjs';
import { check, expect } from '../report.mjs';
import { page as on } from '../words.mjs';
import { login } from './power.mjs';
import { ADMIN } from './setup.mjs';

/** The six digits of an authenticator app (RFC 6238) for a base-32 secret. */
function totp(secret, now = Date.now()) {
  const bits = [...secret].map((letter) => 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'.indexOf(letter).toString(2).padStart(5, '0')).join('');
  const key = Buffer.from(bits.match(/.{8}/g).map((byte) => Number.parseInt(byte, 2)));
  const step = Buffer.alloc(8);
  step.writeBigUInt64BE(BigInt(Math.floor(now / 30_000)));
  const hash = createHmac('sha1', key).update(step).digest();
  return String((hash.readUInt32BE(hash.at(-1) & 15) & 0x7fffffff) % 1_000_000).padStart(6, '0');
}

export const factor = {
  title: '15. A second factor, and login tokens',
  async run(world) {
    const page = await open(world.browser, '/app/account', { expected: ['401'] });
    await login(page, ADMIN);
    await page.goto(`${URL_OF_SERVER}/app/account`);
    let spare = '';
    await check('an authenticator app is set up once its code fits', async () => {
      await page.getByRole('button', { name: 'Set up an authenticator app' }).click();
      const dialog = on.dialog(page);
      const secret = (await dialog.getByRole('group', { name: /secret/ }).innerText()).replace(/[^A-Z2-7]/g, '');
      expect(/^[A-Z2-7]{16,}$/.test(secret), secret);
      const right = totp(secret);
      await dialog.getByLabel('Code that the app shows').fill(right === '000000' ? '000001' : '000000');
      await dialog.getByRole('button', { name: 'Turn on' }).click();
      await dialog.getByText('That code does not fit.').waitFor();
      await shot(page, world.output, 'second-factor-dark');
      await dialog.getByLabel('Code that the app shows').fill(totp(secret));
      await dialog.getByRole('button', { name: 'Turn on' }).click();
      await page.getByRole('heading', { name: 'Backup codes' }).waitFor();
      const codes = await dialog.getByRole('listitem').allInnerTexts();
      expect(codes.length === 10 && codes.every((code) => /^\d{4} \d{4}$/.test(code)), codes.join(', '));
      spare = codes[0].replace(' ', '');
    });
    const again = await open(world.browser, '/', { expected: ['401', '429'] });
    await check('logging in asks for the code, and a wrong one is refused', async () => {
      await on.userName(again).fill(ADMIN.name);
      await on.password(again).fill(ADMIN.password);
      await on.logIn(again).click();
      await again.getByLabel('Code of your second factor').fill('123');
      await on.logIn(again).click();
      await again.getByRole('alert').waitFor();
      expect(await on.logIn(again).isVisible(), 'it is let in');
      return again.getByRole('alert').innerText();
    });
    await check('a backup code opens the account, and once only', async () => {
      await again.getByLabel('Code of your second factor').fill(spare);
      await on.logIn(again).click();
      await on.login(again).waitFor({ state: 'hidden' });
      const status = await again.evaluate(async ([username, password, token]) => (await fetch('/api/login', { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ username, password, token }) })).status, [ADMIN.name, ADMIN.password, spare]);
      expect(status === 401, `the second time it is answered with ${status}`);
    });
    await again.context().close();
    await check('a login token opens the account without the factor, until it is removed', async () => {
      await page.getByRole('dialog').getByRole('button', { name: 'Close' }).last().click();
      await page.getByRole('button', { name: 'Create a token' }).click();
      await page.getByLabel('What for').fill('nightly script');
      await on.inDialog(page, 'Create').click();
      const user = (await page.getByRole('group', { name: 'User name' }).innerText()).trim().split('\n')[0];
      const password = (await page.getByRole('group', { name: 'Password' }).innerText()).trim().split('\n')[0];
      const status = () => page.evaluate(async ([username, password]) => (await fetch('/api/login', { method: 'POST', credentials: 'omit', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ username, password }) })).status, [user, password]);
      expect((await status()) === 200, `the token ${user} does not log in`);
      await page.getByRole('dialog').getByRole('button', { name: 'Close' }).last().click();
      await page.getByRole('button', { name: 'Remove: nightly script' }).click();
      await on.inDialog(page, 'Remove').click();
      await page.getByText('The token was removed.').waitFor();
      expect((await status()) === 401, 'it still logs in');
    });
    await check('and it is turned off again', async () => {
      await page.getByRole('button', { name: 'Turn off' }).click();
      await on.inDialog(page, 'Turn off').click();
      await page.getByRole('button', { name: 'Set up an authenticator app' }).waitFor();
    });
    await page.context().close();
  },
};
