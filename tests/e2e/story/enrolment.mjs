/** The line is pasted on a device, and the device appears. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { open, shots } from '../browser.mjs';
import { Machine, PROGRAM, STATE, UNIT } from '../machine.mjs';
import { ADDRESS } from '../network.mjs';
import { run, start } from '../processes.mjs';
import { check, expect } from '../report.mjs';
import { page as on } from '../words.mjs';

export const DEVICE = 'bench-one';

export const install = {
  title: '4. The line is run on the device',
  needed: true,
  async run(world) {
    const { scratch, line, output } = world;
    const device = (world.device = new Machine('device', DEVICE, scratch));
    const victim = new Machine('lie', 'victim', scratch);
    await Promise.all([device.ready(), victim.ready()]);
    const script = /'(https:[^']+install\.sh[^']*)'/.exec(line)?.[1];
    const original = run('device', ['curl', '-sk', script]).out;
    const agent = join(scratch, 'programs/outpost-agent');
    const key = join(scratch, 'liar.key');
    const made = run(null, ['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2', '-subj', '/CN=liar', '-keyout', key, '-out', `${key}.crt`]);
    if (made.code !== 0) throw new Error(made.err);
    const nothingInstalled = () => {
      expect(victim.read(UNIT) === null && victim.read(PROGRAM) === null, 'something was installed');
      expect(victim.asked().join() === '', `systemctl was asked: ${victim.asked()}`);
    };
    const lie = async (change, words) => {
      writeFileSync(join(scratch, 'lie.json'), JSON.stringify({ ...change, key, certificate: `${key}.crt`, agent }));
      const liar = start('liar', 'lie', [process.execPath, new URL('../liar.mjs', import.meta.url).pathname, join(scratch, 'lie.json')], { log: join(output, 'liar.log') });
      try {
        await liar.line(/listening/);
        const { code, out, err } = victim.paste(line);
        expect(code !== 0, `the line succeeded: ${out}`);
        await liar.line(/install\.sh/, 2000);
        expect(words.test(out + err), out + err);
        nothingInstalled();
        return (out + err).trim().split('\n').at(-1);
      } finally {
        await liar.stop();
      }
    };
    await check('a script altered on its way is refused by the hash in the line', () => lie({ script: `${original}\ntouch /root/owned\n` }, /FAILED|did NOT match/));
    await check('an agent altered on its way is refused by the hash in the script', () => lie({ script: original, alter: true }, /not the one this script was made for/));
    await victim.holder.stop();
    await check('the line installs the agent', async () => {
      const { code, out, err } = device.paste(line);
      expect(code === 0, out + err);
      return out.trim().split('\n').at(-1);
    }, { seconds: 60 });
    await check('program, unit and private settings are in place', async () => {
      const mode = (path) => device.run(['stat', '-c', '%a', path]).out.trim();
      expect(mode(PROGRAM) === '755', `program ${mode(PROGRAM)}`);
      expect(mode(`${STATE}/outpost-agent.msh`) === '600', `settings ${mode(`${STATE}/outpost-agent.msh`)}`);
      expect(/Restart=always/.test(device.read(UNIT) ?? ''), 'no unit');
      const local = device.run(['sha256sum', PROGRAM]).out.split(' ')[0];
      expect(local === run(null, ['sha256sum', agent]).out.split(' ')[0], 'another program');
    });
    await check('systemd is asked to enable and start it', async () => {
      const asked = device.asked();
      expect(asked.includes('daemon-reload'), asked.join('; '));
      expect(asked.some((words) => /^enable .*outpost-agent/.test(words)), asked.join('; '));
      expect(asked.some((words) => /^(restart|start) outpost-agent|^enable --now/.test(words)), asked.join('; '));
      return asked.join('; ');
    });
    // The second page on which the device has to appear.
    world.list = await open(world.browser, '/app/devices', { state: await world.page.context().storageState() });
    await on.noDevices(world.list).waitFor();
    await world.list.evaluate(() => (window.untouched = true));
  },
};

/** The device's identifier, from the address of its page. */
export const nodeId = (world) => `node//${decodeURIComponent(world.deviceUrl.split('/').at(-1))}`;

/** Starts the agent as its unit says. */
export function startAgent(world, more = []) {
  world.agent = world.device.start('agent', [...world.device.execStart(), ...more], join(world.output, 'agent.log'));
  return world.agent;
}

export const appears = {
  title: '5. The device appears',
  needed: true,
  async run(world) {
    const { page, list, output } = world;
    const row = on.device(list, DEVICE);
    await check('in the open list within a second of its connection, without reload', async () => {
      const appeared = row.waitFor({ timeout: 15_000 }).then(() => Date.now());
      const welcomed = on.connected(page, DEVICE).waitFor({ timeout: 15_000 }).then(() => Date.now());
      const agent = startAgent(world);
      const { at, text } = await agent.line(/connected to wss/, 15_000);
      const after = Math.max(await appeared, await welcomed) - at;
      expect(after <= 1000, `${after} ms after its connection`);
      expect(await list.evaluate(() => window.untouched === true), 'the page was reloaded');
      return `${after} ms; ${text.replace(/^.*connected/, 'connected')}`;
    });
    await check('online, with system and address', async () => {
      await on.state(row, 'Online').waitFor();
      await row.getByText(ADDRESS.device).waitFor();
      const words = await row.innerText();
      expect(/Debian|Linux/.test(words), words);
      return words.replaceAll('\n', ' ');
    });
    await shots(page, output, 'welcome');
    await check('its page tells agent version, system, address and hardware', async () => {
      await on.deviceLink(list, DEVICE).click();
      const general = on.general(list);
      await general.getByText(ADDRESS.device).first().waitFor();
      await general.getByText(/\d+\.\d+\.\d+/).first().waitFor();
      await list.waitForFunction(() => !/has not reported its hardware/.test(document.body.innerText) && /Processor/.test(document.body.innerText));
      world.deviceUrl = new URL(list.url()).pathname;
      const facts = await list.locator('dl').first().innerText();
      expect(/Version\n[^\n]*\d+\.\d+\.\d+/.test(facts) || /\d+\.\d+\.\d+/.test(facts), facts);
      return facts.replaceAll('\n', ' ').slice(0, 160);
    });
  },
};
