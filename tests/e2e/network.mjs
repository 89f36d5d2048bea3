/**
 * A LAN of our own: network namespaces joined by a bridge in one more namespace, so that nothing of it can be seen
 * from this machine's network. Names carry this process's id.
 */
import { execFileSync } from 'node:child_process';

const PREFIX = `op${process.pid}`;

/** Address of each machine on the LAN 10.77.0.0/24. */
export const ADDRESS = {
  server: '10.77.0.1',
  device: '10.77.0.2',
  browser: '10.77.0.3',
  stranger: '10.77.0.4',
};

export const namespace = (machine) => `${PREFIX}-${machine}`;

const ip = (...words) => execFileSync('ip', words, { stdio: ['ignore', 'pipe', 'pipe'], timeout: 10_000 }).toString();

/** Makes the bridge and a namespace for each machine. */
export function connect() {
  const hub = namespace('hub');
  ip('netns', 'add', hub);
  // Without a multicast router a snooping bridge would forget who listens.
  ip('-n', hub, 'link', 'add', 'lan', 'type', 'bridge', 'mcast_snooping', '0');
  ip('-n', hub, 'link', 'set', 'lan', 'up');
  for (const [machine, address] of Object.entries(ADDRESS)) {
    const own = namespace(machine);
    ip('netns', 'add', own);
    ip('-n', own, 'link', 'set', 'lo', 'up');
    ip('-n', own, 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', machine, 'netns', hub);
    ip('-n', hub, 'link', 'set', machine, 'master', 'lan', 'up');
    ip('-n', own, 'address', 'add', `${address}/24`, 'brd', '+', 'dev', 'eth0');
    ip('-n', own, 'link', 'set', 'eth0', 'up');
    ip('-n', own, 'route', 'add', '224.0.0.0/4', 'dev', 'eth0');
  }
  // A machine that believes it talks to the server, and is alone with a liar.
  const lie = namespace('lie');
  ip('netns', 'add', lie);
  ip('-n', lie, 'link', 'set', 'lo', 'up');
  ip('-n', lie, 'address', 'add', `${ADDRESS.server}/32`, 'dev', 'lo');
}

/** Removes every namespace of this run; what is not there is no failure. */
export function disconnect() {
  for (const machine of [...Object.keys(ADDRESS), 'lie', 'hub']) {
    try {
      ip('netns', 'delete', namespace(machine));
    } catch {
      // Never made, or gone already.
    }
  }
}

/** Open ports of a machine as `tcp 443`, sorted and each once. */
export function openPorts(machine) {
  const lines = execFileSync('ip', ['netns', 'exec', namespace(machine), 'ss', '-H', '-ltun'], { timeout: 10_000 }).toString().trim().split('\n');
  const ports = lines.filter(Boolean).map((line) => {
    const words = line.trim().split(/\s+/);
    return `${words[0]} ${words[4].split(':').at(-1)}`;
  });
  return [...new Set(ports)].sort();
}
