// The mock's control socket: enough of the actions that every page can be worked with.
import { FULL, key } from './people.mjs';

const HARDWARE = (node) => ({
  identifiers: { bios_vendor: 'American Megatrends', bios_version: 'F31', bios_date: '03/12/2025', board_vendor: 'Gigabyte', board_name: 'B550M DS3H', board_serial: 'Default string', product_name: 'Workstation 5', product_uuid: '1f0a2b3c-0001-0002-0003-d45d64a1b2c3', cpu_name: 'AMD Ryzen 5 5600 6-Core Processor', gpu_name: ['AMD Radeon RX 6600'], storage_devices: [{ Caption: 'Samsung SSD 980 PRO', Size: 1000204886016 }, { Caption: 'WDC WD40EFZX', Size: 4000787030016 }] },
  linux: { memory: { Memory_Device: [{ Size: '16 GB', Type: 'DDR4', Speed: '3200 MT/s', Locator: 'DIMM_A1', Manufacturer: 'Kingston' }, { Size: '16 GB', Type: 'DDR4', Speed: '3200 MT/s', Locator: 'DIMM_B1', Manufacturer: 'Kingston' }] } },
  agentvers: { commitDate: '2026-11-20' },
  _for: node.name,
});

const SERVICES = ['cron', 'dbus', 'NetworkManager', 'outpost-agent', 'ssh', 'systemd-journald', 'systemd-udevd', 'unattended-upgrades'].map((name, n) => ({ name, displayName: `${name} service`, status: { state: n % 5 === 4 ? 'STOPPED' : 'RUNNING' }, startType: 'auto' }));

