/** Logging in, the server and oneself. */
import { PASSWORD } from '../servers.mjs';

const names = (text) => text.split('\n').map((line) => line.match(/^(\w+):/)?.[1]).filter(Boolean).sort().join(' ');

export const account = {
  name: 'Server and login',
  cases: [
    { command: 'serverinfo', what: 'the fields that both print', clean: (text) => names(text).split(' ').filter((name) => SHARED.has(name)).join(' ') },
    { command: 'serverinfo', what: 'as JSON', args: ['--json'], json: ({ domain, emailcheck, https, domainsuffix }) => ({ domain, emailcheck, https, domainsuffix }) },
    { command: 'userinfo', what: 'oneself', as: 'manager', sorted: true },
    { command: 'userinfo', what: 'as JSON', args: ['--json'], as: 'plain', json: (user) => user },
    { command: 'userinfo', what: 'a wrong password', credentials: ['--loginuser', 'plain', '--loginpass', 'wrong'] },
    { command: 'userinfo', what: 'an unknown user', credentials: ['--loginuser', 'nobody', '--loginpass', PASSWORD] },
    { command: 'userinfo', what: 'a user name in capitals', credentials: ['--loginuser', 'PLAIN', '--loginpass', PASSWORD], sorted: true },
    { command: 'userinfo', what: 'a password and a token nobody asked for', credentials: ['--loginuser', 'plain', '--loginpass', PASSWORD, '--token', '123456'], sorted: true },
    { command: 'userinfo', what: 'a login key of another server', credentials: ['--loginuser', 'plain', '--loginkey', 'ab'.repeat(80)] },
    { command: 'listusersessions', what: 'without the right', as: 'plain' },
    { command: 'listusersessions', what: 'with the right', lines: /manager/, as: 'manager' },
    { command: 'broadcast', what: 'to everybody', args: ['--msg', 'hello all'] },
    { command: 'broadcast', what: 'to one user', args: ['--msg', 'hello', '--user', 'plain'] },
    { command: 'broadcast', what: 'to an unknown user', args: ['--msg', 'hello', '--user', 'nobody'] },
    { command: 'broadcast', what: 'without the right', args: ['--msg', 'hello'], as: 'plain' },
    { command: 'broadcast', what: 'a text that is too long', args: ['--msg', 'x'.repeat(513)] },
    { command: 'showevents', what: 'what a session is told first', until: /"userinfo"/, patience: 5000, clean: (text) => [...text.matchAll(/"action": "(serverinfo|userinfo)"/g)].map((found) => found[1]).join(' ') },
  ],
};

/** Fields of serverinfo that both servers must have. */
const SHARED = new Set('domain name mpsname mpsport port emailcheck domainauth serverTime features features2 languages tlshash agentCertHash https redirport magenturl domainsuffix logoutonidlesessiontimeout certExpire'.split(' '));
