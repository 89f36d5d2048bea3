/** A chat between the app and whoever sits at the device, who has nothing but the link that the agent was given. */
import { axe, DESK, open, PHONE, shot, URL_OF_SERVER } from '../browser.mjs';
import { check, expect } from '../report.mjs';
import { page as on } from '../words.mjs';

const ASIDE = 'Is the label printer on?\nIt should show a green light.';

/** A picture and what axe finds, in the dark and the light. */
async function looks(page, output, name) {
  const findings = [];
  for (const theme of ['dark', 'light']) {
    await page.emulateMedia({ colorScheme: theme });
    await page.waitForTimeout(300);
    await shot(page, output, `${name}-${theme}`);
    findings.push(...(await axe(page)).map((finding) => `${theme}: ${finding}`));
  }
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  if (wide > 0) findings.push(`${wide} px wider than the screen`);
  expect(findings.length === 0, findings.join('\n'));
}

export const talk = {
  title: '8c. A chat with whoever sits at the device',
  async run(world) {
    const state = await world.list.context().storageState();
    for (const [look, size] of [['chat', DESK], ['chat-phone', PHONE]]) {
      const person = await open(world.browser, world.deviceUrl, { size, state });
      const name = await on.deviceTitle(person).innerText();
      const panel = person.getByRole('region', { name: `Chat with ${name}` });
      let there;
      await check(`the app opens a chat, and says that this device has no browser (${look})`, async () => {
        await on.actions(person, name).click();
        await on.menuItem(person, 'Chat…').click();
        await panel.getByText('could not open the page').waitFor();
        const link = new URL((await panel.locator('code').innerText()).trim());
        expect(link.pathname === '/messenger', String(link));
        await panel.getByLabel('Write a message').fill(ASIDE);
        await person.keyboard.press('Enter');
        // Whoever sits there has another browser, and no account.
        there = await open(world.browser, '/mark.svg', { size, expected: ['404'] });
        await there.goto(URL_OF_SERVER + link.pathname + link.search);
        await there.getByRole('heading', { name: 'wants to talk to you' }).waitFor();
        await there.getByRole('log').getByText('Is the label printer on?').waitFor();
        expect((await there.context().cookies()).length === 0, 'a cookie was set');
      });
      await check(`both write, and see that the other does (${look})`, async () => {
        await panel.getByText(`Somebody at ${name} is here.`).waitFor();
        await there.getByLabel('Write a message').pressSequentially('<i>Yes</i>, it is red');
        await panel.getByText('is writing…').waitFor();
        await there.getByRole('button', { name: 'Send' }).click();
        await panel.getByRole('log').getByText('<i>Yes</i>, it is red').waitFor();
        await panel.getByLabel('Write a message').fill('Then the lid is open. Please close it.');
        await person.keyboard.press('Enter');
        await there.getByRole('log').getByText('Please close it.').waitFor();
        await looks(person, world.output, `${look}-app`);
        await looks(there, world.output, `${look}-device`);
      });
      await check(`the chat ends for both, and its link with it (${look})`, async () => {
        await panel.getByRole('button', { name: 'End the chat' }).click();
        await there.getByText('The chat has ended.').waitFor();
        const again = await there.goto(there.url());
        expect(again?.status() === 404, `the link answers ${again?.status()}`);
        await there.getByRole('heading', { name: 'This chat has ended' }).waitFor();
      });
      await there?.context().close();
      await person.context().close();
    }
  },
};