export class Control {
  constructor(world, server) {
    this.world = world;
    this.server = server;
    this.sockets = new Set();
    this.notes = {};
    this.tokens = [{ name: 'nightly backup', tokenUser: '~t:3u2zc8iBp412fbYn', created: Date.now() - 9e8, expire: 0 }];
    this.jobs = new Map();
    this.clipboard = 'from the device';
    this.processes = Object.fromEntries(['/sbin/init', '[kthreadd]', '/usr/lib/systemd/systemd-journald', '/usr/sbin/sshd -D', '/usr/bin/dbus-daemon --system', '/usr/bin/gnome-shell', '/usr/lib/firefox/firefox -contentproc', 'bash', 'vim /etc/hosts', '/usr/bin/python3 /opt/backup.py --nightly', ...Array.from({ length: 90 }, (_, n) => `[kworker/${n}:0]`)].map((cmd, n) => [n * 7 + 1, { pid: n * 7 + 1, user: n % 4 ? 'root' : 'anna', cmd }]));
    this.sessions = [
      { id: 's1', ip: '192.168.1.20', userAgent: 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0', created: Date.now() - 7.2e6, lastSeen: Date.now() - 4000, current: true },
      { id: 's2', ip: '192.168.1.77', userAgent: 'Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 Version/18.1 Mobile Safari/604.1', created: Date.now() - 5e8, lastSeen: Date.now() - 9e7, current: false },
    ];
  }

  accept(socket) {
    this.sockets.add(socket);
    socket.on('close', () => this.sockets.delete(socket));
    const say = (message) => socket.send(JSON.stringify(message));
    say({ action: 'serverinfo', serverinfo: { domain: '', name: 'outpost.local', port: 8443, serverTime: Date.now(), https: true, agentCertHash: key('agent certificate'), tlshash: 'E2108261BC6912CB6C36' } });
    say({ action: 'userinfo', userinfo: this.world.users.get('user//admin') });
    socket.on('message', (data) => {
      const request = JSON.parse(data.toString());
      const reply = (fields = {}) => say({ action: request.action, ...fields, ...(request.responseid ? { responseid: request.responseid } : {}) });
      const handler = this[`on_${request.action}`];
      if (handler) handler.call(this, request, reply, say);
      else reply({ result: `Unknown action "${request.action}"` });
    });
  }

  event(event) {
    const full = { userid: 'user//admin', username: 'admin', domain: '', time: new Date().toISOString(), ...event };
    if (!full.nolog) this.world.events.unshift({ ...full, node: undefined });
    const text = JSON.stringify({ action: 'event', event: full });
    for (const socket of this.sockets) if (socket.readyState === 1) socket.send(text);
  }

  on_ping(_, reply) { reply({ action: 'pong' }); }
  on_meshes(_, reply) { reply({ meshes: [...this.world.groups.values()] }); }
  on_nodes(_, reply) {
    const nodes = {};
    for (const { meshid, ...node } of this.world.nodes.values()) (nodes[meshid] ??= []).push(node);
    reply({ nodes });
  }
  on_lastconnects(_, reply) { reply({ lastconnects: this.world.seen }); }
  on_usergroups(_, reply) { reply({ ugroups: Object.keys(this.world.ugroups).length ? this.world.ugroups : null }); }
  on_users(_, reply) { reply({ users: [...this.world.users.values()] }); }
  on_wssessioncount(_, reply) { reply({ wssessions: { 'user//admin': this.sockets.size, 'user//anna': 1 } }); }
  on_events(request, reply) {
    const events = this.world.events.filter((event) => (request.nodeid ? event.nodeid === request.nodeid : request.userid ? event.userid === request.userid : true));
    reply({ events: events.slice(0, request.limit ?? 400) });
  }
  on_getsysinfo(request, reply) {
    const node = this.world.nodes.get(request.nodeid);
    if (!node?.conn) return reply({ nodeid: request.nodeid, noinfo: true, result: 'Invalid device id' });
    reply({ nodeid: request.nodeid, hardware: HARDWARE(node), hash: 'x', time: Date.now() - 4e6 });
  }
  on_getnetworkinfo(request, reply) {
    const node = this.world.nodes.get(request.nodeid);
    if (!node?.conn) return reply({ nodeid: request.nodeid, netif: null, netif2: null });
    reply({
      nodeid: request.nodeid, updateTime: Date.now() - 4e6,
      netif2: {
        lo: [{ address: '127.0.0.1', family: 'IPv4', mac: '00:00:00:00:00:00', netmask: '255.0.0.0', type: 'loopback', status: 'up' }],
        enp5s0: [{ address: node.ip, family: 'IPv4', mac: 'd4:5d:64:a1:b2:c3', netmask: '255.255.255.0', gateway: '192.168.1.1', type: 'ethernet', status: 'up', speed: 1000000000 }, { address: 'fe80::d65d:64ff:fea1:b2c3', family: 'IPv6', mac: 'd4:5d:64:a1:b2:c3', type: 'ethernet', status: 'up' }],
        wlp4s0: [{ mac: 'a0:c5:89:11:22:33', type: 'wireless', status: 'down' }],
      },
    });
  }
  on_lastconnect(request, reply) { reply({ nodeid: request.nodeid, time: this.world.seen[request.nodeid], addr: '192.168.1.7:42039' }); }
  on_powertimeline(request, reply) {
    const node = this.world.nodes.get(request.nodeid);
    const start = Math.floor(Date.now() / 1000) - 6 * 86400;
    reply({ nodeid: request.nodeid, timeline: [0, start, 1, 30000, 0, 50000, 1, 90000, 3, 20000, 1, 140000, 0, 40000, node?.conn ? 1 : 0] });
  }
  on_getNotes(request, reply) { reply({ id: request.id, notes: this.notes[request.id] ?? null }); }
  on_setNotes(request, reply) { this.notes[request.id] = request.notes; reply({ result: 'ok' }); }
  on_websessions(_, reply) { reply({ sessions: this.sessions }); }
  on_revokewebsession(request, reply) { this.sessions = this.sessions.filter((session) => session.id !== request.id); reply({ result: 'ok' }); }
  on_changepassword(request, reply) {
    if (request.oldpass !== 'secret') return reply({ action: 'msg', type: 'notify', title: 'Account Settings', value: 'The current password is not correct.', titleid: 4, msgid: 21 });
    reply({ action: 'msg', type: 'notify', title: 'Account Settings', value: 'Password changed.', titleid: 4, msgid: 20 });
  }
  on_changeemail(request, reply) { this.patchUser('user//admin', { email: request.email }); reply({ result: 'ok' }); }
  'on_otpauth-request'(_, reply) { reply({ secret: 'CUIBIURXGZIGOUQM', url: 'otpauth://totp/outpost.local:admin?secret=CUIBIURXGZIGOUQM&period=30&digits=6&algorithm=SHA1&issuer=outpost.local' }); }
  'on_otpauth-setup'(request, reply) {
    const success = request.token === '123456';
    if (success) this.patchUser('user//admin', { otpsecret: 1 });
    reply({ success });
  }
  'on_otpauth-clear'(_, reply) { this.patchUser('user//admin', { otpsecret: undefined, otpkeys: undefined }); reply({ success: true }); }
  'on_otpauth-getpasswords'(request, reply) {
    if (request.subaction === 1) {
      this.codes = Array.from({ length: 10 }, (_, n) => ({ p: (n * 9876543 + 1234567) % 1e8, u: n !== 3 }));
      this.patchUser('user//admin', { otpkeys: 1 });
    }
    reply({ passwords: this.codes ?? null });
  }
  on_createLoginToken(request, reply) {
    const token = { name: request.name, tokenUser: `~t:mock${this.tokens.length}Ujs5ISqM8J`, created: Date.now(), expire: request.expire ? Date.now() + request.expire * 60000 : 0 };
    this.tokens.push(token);
    reply({ ...token, tokenPass: 'oAJasFhOlS5uLbP9s5ig' });
  }
  on_loginTokens(request, reply) {
    this.tokens = this.tokens.filter((token) => !request.remove?.includes(token.tokenUser));
    reply({ loginTokens: this.tokens });
  }
  on_toast(_, reply) { reply({ result: 'ok' }); }
  on_authcookie(_, reply) { reply({ cookie: 'cookie', rcookie: 'rcookie' }); }
  on_msg(request, reply, say) {
    const node = this.world.nodes.get(request.nodeid);
    if (!node?.conn) return reply({ result: 'Unable to route' });
    if (request.type === 'tunnel') this.server.tunnelAsked(new URLSearchParams(request.value.split('?')[1]).get('id'), node, request.usage);
    reply({ result: 'OK' });
    const answer = (fields) => setTimeout(() => say({ action: 'msg', nodeid: node._id, type: request.type, ...fields }), 30);
    if (request.type === 'console') answer({ value: request.value === 'help' ? 'Available commands:\n  help, info, netinfo, ps, kill, ls, cd, args, eval' : request.value === 'info' ? `Current Core: Nov 23 2026\nAgent Time: 20:14:02\nName: ${node.name}` : `Unknown command "${request.value}", type "help" for list of available commands.` });
    else if (request.type === 'ps') answer({ value: JSON.stringify(this.processes) });
    else if (request.type === 'pskill') delete this.processes[request.value.split('|')[0]];
    else if (request.type === 'services') answer({ value: JSON.stringify(SERVICES) });
    else if (request.type === 'getclip') answer({ data: this.clipboard, tag: request.tag });
    else if (request.type === 'setclip') {
      this.clipboard = request.data;
      answer({ success: true });
    } else if (request.type === 'openUrl') answer({ url: request.url, success: true });
  }

  on_createmesh(request, reply) {
    const _id = `mesh//${key(`created ${request.meshname} ${this.world.groups.size}`)}`;
    const mesh = { type: 'mesh', _id, name: request.meshname, desc: request.desc ?? '', mtype: 2, domain: '', links: { 'user//admin': { name: 'admin', rights: FULL } }, creation: Date.now(), creatorname: 'admin' };
    this.world.groups.set(_id, mesh);
    this.patchUser('user//admin', { links: { ...this.world.users.get('user//admin').links, [_id]: { rights: FULL } } });
    this.event({ etype: 'mesh', action: 'createmesh', meshid: _id, mesh, msg: `Device group created: ${mesh.name}` });
    reply({ result: 'ok', meshid: _id, links: mesh.links });
    this.server.groupCreated?.(_id);
  }
  on_editmesh(request, reply) {
    const mesh = this.world.groups.get(request.meshid);
    if (!mesh) return reply({ result: 'Invalid group identifier' });
    if (request.meshname !== undefined) mesh.name = request.meshname;
    for (const field of ['desc', 'flags', 'consent', 'expireDevs']) if (request[field] !== undefined) mesh[field] = request[field];
    this.meshChanged(mesh);
    reply({ result: 'ok' });
  }
  on_deletemesh(request, reply) {
    this.world.groups.delete(request.meshid);
    for (const node of [...this.world.nodes.values()]) if (node.meshid === request.meshid) this.world.nodes.delete(node._id);
    this.event({ etype: 'mesh', action: 'deletemesh', meshid: request.meshid, msg: 'Device group deleted' });
    reply({ result: 'ok' });
  }
  on_addmeshuser(request, reply) {
    const mesh = this.world.groups.get(request.meshid);
    const ids = [...(request.userids ?? []), ...(request.usernames ?? []).map((name) => `user//${name.toLowerCase()}`)];
    const results = ids.map((id) => {
      const name = this.world.users.get(id)?.name ?? this.world.ugroups[id]?.name;
      if (!name) return `Unknown user ${id.split('/').at(-1)}`;
      mesh.links[id] = { name, rights: request.meshadmin };
      return `Added user ${name}`;
    });
    this.meshChanged(mesh);
    reply({ result: results.join(', '), success: 1, failed: 0 });
  }
  on_removemeshuser(request, reply) {
    const mesh = this.world.groups.get(request.meshid);
    delete mesh.links[request.userid];
    this.meshChanged(mesh);
    reply({ result: 'ok' });
  }
  meshChanged(mesh) {
    this.event({ etype: 'mesh', action: 'meshchange', meshid: mesh._id, name: mesh.name, mtype: mesh.mtype, desc: mesh.desc, flags: mesh.flags, expireDevs: mesh.expireDevs, links: mesh.links, msg: `Device group changed: ${mesh.name}` });
  }

  on_changedevice(request, reply) {
    const node = this.world.nodes.get(request.nodeid);
    if (!node) return reply({ result: 'Access Denied' });
    for (const field of ['name', 'desc', 'icon']) if (request[field] !== undefined) node[field] = request[field];
    if (request.tags !== undefined) node.tags = (Array.isArray(request.tags) ? request.tags : request.tags.split(',')).map((tag) => tag.trim()).filter(Boolean).sort();
    this.event({ etype: 'node', action: 'changenode', nodeid: node._id, node, msg: `Changed device ${node.name}` });
    reply({ result: 'ok' });
  }
  on_adddeviceuser(request, reply) {
    const node = this.world.nodes.get(request.nodeid);
    node.links ??= {};
    for (const id of request.userids ?? []) {
      if (request.remove) delete node.links[id];
      else node.links[id] = { rights: request.rights, name: this.world.users.get(id)?.name };
    }
    this.event({ etype: 'node', action: 'changenode', nodeid: node._id, node, msg: `Changed device rights of ${node.name}` });
    reply({ result: 'ok' });
  }
  on_changeDeviceMesh(request, reply) {
    for (const id of request.nodeids) {
      const node = this.world.nodes.get(id);
      if (!node) { reply({ result: 'Device not found' }); continue; }
      const oldMeshId = node.meshid;
      node.meshid = request.meshid;
      this.event({ etype: 'node', action: 'nodemeshchange', nodeid: id, node, oldMeshId, newMeshId: request.meshid, msg: `Moved device ${node.name} to group ${this.world.groups.get(request.meshid)?.name}` });
      reply({ result: 'ok' });
    }
  }
  on_removedevices(request, reply) {
    for (const id of request.nodeids) {
      this.world.nodes.delete(id);
      this.event({ etype: 'node', action: 'removenode', nodeid: id, msg: 'Removed device' });
      reply({ result: 'ok' });
    }
  }
  on_uninstallagent(_, reply) { reply({ result: 'ok' }); }
  on_poweraction(request, reply) { for (const _ of request.nodeids) reply({ result: 'ok' }); }
  on_wakedevices(request, reply) { reply({ result: request.nodeids.length === 1 ? 'Used 1 device(s) to send wake packets' : 'ok' }); }
  on_queuecommands(request, reply) {
    const jobid = (0x9f3a5c0011aa0000n + BigInt(this.jobs.size)).toString(16);
    const runs = new Map(request.nodeids.map((nodeid) => {
      const node = this.world.nodes.get(nodeid);
      return [nodeid, { nodeid, name: node.name, state: node.conn ? 'sent' : 'waiting', changed: Date.now() }];
    }));
    const { cmds, shell, runAsUser } = request;
    this.jobs.set(jobid, { job: { jobid, userid: 'user//admin', username: 'admin', shell, cmds, runAsUser, created: Date.now(), expires: Date.now() + request.hours * 3.6e6, own: true }, runs });
    reply({ result: 'ok', jobid, refused: [] });
    const say = (run, event) => this.event({ jobid, nodeid: run.nodeid, nolog: 1, ...event });
    for (const [at, run] of [...runs.values()].filter((one) => one.state === 'sent').entries()) {
      const failed = at % 5 === 4;
      setTimeout(() => say(run, { action: 'joboutput', text: ' 20:14:02 up 9 days,  2:11,  1 user\n' }), 200 + at * 40);
      setTimeout(() => {
        Object.assign(run, { state: 'done', changed: Date.now(), exit: failed ? 2 : 0, output: ` 20:14:02 up 9 days,  2:11,  1 user\n${failed ? 'df: /srv: Transport endpoint is not connected' : 'Filesystem  Size  Used Avail Use% Mounted on\n/dev/mmcblk0p2   29G  6.1G   22G  22% /'}\n` });
        say(run, { action: 'jobrun', ...run });
      }, 600 + at * 60);
    }
  }
  on_jobs(_, reply) { reply({ jobs: [...this.jobs.values()].reverse().map((one) => this.jobView(one)), more: false }); }
  on_job(request, reply) {
    const one = this.jobs.get(request.jobid);
    if (!one) reply({ result: 'There are no such commands' });
    else reply({ job: this.jobView(one), runs: [...one.runs.values()], total: one.runs.size, after: null });
  }
  on_canceljob(request, reply) {
    const waiting = [...this.jobs.get(request.jobid).runs.values()].filter((run) => run.state === 'waiting');
    for (const run of waiting) {
      Object.assign(run, { state: 'cancelled', changed: Date.now() });
      this.event({ jobid: request.jobid, action: 'jobrun', nolog: 1, ...run });
    }
    reply({ result: 'ok', cancelled: waiting.length });
  }
  on_removejob(request, reply) {
    this.jobs.delete(request.jobid);
    reply({ result: 'ok' });
  }
  jobView({ job, runs }) {
    const counts = { waiting: 0, sent: 0, done: 0, refused: 0, unanswered: 0, expired: 0, cancelled: 0 };
    for (const run of runs.values()) counts[run.state] += 1;
    return { ...job, counts };
  }
  on_createInviteLink(request, reply) { reply({ meshid: request.meshid, expire: request.expire, url: 'https://outpost.local:8443/agentinvite?c=ymmtW0Yx5vNn4', cookie: 'ymmtW0Yx5vNn4' }); }

  patchUser(id, change) {
    const user = { ...this.world.users.get(id), ...change };
    this.world.users.set(id, user);
    this.event({ etype: 'user', action: 'accountchange', userid: id, username: user.name, account: user, msg: `Account changed: ${user.name}`, nolog: undefined });
  }
  on_adduser(request, reply) {
    const _id = `user//${request.username.toLowerCase()}`;
    if (this.world.users.has(_id)) return reply({ result: 'User already exists', msgid: 7 });
    const account = { _id, name: request.username, email: request.email, realname: request.realname, creation: Math.floor(Date.now() / 1000), siteadmin: request.siteadmin };
    this.world.users.set(_id, account);
    this.event({ etype: 'user', action: 'accountcreate', account, msg: `Account created, name is ${request.username}` });
    reply({ result: 'ok' });
  }
  on_edituser(request, reply) {
    const id = request.userid ?? request.id;
    const change = {};
    for (const field of ['email', 'realname', 'siteadmin']) if (request[field] !== undefined) change[field] = request[field];
    this.patchUser(id, change);
    reply({ result: 'ok' });
  }
  on_changeuserpass(_, reply) { reply({ result: 'ok' }); }
  on_deleteuser(request, reply) {
    const account = this.world.users.get(request.userid);
    this.world.users.delete(request.userid);
    this.event({ etype: 'user', action: 'accountremove', userid: request.userid, username: account?.name, msg: 'Account removed' });
    reply({ result: 'ok' });
  }
  on_createusergroup(request, reply) {
    const ugrpid = `ugrp//${key(`ug ${request.name}`)}`;
    this.world.ugroups[ugrpid] = { type: 'ugrp', _id: ugrpid, name: request.name, desc: request.desc ?? '', domain: '', links: {} };
    this.event({ etype: 'ugrp', action: 'createusergroup', ugrpid, name: request.name, desc: request.desc, links: {}, msg: `User group created: ${request.name}` });
    reply({ result: 'ok', ugrpid, links: {} });
  }
  on_editusergroup(request, reply) {
    const group = Object.assign(this.world.ugroups[request.ugrpid], { name: request.name, desc: request.desc });
    this.ugroupChanged(group);
    reply({ result: 'ok' });
  }
  on_deleteusergroup(request, reply) {
    delete this.world.ugroups[request.ugrpid];
    this.event({ etype: 'ugrp', action: 'deleteusergroup', ugrpid: request.ugrpid, msg: 0 });
    reply({ result: 'ok', ugrpid: request.ugrpid });
  }
  on_addusertousergroup(request, reply) {
    const group = this.world.ugroups[request.ugrpid];
    for (const name of request.usernames) group.links[`user//${name.toLowerCase()}`] = { rights: 1, userid: `user//${name.toLowerCase()}`, name };
    this.ugroupChanged(group);
    reply({ result: 'ok', added: request.usernames.length, failed: 0 });
  }
  on_removeuserfromusergroup(request, reply) {
    const group = this.world.ugroups[request.ugrpid];
    delete group.links[request.userid];
    this.ugroupChanged(group);
    reply({ result: 'ok' });
  }
  ugroupChanged(group) {
    this.event({ etype: 'ugrp', action: 'usergroupchange', ugrpid: group._id, name: group.name, desc: group.desc, links: group.links, msg: `User group changed: ${group.name}` });
  }
}
