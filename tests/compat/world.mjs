/** What every case may rely on: people, a group and devices, the same on both servers. */
import { ask, meshctrl } from './client.mjs';
import { ADMIN, PASSWORD, startAgent } from './servers.mjs';

/** An id that no server has given to anything. */
export const NOBODY = 'A'.repeat(64);

async function done(server, command, words) {
  const { exit, output } = await meshctrl(server, command, words);
  if (exit !== 0 || !/^ok/.test(output)) throw new Error(`${server.name}: ${command} ${words.join(' ')}: ${output}`);
  return output.trim().split(' ')[1];
}

/** Whether the agent has told its hardware and its network. */
async function described(server, nodeid) {
  const questions = [{ action: 'getnetworkinfo', nodeid }, { action: 'getsysinfo', nodeid }];
  const answers = (await ask(server, questions, { enough: (_, all) => all.filter(({ action }) => action.startsWith('get')).length === 2 })).filter(({ action }) => action.startsWith('get'));
  return answers.length === 2 && answers.every((answer) => answer.netif2 || answer.hardware);
}

async function device(server, group, ready) {
  const until = Date.now() + 30_000;
  for (;;) {
    const [answer] = (await ask(server, [{ action: 'nodes', meshid: group, responseid: 'x' }], { enough: (message) => message.action === 'nodes' })).filter((message) => message.action === 'nodes');
    const found = answer?.nodes?.[group]?.find(ready);
    if (found && (!found.conn || (await described(server, found._id)))) return found;
    if (Date.now() > until) throw new Error(`${server.name}: no device in ${group}`);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

/**
 * Makes the accounts `plain` (no rights), `manager` (users and user groups), the group `Lab` (LAB) with the connected
 * device NODE, and `Attic` (ATTIC) with AWAY, a device that has left.
 */
export async function furnish(server) {
  const { ids } = server;
  await done(server, 'adduser', ['--user', 'plain', '--pass', PASSWORD]);
  await done(server, 'adduser', ['--user', 'manager', '--pass', PASSWORD, '--rights', 'manageusers,usergroups']);
  ids.LAB = await done(server, 'adddevicegroup', ['--name', 'Lab', '--desc', 'Where devices live']);
  ids.ATTIC = await done(server, 'adddevicegroup', ['--name', 'Attic']);
  const [agent, leaving] = await Promise.all([startAgent(server, 'live', ids.LAB.split('/')[2]), startAgent(server, 'away', ids.ATTIC.split('/')[2])]);
  server.agent = agent;
  ids.NODE = (await device(server, ids.LAB, (node) => node.conn === 1))._id;
  ids.AWAY = (await device(server, ids.ATTIC, (node) => node.conn === 1))._id;
  await leaving.stop();
  await device(server, ids.ATTIC, (node) => !node.conn);
}

export { ADMIN, PASSWORD };
