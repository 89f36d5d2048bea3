// The mock's control socket: enough of the actions that every page can be worked with.
import { FULL, key } from './people.mjs';

const HARDWARE = (node) => ({
  identifiers: { bios_vendor: 'American Megatrends', bios_version: 'F31', bios_date: '03/12/2025', board_vendor: 'Gigabyte', board_name: 'B550M DS3H', board_serial: 'Default string', product_name: 'Workstation 5', product_uuid: '1f0a2b3c-0001-0002-0003-d45d64a1b2c3', cpu_name: 'AMD Ryzen 5 5600 6-Core Processor', gpu_name: ['AMD Radeon RX 6600'], storage_devices: [{ Caption: 'Samsung SSD 980 PRO', Size: 1000204886016 }, { Caption: 'WDC WD40EFZX', Size: 4000787030016 }] },
  linux: { memory: { Memory_Device: [{ Size: '16 GB', Type: 'DDR4', Speed: '3200 MT/s', Locator: 'DIMM_A1', Manufacturer: 'Kingston' }, { Size: '16 GB', Type: 'DDR4', Speed: '3200 MT/s', Locator: 'DIMM_B1', Manufacturer: 'Kingston' }] } },
  agentvers: { commitDate: '2026-11-20' },
  _for: node.name,
});

export class Control {
  constructor(world, server) {
    this.world = world;
    this.server = server;
    this.sockets = new Set();
    this.notes = {};
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
  on_authcookie(_, reply) { reply({ cookie: 'cookie', rcookie: 'rcookie' }); }
  on_msg(request, reply) {
    const node = this.world.nodes.get(request.nodeid);
    if (!node?.conn) return reply({ result: 'Unable to route' });
    if (request.type === 'tunnel') this.server.tunnelAsked(new URLSearchParams(request.value.split('?')[1]).get('id'), node);
    reply({ result: 'OK' });
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
  on_runcommands(request, _, say) {
    setTimeout(() => say({ action: 'msg', type: 'runcommands', result: ' 20:14:02 up 9 days,  2:11,  1 user,  load average: 0.08, 0.03, 0.01\n', responseid: request.responseid, nodeid: request.nodeids[0] }), 300);
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
