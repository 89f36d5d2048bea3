/** Doing something with a device. */
import { NOBODY } from '../world.mjs';
import { PASSWORD } from '../servers.mjs';

const key = (id) => id.split('/').at(-1);
const QUIET = 2500;

export const actions = {
  name: 'Doing something with a device',
  cases: [
    { command: 'adduser', what: 'a bystander', args: ['--user', 'a-ann', '--pass', PASSWORD] },
    { command: 'runcommand', what: 'with its output', args: ({ NODE }) => ['--id', NODE, '--run', 'echo hello; echo there', '--reply'] },
    { command: 'runcommand', what: 'by the bare id', args: ({ NODE }) => ['--id', key(NODE), '--run', 'echo hello', '--reply'] },
    { command: 'runcommand', what: 'without its output', args: ({ NODE }) => ['--id', NODE, '--run', 'true'] },
    { command: 'runcommand', what: 'in PowerShell, where there is none', args: ({ NODE }) => ['--id', NODE, '--run', 'true', '--powershell'] },
    { command: 'runcommand', what: 'on a device that is away', args: ({ AWAY }) => ['--id', AWAY, '--run', 'true'] },
    { command: 'runcommand', what: 'on an unknown device', args: ['--id', NOBODY, '--run', 'true'] },
    { command: 'runcommand', what: 'without the right', args: ({ NODE }) => ['--id', NODE, '--run', 'true'], as: 'a-ann' },
    { command: 'runcommand', what: 'a script that is too long', args: ({ NODE }) => ['--id', NODE, '--run', 'x'.repeat(65_536)], patience: QUIET },
    { command: 'shell', what: 'a terminal', args: ({ NODE }) => ['--id', key(NODE)], input: [[2500, 'echo "he"llo-there\n']], until: /hello-there/, patience: 10_000, clean: (text) => text.split('\n').filter((line) => /^(Connecting|Waiting|Connected|Unable|Access|Error|[a-z]+:)|^hello-there/.test(line)).join('\n') },
    { command: 'shell', what: 'a device that is away', args: ({ AWAY }) => ['--id', key(AWAY)], patience: 4000 },
    { command: 'devicepower', what: 'waking a device', args: ({ AWAY }) => ['--id', AWAY, '--wake'] },
    { command: 'devicepower', what: 'waking an unknown device', args: ['--id', NOBODY, '--wake'] },
    { command: 'devicepower', what: 'waking without the right', args: ({ AWAY }) => ['--id', AWAY, '--wake'], as: 'a-ann' },
    { command: 'devicepower', what: 'off, a device that is away', args: ({ AWAY }) => ['--id', AWAY, '--off'] },
    { command: 'devicepower', what: 'off, without the right', args: ({ NODE }) => ['--id', NODE, '--off'], as: 'a-ann' },
    { command: 'devicepower', what: 'restarting an unknown device', args: ['--id', NOBODY, '--reset'] },
    { command: 'devicepower', what: 'Intel AMT, where there is none', args: ({ AWAY }) => ['--id', AWAY, '--amton'] },
    { command: 'deviceopenurl', what: 'a device', args: ({ NODE }) => ['--id', NODE, '--openurl', 'http://127.0.0.1/'] },
    { command: 'deviceopenurl', what: 'a device that is away', args: ({ AWAY }) => ['--id', AWAY, '--openurl', 'http://127.0.0.1/'] },
    { command: 'devicemessage', what: 'a device', args: ({ NODE }) => ['--id', NODE, '--msg', 'hello'] },
    { command: 'devicemessage', what: 'a device that is away', args: ({ AWAY }) => ['--id', AWAY, '--msg', 'hello'] },
    { command: 'devicemessage', what: 'an unknown device', args: ['--id', NOBODY, '--msg', 'hello'] },
    { command: 'devicetoast', what: 'a device', args: ({ NODE }) => ['--id', NODE, '--msg', 'hello'] },
    { command: 'devicetoast', what: 'a device that is away', args: ({ AWAY }) => ['--id', AWAY, '--msg', 'hello'] },
    { command: 'devicetoast', what: 'without the right', args: ({ NODE }) => ['--id', NODE, '--msg', 'hello'], as: 'a-ann' },
    { command: 'devicetoast', what: 'a text that is too long', args: ({ NODE }) => ['--id', NODE, '--msg', 'x'.repeat(4097)] },
    { command: 'groupmessage', what: 'a group', args: ({ LAB }) => ['--id', LAB, '--msg', 'hello'] },
    { command: 'grouptoast', what: 'a group', args: ({ LAB }) => ['--id', LAB, '--msg', 'hello'] },
  ],
};
