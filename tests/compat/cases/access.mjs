/** Login tokens, device shares, and what is reached without a control socket. */
import { NOBODY } from '../world.mjs';

const lines = (text) => text.split('\n').map((line) => line.replace(/(Password|password): .*/, '$1: {secret}').replace(/[\w@$]{12}$/, '{share}').replace(/:\s+[\w@$+/]{16,20}$/, ': {secret}'));
const heads = (text) => lines(text).map((line) => (/^[A-Z][\w ]*:/.test(line) && !/^(Type|Guest|User Consent|UserId|Recurring|Duration)/.test(line) ? line.replace(/: .*/, ':') : line)).join('\n');
const key = (id) => id.split('/').at(-1);

export const access = {
  name: 'Login tokens and shares',
  cases: [
    { command: 'logintokens', what: 'none', as: 'manager' },
    { command: 'logintokens', what: 'a new one', args: ['--add', 't-tool'], capture: { T_USER: /(~t:\w{16})/, T_PASS: /assword:\s+(\S+)/ }, clean: heads },
    { command: 'logintokens', what: 'one that ends', args: ['--add', 't-short', '--expire', '60'], clean: heads },
    { command: 'logintokens', what: 'the list', lines: /^t-/, clean: (text) => text.split('\n').map((line) => line.replace(/\s+/g, ' ')).join('\n') },
    { command: 'userinfo', what: 'with a login token', credentials: ({ T_USER, T_PASS }) => ['--loginuser', T_USER, '--loginpass', T_PASS], lines: /^_id/ },
    { command: 'userinfo', what: 'with a login token and a wrong password', credentials: ({ T_USER }) => ['--loginuser', T_USER, '--loginpass', 'wrong'] },
    { command: 'logintokens', what: 'removing it', args: ({ T_USER }) => ['--remove', T_USER], lines: /^t-/, clean: (text) => text.split('\n').map((line) => line.replace(/\s+/g, ' ')).join('\n') },
    { command: 'userinfo', what: 'with a login token that is gone', credentials: ({ T_USER, T_PASS }) => ['--loginuser', T_USER, '--loginpass', T_PASS] },
    { command: 'devicesharing', what: 'none', args: ({ NODE }) => ['--id', NODE] },
    { command: 'devicesharing', what: 'a new one', args: ({ NODE }) => ['--id', NODE, '--add', 's-guest', '--type', 'desktop,terminal', '--consent', 'notify'], capture: { SHARE: /ID: (\S+)/ }, clean: heads },
    { command: 'devicesharing', what: 'for an hour', args: ({ NODE }) => ['--id', NODE, '--add', 's-hour', '--type', 'files', '--duration', '60'], clean: heads },
    { command: 'devicesharing', what: 'every day', args: ({ NODE }) => ['--id', NODE, '--add', 's-daily', '--daily', '--duration', '30', '--viewonly'], clean: heads },
    { command: 'devicesharing', what: 'the list', args: ({ NODE }) => ['--id', NODE], clean: (text) => heads(text).split('----------').map((one) => one.trim()).sort().join('\n') },
    { command: 'devicesharing', what: 'without the right', args: ({ NODE }) => ['--id', NODE, '--add', 's-no'], as: 'plain' },
    { command: 'devicesharing', what: 'an unknown device', args: ['--id', `node//${NOBODY}`, '--add', 's-no'] },
    { command: 'devicesharing', what: 'removing one', args: ({ NODE, SHARE }) => ['--id', NODE, '--remove', SHARE] },
    { command: 'devicesharing', what: 'removing an unknown one', args: ({ NODE }) => ['--id', NODE, '--remove', 'nope'] },
    { command: 'webrelay', what: 'where there is none', args: ({ NODE }) => ['--id', NODE, '--type', 'http'] , only: 'outpost' },
  ],
};
