/** Events and reports. */
import { PASSWORD } from '../servers.mjs';

const columns = (text) => text.split('\n')[0];

export const history = {
  name: 'Events and reports',
  cases: [
    { command: 'adduser', what: 'an onlooker', args: ['--user', 'h-ann', '--pass', PASSWORD] },
    { command: 'listevents', what: 'the columns', clean: columns },
    { command: 'listevents', what: 'of a device, the columns', args: ({ NODE }) => ['--id', NODE], clean: columns },
    { command: 'listevents', what: 'a limit', args: ['--limit', '2', '--json'], json: (events) => events.length },
    { command: 'listevents', what: 'a new user', args: ['--json'], json: (events) => events.filter((event) => event.account?._id === 'user//h-ann').map(({ etype, action, msgid, msgArgs, userid, username }) => ({ etype, action, msgid, msgArgs, userid, username })) },
    { command: 'listevents', what: 'of a device that one does not see', args: ({ NODE }) => ['--id', NODE], as: 'h-ann' },
    { command: 'listevents', what: 'without any link', as: 'h-ann', patience: 2500, clean: columns },
    { command: 'report', what: 'sessions by user', args: ['--type', 'sessions'], clean: columns },
    { command: 'report', what: 'traffic', args: ['--type', 'traffic'], clean: columns },
    { command: 'report', what: 'logins', args: ['--type', 'logins'], clean: columns },
    { command: 'report', what: 'the database', args: ['--type', 'db'], clean: columns },
  ],
};
