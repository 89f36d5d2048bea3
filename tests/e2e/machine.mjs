/**
 * The machine that is managed: files of its own where an installation writes, a name of its own, and a `systemctl` that
 * notes what it is asked, since there is no systemd here that could be asked. The agent itself then decides that systemd
 * runs, by the same folder that the real one makes.
 */
import { chmodSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { namespace } from './network.mjs';
import { run, start } from './processes.mjs';

export const PROGRAM = '/usr/local/lib/outpost-agent/outpost-agent';
export const UNIT = '/etc/systemd/system/outpost-agent.service';
export const STATE = '/var/lib/outpost-agent';

export class Machine {
  /** `machine` is the namespace on the LAN (or the lie), `folder` scratch space, `name` its host name. */
  constructor(machine, name, folder) {
    this.calls = join(folder, `systemctl-${name}.log`);
    const bin = join(folder, `bin-${name}`);
    run(null, ['mkdir', '-p', bin]);
    const systemctl = join(bin, 'systemctl');
    writeFileSync(systemctl, `#!/bin/sh\necho "$*" >>'${this.calls}'\ncase "$1" in\n    daemon-reload | enable | disable | start | restart | stop) exit 0 ;;\n    *) echo "unexpected: $*" >&2; exit 1 ;;\nesac\n`);
    chmodSync(systemctl, 0o755);
    this.path = `${bin}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`;
    this.log = join(folder, `machine-${name}.log`);
    const ready = join(folder, `ready-${name}`);
    const setup = [
      'mount --make-rprivate /',
      ...['/usr/local/lib', '/var/lib', '/etc/systemd/system', '/run', '/root'].map((place) => `mount -t tmpfs -o mode=755 none ${place}`),
      // The /sys of before tells of the network of before.
      'mount -t sysfs none /sys',
      'mkdir -p /run/systemd/system',
      `hostname ${name}`,
      `touch ${ready}`,
      'exec sleep 3600',
    ].join(' && ');
    run(null, ['mkdir', '-p', '/etc/systemd/system']);
    this.holder = start(`machine ${name}`, null, ['nsenter', `--net=/run/netns/${namespace(machine)}`, 'unshare', '--mount', '--uts', 'sh', '-c', setup], { log: this.log });
    this.ready = async () => {
      for (let wait = 0; wait < 100 && !existsSync(ready); wait += 1) await new Promise((done) => setTimeout(done, 50));
      if (!existsSync(ready)) throw new Error(`the machine ${name} could not be set up: ${readFileSync(this.log, 'utf8')}`);
    };
    this.env = { PATH: this.path, HOME: '/root', USER: 'root', TERM: 'dumb' };
  }

  #inside(words) {
    return ['nsenter', '-t', String(this.holder.pid), '--mount', '--net', '--uts', ...words];
  }

  /** Runs words on the machine to their end. */
  run(words, options = {}) {
    return run(null, this.#inside(words), { ...options, env: this.env });
  }

  /** Runs a line as a person would paste it into a root shell, in a folder of its own. */
  paste(line) {
    return this.run(['sh', '-c', 'mkdir -p /root/pasted && cd /root/pasted && rm -f ./* && eval "$LINE"'].map((word) => word.replace('$LINE', '$(cat)')), { input: line, milliseconds: 60_000 });
  }

  /** Starts a program that stays. */
  start(name, words, log) {
    // Services know their invocation; the agent tells by it that it is one.
    return start(name, null, this.#inside(words), { log, env: { ...this.env, INVOCATION_ID: '0'.repeat(32) } });
  }

  read(path) {
    const { code, out } = this.run(['cat', path]);
    return code === 0 ? out : null;
  }

  /** What systemctl has been asked, in order. */
  asked() {
    return existsSync(this.calls) ? readFileSync(this.calls, 'utf8').trim().split('\n') : [];
  }

  /** The words of `ExecStart=` in the unit that was installed. */
  execStart() {
    const line = /^ExecStart=(.+)$/m.exec(this.read(UNIT) ?? '')?.[1];
    if (!line) throw new Error('the unit has no ExecStart');
    return line.split(' ');
  }
}
