/** The same line on a machine with a real systemd. */
import { join } from 'node:path';
import { PROGRAM, STATE, UNIT } from '../machine.mjs';
import { namespace } from '../network.mjs';
import { tail } from '../processes.mjs';
import { check, expect } from '../report.mjs';
import { SystemdMachine } from '../systemd-machine.mjs';

const NAME = 'bench-systemd';
const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

/** How often the machine has connected, as the server's log says. */
const connections = (world) => tail(world.server.log, 100_000).split('\n').filter((line) => line.includes(`${NAME} (`) && line.includes('connected from')).length;

async function until(what, so, seconds = 20) {
  const from = Date.now();
  while (!so()) {
    if (Date.now() - from > seconds * 1000) throw new Error(`never came: ${what}`);
    await pause(100);
  }
  return `${((Date.now() - from) / 1000).toFixed(1)} s`;
}

export const service = {
  title: '12b. A machine with a real systemd',
  async run(world) {
    const machine = new SystemdMachine({
      name: NAME,
      network: `/run/netns/${namespace('device')}`,
      folder: world.scratch,
      log: join(world.output, 'systemd.log'),
      empty: ['usr/local/lib', 'var/lib'],
    });
    try {
      await check('systemd comes up in its namespaces', () => machine.ready(), { seconds: 30 });
      await check('the line installs and starts the service', async () => {
        const { code, out, err } = machine.run(world.line);
        expect(code === 0, out + err);
        expect(machine.run('systemctl is-enabled outpost-agent').out.trim() === 'enabled', 'not enabled');
        return until('the service is active', () => machine.show('outpost-agent', 'ActiveState') === 'active');
      }, { seconds: 60 });
      await check('it says that it is connected, to systemd and to the journal', async () => {
        await until('its status', () => machine.show('outpost-agent', 'StatusText').includes('connected'));
        expect(machine.run('journalctl -u outpost-agent --no-pager').out.includes('connected to wss://'), 'nothing in the journal');
        await until('the server has it', () => connections(world) >= 1);
        return machine.show('outpost-agent', 'StatusText');
      });
      await check('killed, it is started again by itself', async () => {
        const before = connections(world);
        machine.run(`kill -9 ${machine.show('outpost-agent', 'MainPID')}`);
        return until('it is connected again', () => connections(world) > before, 30);
      }, { seconds: 40 });
      await check('pasting the line again upgrades in place', async () => {
        const before = connections(world);
        const { code, out, err } = machine.run(world.line);
        expect(code === 0, out + err);
        await until('it is connected again', () => connections(world) > before);
        expect(machine.show('outpost-agent', 'ActiveState') === 'active', machine.show('outpost-agent', 'ActiveState'));
      }, { seconds: 60 });
      await check('uninstalled with --purge, nothing of it is left', async () => {
        const { code, out, err } = machine.run(`${PROGRAM} uninstall --purge`);
        expect(code === 0, out + err);
        const left = machine.run(`ls -d ${PROGRAM} ${UNIT} ${STATE} 2>/dev/null; systemctl is-active outpost-agent`).out.trim();
        expect(!left.includes('/'), left);
        expect(!/^active/m.test(left), left);
      });
    } finally {
      await machine.holder.stop('SIGKILL');
    }
  },
};
