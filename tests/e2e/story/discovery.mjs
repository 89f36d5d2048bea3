/** How the agent finds its server: by multicast alone, or by its address where nothing answers. */
import { join } from 'node:path';
import { STATE } from '../machine.mjs';
import { run, start } from '../processes.mjs';
import { check, expect } from '../report.mjs';
import { startAgent } from './enrolment.mjs';
import { RECORDING } from './recording.mjs';

export const finds = {
  title: '11. Finding the server',
  async run(world) {
    const { server } = world;
    await check('outpost.local is answered on the LAN', async () => {
      const { out, err } = run('stranger', [process.execPath, new URL('../ask-name.mjs', import.meta.url).pathname, 'outpost.local'], { milliseconds: 8000 });
      expect(out.trim() === '10.77.0.1', out + err);
      return out.trim();
    });
    await check('a second server on the LAN is outpost-2.local, and the first one stays', async () => {
      const folder = join(world.scratch, 'second');
      const second = start('second', 'stranger', [world.server.program, '--datapath', folder], { log: join(world.output, 'second.log') });
      try {
        await second.line(/this one is outpost-2\.local/, 20_000);
        const ask = (name) => run('browser', [process.execPath, new URL('../ask-name.mjs', import.meta.url).pathname, name], { milliseconds: 8000 }).out.trim();
        expect(ask('outpost-2.local') === '10.77.0.4', `outpost-2.local: ${ask('outpost-2.local')}`);
        expect(ask('outpost.local') === '10.77.0.1', `outpost.local: ${ask('outpost.local')}`);
      } finally {
        await second.stop();
      }
    }, { seconds: 60 });
    await world.agent.stop();
    // The settings name the local network and an address, with an identity for each.
    const id = /^ServerID=([0-9A-F]{96})/m.exec(world.device.read(`${STATE}/outpost-agent.msh`))?.[1];
    const localOnly = ['-k', 'MeshServer=local', '-k', `ServerID=${id}`];
    await check('by multicast alone', async () => {
      const { text } = await startAgent(world, localOnly).line(/connected to wss.*local network/, 20_000);
      await world.agent.stop();
      return text.replace(/^.*connected/, 'connected');
    });
    await server.process.stop();
    await server.start({ settings: { sessionKey: 'a key that only this test has, long enough', meshScanner: false }, ...RECORDING });
    await check('without an answer, by multicast alone it stays away and says so', async () => {
      const { text } = await startAgent(world, localOnly).line(/not connected/, 20_000);
      expect(!world.agent.lines.some((line) => /(^|[^t] )connected to wss/.test(line.text)), 'it connected');
      await world.agent.stop();
      return text.replace(/^.*not connected/, 'not connected');
    });
    await check('without an answer, by the address in its settings', async () => {
      const { text } = await startAgent(world).line(/ connected to wss|^connected to wss/, 30_000);
      expect(!/local network/.test(text), text);
      return text.replace(/^.*connected/, 'connected');
    }, { seconds: 35 });
    await world.agent.stop();
    await server.process.stop();
    await server.start({ settings: { sessionKey: 'a key that only this test has, long enough' }, ...RECORDING });
    await check('with an answer, by the local network although an address is given', async () => {
      const { text } = await startAgent(world).line(/connected to wss/, 20_000);
      expect(/local network/.test(text), text);
      return text.replace(/^.*connected/, 'connected');
    });
  },
};
