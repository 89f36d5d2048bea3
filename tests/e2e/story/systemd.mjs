/**
 * The same line on a machine with a real systemd: its own process, mount and host-name namespaces, over a copy of this
 * system's files that is thrown away, with only the units that a small machine needs.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PROGRAM, STATE, UNIT } from '../machine.mjs';
import { namespace } from '../network.mjs';
import { run, start, tail } from '../processes.mjs';
import { check, expect } from '../report.mjs';

const NAME = 'bench-systemd';
/** Units of this system that have no business in a test. */
const MASKED = ['getty@', 'systemd-networkd', 'systemd-resolved', 'systemd-udevd', 'systemd-timesyncd', 'systemd-modules-load', 'systemd-logind', 'networking', 'ssh', 'cron', 'docker'];

const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

class SystemdMachine {
  constructor(machine, folder, log) {
    this.root = join(folder, 'systemd-root');
    const layers = join(folder, 'systemd-layers');
    run(null, ['mkdir', '-p', this.root, layers]);
    const script = join(folder, 'systemd.sh');
    const { root } = this;
    writeFileSync(
      script,
      [
        'set -e',
        'mount --make-rprivate /',
        `mount -t tmpfs none ${layers}`,
        `mkdir ${layers}/upper ${layers}/work`,
        `mount -t overlay overlay -o lowerdir=/,upperdir=${layers}/upper,workdir=${layers}/work ${root}`,
        `mount -t proc proc ${root}/proc`,
        `mount -t sysfs sysfs ${root}/sys`,
        ...['run', 'tmp', 'usr/local/lib', 'var/lib', 'root'].map((place) => `mount -t tmpfs -o mode=755 none ${root}/${place}`),
        `mount --bind /dev ${root}/dev`,
        `mkdir -p ${root}/sys/fs/cgroup`,
        `mount --rbind /sys/fs/cgroup ${root}/sys/fs/cgroup`,
        ...MASKED.map((unit) => `ln -sf /dev/null ${root}/etc/systemd/system/${unit}.service`),
        // systemd gives the machine the name it finds here.
        `echo ${NAME} >${root}/etc/hostname`,
        `exec chroot ${root} /usr/bin/env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --unit=basic.target --log-target=console`,
      ].join('\n'),
    );
    this.log = log;
    this.holder = start('systemd', null, ['nsenter', `--net=/run/netns/${namespace(machine)}`, 'unshare', '--pid', '--mount', '--uts', '--ipc', '--fork', '--kill-child', 'sh', script], { log });
  }

  /** Waits until systemd has come up. */
  async ready() {
    for (let wait = 0; wait < 100; wait += 1) {
      await pause(200);
      if (this.holder.ended) break;
      this.pid = run(null, ['pgrep', '-P', String(this.holder.pid)]).out.trim();
      if (this.pid && /^(running|degraded)/.test(this.run('systemctl is-system-running 2>/dev/null').out)) return;
    }
    throw new Error(`systemd did not come up: ${tail(this.log)}`);
  }

  /** Runs a line in a root shell there. */
  run(line, milliseconds = 60_000) {
    const env = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', HOME: '/root', USER: 'root' };
    return run(null, ['nsenter', '-t', this.pid, '--mount', '--uts', '--ipc', '--net', '--pid', 'chroot', this.root, 'sh', '-c', `cd /root; ${line}`], { milliseconds, env });
  }

  show(property) {
    return this.run(`systemctl show -p ${property} --value outpost-agent`).out.trim();
  }
}

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
    const machine = new SystemdMachine('device', world.scratch, join(world.output, 'systemd.log'));
    try {
      await check('systemd comes up in its namespaces', () => machine.ready(), { seconds: 30 });
      await check('the line installs and starts the service', async () => {
        const { code, out, err } = machine.run(world.line);
        expect(code === 0, out + err);
        expect(machine.run('systemctl is-enabled outpost-agent').out.trim() === 'enabled', 'not enabled');
        return until('the service is active', () => machine.show('ActiveState') === 'active');
      }, { seconds: 60 });
      await check('it says that it is connected, to systemd and to the journal', async () => {
        await until('its status', () => machine.show('StatusText').includes('connected'));
        expect(machine.run('journalctl -u outpost-agent --no-pager').out.includes('connected to wss://'), 'nothing in the journal');
        await until('the server has it', () => connections(world) >= 1);
        return machine.show('StatusText');
      });
      await check('killed, it is started again by itself', async () => {
        const before = connections(world);
        machine.run(`kill -9 ${machine.show('MainPID')}`);
        return until('it is connected again', () => connections(world) > before, 30);
      }, { seconds: 40 });
      await check('pasting the line again upgrades in place', async () => {
        const before = connections(world);
        const { code, out, err } = machine.run(world.line);
        expect(code === 0, out + err);
        await until('it is connected again', () => connections(world) > before);
        expect(machine.show('ActiveState') === 'active', machine.show('ActiveState'));
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
