/** Which ids of a request its answers carry, and the fields of answers, action by action. */
import { NOBODY } from '../world.mjs';

/** The ids of an answer, with what it says. */
const ids = ({ action, responseid, tag, result }) => `${action}${responseid === undefined ? '' : ' responseid'}${tag === undefined ? '' : ' tag'}${result === undefined ? '' : `: ${result}`}`;
/** A request with both ids, of which the first answer is looked at. */
const one = (action, what, fields = {}, more = {}) => ({
  command: 'control.ashx', what: `${action}, ${what}`, count: 1, see: ids, patience: 2000, ...more,
  ask: (known) => [{ action, ...(typeof fields === 'function' ? fields(known) : fields), responseid: 'r', tag: 't' }],
});
const as = { as: 'plain' };

export const echo = {
  name: 'Control socket: ids of answers',
  cases: [
    one('users', 'a list'), one('users', 'without the right', {}, as),
    one('wssessioncount', 'a list'), one('meshes', 'a list'), one('usergroups', 'a list'),
    one('nodes', 'a list'), one('nodes', 'of an unknown group', { meshid: NOBODY }),
    one('events', 'a list', { limit: 1 }), one('lastconnects', 'a list'), one('recordings', 'without the right', {}, as),
    one('powertimeline', 'a device', ({ NODE }) => ({ nodeid: NODE })),
    one('getsysinfo', 'a device', ({ NODE }) => ({ nodeid: NODE })), one('getsysinfo', 'an unknown device', { nodeid: `node//${NOBODY}` }),
    one('getnetworkinfo', 'a device', ({ NODE }) => ({ nodeid: NODE })), one('getnetworkinfo', 'an unknown device', { nodeid: `node//${NOBODY}` }),
    one('lastconnect', 'a device that is away', ({ AWAY }) => ({ nodeid: AWAY })), one('lastconnect', 'an unknown device', { nodeid: `node//${NOBODY}` }),
    one('getDeviceDetails', 'as JSON', { type: 'json' }),
    one('authcookie', 'cookies'), one('ping', 'keep-alive', {}, { answers: ['pong'] }),
    one('serverstats', 'once', { interval: 5000 }), one('serverconsole', 'help', { value: 'help' }),
    one('serverconsole', 'an unknown word', { value: 'coffee' }, { see: ({ action, value, responseid, tag }) => `${ids({ action, responseid, tag })}: ${value}` }),
    one('previousLogins', 'one’s own'), one('getNotes', 'of a device', ({ NODE }) => ({ id: NODE })),
    one('report', 'logins', { type: 3, groupBy: 1, start: 1, end: 2 }),
    one('loginTokens', 'a list'), one('createLoginToken', 'a token', { name: 'e-tool', expire: 1 }), one('createLoginToken', 'no name', { name: '', expire: 1 }),
    one('deviceShares', 'a list', ({ NODE }) => ({ nodeid: NODE })), one('deviceShares', 'without the right', ({ NODE }) => ({ nodeid: NODE }), as),
    one('createInviteLink', 'a link', ({ LAB }) => ({ meshid: LAB, expire: 1, flags: 0 })), one('createInviteLink', 'an unknown group', { meshid: NOBODY, expire: 1, flags: 0 }),
    one('msg', 'to a device', ({ NODE }) => ({ nodeid: NODE, type: 'messagebox', title: 'a', msg: 'b' })), one('msg', 'to an unknown device', { nodeid: `node//${NOBODY}`, type: 'messagebox' }),
    one('inviteAgent', 'without a mail server', ({ LAB }) => ({ meshid: LAB, email: 'a@example.com', name: '', os: '0' })),
    one('changemeshnotify', 'wrong flags', ({ LAB }) => ({ meshid: LAB, notify: 'x' })), one('changemeshnotify', 'an unknown group', { meshid: NOBODY, notify: 2 }),
    one('changeusernotify', 'an unknown device', { nodeid: NOBODY, notify: 2 }),
    one('addlocaldevice', 'to a group of the wrong type', ({ LAB }) => ({ meshid: LAB, devicename: 'x', hostname: '127.0.0.1', type: 4 }), { answers: ['addlocaldevice', 'changeDeviceMesh'] }),
    one('addlocaldevice', 'a wrong type', ({ LAB }) => ({ meshid: LAB, devicename: 'x', hostname: '127.0.0.1', type: 5 }), { answers: ['addlocaldevice', 'changeDeviceMesh'] }),
    one('adduserbatch', 'without the right', { users: [] }, as),
    one('otpauth-request', 'a secret'), one('otp-hkey-get', 'no keys'), one('twoFactorCookie', 'a cookie'), one('logincookie', 'a cookie'),
    one('getcookie', 'for a device', ({ NODE }) => ({ nodeid: NODE, tcpport: 22 })),
    { command: 'control.ashx', what: 'interuser, to another session', ask: [{ action: 'interuser', userid: 'admin', data: { a: 1 }, sessionid: null }], answers: ['interuser'], patience: 1000 },
    { command: 'control.ashx', what: 'userbroadcast, what sessions get', ask: [{ action: 'userbroadcast', msg: 'e-hello', userid: 'admin' }], answers: ['msg'], count: 1, shape: true },
    { command: 'control.ashx', what: 'notifyuser, what sessions get', ask: [{ action: 'notifyuser', userid: 'user//admin', msg: 'e-note', url: 'https://example.com/' }], answers: ['msg'], count: 1, shape: true },
    { command: 'control.ashx', what: 'serverstats, again and again', ask: [{ action: 'serverstats', interval: 1000 }], count: 2, patience: 3000, see: ({ action }) => action },
    { command: 'control.ashx', what: 'getDeviceDetails, nobody sees anything', as: 'plain', ask: [{ action: 'getDeviceDetails', type: 'json' }], count: 1 },
    { command: 'control.ashx', what: 'fields of lastconnect', ask: ({ AWAY }) => [{ action: 'lastconnect', nodeid: AWAY }], count: 1, see: ({ action, nodeid, addr }) => JSON.stringify({ action, nodeid, addr }) },
    { command: 'control.ashx', what: 'fields of getnetworkinfo', ask: ({ NODE }) => [{ action: 'getnetworkinfo', nodeid: NODE }], count: 1, shape: true },
    { command: 'control.ashx', what: 'an action in other letters', ask: [{ action: 'Meshes', responseid: 'r' }], answers: ['Meshes', 'meshes'], patience: 800 },
    { command: 'control.ashx', what: 'an unknown action', ask: [{ action: 'makecoffee', responseid: 'r' }], patience: 800 },
  ],
};
