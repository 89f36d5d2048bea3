/**
 * A machine with a real systemd: its own process, mount and host-name namespaces, over a copy of this system's files that is
 * thrown away, with only the units that a small machine needs.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run, start, tail } from './processes.mjs';

/** Units of this system that have no business in a test. */
const MASKED = ['getty@', 'systemd-networkd', 'systemd-resolved', 'systemd-udevd', 'systemd-timesyncd', 'systemd-modules-load', 'systemd-logind', 'networking', 'ssh', 'cron', 'docker'];

const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

export class SystemdMachine {
  /**
   * `network` is a path of a network namespace, or null for an empty one of its own; `name` the host name; `folder` scratch space.
   * Folders in `empty` begin empty, everything else as it is on this system.
   */
  constructor({ name, network, folder, log, empty = [] }) {
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
        ...['run', 'tmp', 'root', ...empty].map((place) => `mount -t tmpfs -o mode=755 none ${root}/${place}`),
        `mount --bind /dev ${root}/dev`,
        `mkdir -p ${root}/sys/fs/cgroup`,
        `mount --rbind /sys/fs/cgroup ${root}/sys/fs/cgroup`,
        ...MASKED.map((unit) => `ln -sf /dev/null ${root}/etc/systemd/system/${unit}.service`),
        // systemd gives the machine the name it finds here.
        `echo ${name} >${root}/etc/hostname`,
        `exec chroot ${root} /usr/bin/env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --unit=basic.target --log-target=console`,
      ].join('\n'),
    );
    this.log = log;
    const enter = network ? ['nsenter', `--net=${network}`, 'unshare'] : ['unshare', '--net'];
    this.holder = start('systemd', null, [...enter, '--pid', '--mount', '--uts', '--ipc', '--fork', '--kill-child', 'sh', script], { log });
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

  /** What systemd says of a unit. */
  show(unit, property) {
    return this.run(`systemctl show -p ${property} --value ${unit}`).out.trim();
  }
}
