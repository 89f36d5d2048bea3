/** libmeshctrl: one run of its script on each server, a case for every line. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run } from '../client.mjs';
import { PYTHON } from '../peer.mjs';
import { restartServer, start } from '../servers.mjs';

const SCRIPT = fileURLToPath(new URL('../libmeshctrl.py', import.meta.url));
const NAMES = [
  'login with a password', 'login with a wrong password', 'login of an unknown user', 'login with a login token, which is then removed',
  'server_info', 'ping', 'add_user', 'add_user, the same again', 'add_user, a bad name', 'edit_user', 'edit_user, an unknown user', 'list_users', 'list_user_sessions',
  'add_user_group', 'add_users_to_user_group', 'list_user_groups', 'remove_user_from_user_group', 'remove_user_group', 'remove_user_group, an unknown one',
  'add_device_group', 'list_device_groups', 'edit_device_group', 'edit_device_group, an unknown one', 'add_users_to_device_group', 'remove_users_from_device_group',
  'generate_invite_link', 'send_invite_email', 'remove_device_group', 'remove_device_group, by an unknown name',
  'list_devices', 'list_devices, in a group', 'list_devices, in detail', 'device_info', 'device_info, an unknown device', 'edit_device', 'add_users_to_device',
  'remove_users_from_device', 'list_events', 'broadcast', 'device_message', 'device_toast', 'wake_devices', 'device shares',
  'events, with a filter', 'raw_messages', 'interuser', 'run_command', 'run_command, without its output', 'run_command, an unknown device', 'shell', 'smart_shell',
  'files: mkdir, upload, ls, download, rename, rm', 'files: download of what is not there', 'files: upload and download in one call',
  'remove_user', 'remove_user, again', 'close',
];

const results = new Map();
/** What the script found on a server, by the names of its cases. */
function found(server) {
  if (!results.has(server)) {
    const { LAB, NODE } = server.ids;
    const folder = join(server.folder, 'libmeshctrl');
    mkdirSync(folder, { recursive: true });
    results.set(server, run([PYTHON, SCRIPT, server.url, LAB, NODE, folder], { patience: 240_000 }).then(({ exit, output }) => {
      const lines = output.split('\n').filter((line) => line.startsWith('{"name"')).map((line) => JSON.parse(line));
      const rest = output.split('\n').filter((line) => line && !line.startsWith('{"name"')).slice(-3).join('\n');
      return { outcomes: new Map(lines.map(({ name, outcome }) => [name, outcome])), rest: `exit ${exit} ${rest}` };
    }));
  }
  return results.get(server);
}

/** A session that outlives its server. */
async function reconnect(server) {
  const { LAB, NODE } = server.ids;
  const marker = join(server.folder, 'restarted');
  const program = start([PYTHON, SCRIPT, server.url, LAB, NODE, marker], { log: join(server.folder, 'reconnect.log') });
  const until = Date.now() + 20_000;
  while (!program.text().includes('ready') && !program.ended && Date.now() < until) await new Promise((resolve) => setTimeout(resolve, 50));
  await restartServer(server);
  writeFileSync(marker, '');
  const late = setTimeout(() => void program.stop(), 60_000);
  await program.exit;
  clearTimeout(late);
  return { raw: program.text().split('\n').find((line) => line.startsWith('{"name"')) ?? program.text().slice(-300) };
}

export const libmeshctrl = {
  name: 'libmeshctrl',
  last: true,
  cases: NAMES.map((what) => ({
    command: 'libmeshctrl', what,
    run: async (server) => {
      const { outcomes, rest } = await found(server);
      return { raw: outcomes.get(what) ?? `(not reached: ${rest})` };
    },
  })).concat([
    // The last use of this device.
    { command: 'removedevice', what: 'a device', args: ({ AWAY }) => ['--id', AWAY] },
    { command: 'listdevices', what: 'after removing one', args: ({ ATTIC }) => ['--id', ATTIC] },
    { command: 'libmeshctrl', what: 'reconnect after the server was started again', run: reconnect }]),
};
