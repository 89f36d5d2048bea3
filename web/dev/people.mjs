// Invented devices, groups and users for the mock server; the same ones on every run.
import { createHash } from 'node:crypto';

export const key = (seed) => createHash('sha384').update(seed).digest('base64').replaceAll('+', '@').replaceAll('/', '$');
export const FULL = 0xffffffff;

/** A small generator, so that two runs show the same fleet. */
export function dice(seed) {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

const KINDS = [
  ['ws', 'Debian GNU/Linux 13 (trixie)', 1, 6, ['desk']],
  ['lap', 'Ubuntu 24.04.2 LTS', 2, 6, ['travels']],
  ['srv', 'Debian GNU/Linux 12 (bookworm)', 4, 6, ['production', 'backup']],
  ['pi', 'Raspberry Pi OS 12 (bookworm)', 7, 26, ['sensor']],
  ['win', 'Microsoft Windows 11 Pro - 23H2/22631.4317', 1, 4, ['desk', 'accounting']],
  ['mac', 'macOS 15.1 (24B83)', 2, 29, ['design']],
  ['nas', 'Alpine Linux v3.21', 5, 6, ['storage']],
  ['vm', 'Fedora Linux 41 (Server Edition)', 8, 6, ['lab']],
];
const GROUPS = ['Office', 'Workshop', 'Server room', 'Field sensors', 'Branch Lyon'];
const PEOPLE = ['anna', 'bo', 'carla', 'deniz', 'emil'];

export function population(devices, now = Date.now()) {
  const random = dice(7);
  const groups = new Map();
  for (const [index, name] of GROUPS.entries()) {
    const _id = `mesh//${key(`group ${name}`)}`;
    const links = { 'user//admin': { name: 'admin', rights: FULL } };
    if (index === 0) links['user//anna'] = { name: 'anna', rights: 8 + 64 + 128 + 16384 + 131072 + 262144 + 1048576 };
    if (index === 0) links['user//bo'] = { name: 'bo', rights: 1048576 };
    if (index === 2) links[`ugrp//${key('ops')}`] = { name: 'Operations', rights: 393224 };
    groups.set(_id, { type: 'mesh', _id, name, mtype: 2, desc: index === 0 ? 'Desks and meeting rooms' : '', domain: '', links, creation: now - 9e9, creatorid: 'user//admin', creatorname: 'admin', flags: 0 });
  }
  const nodes = new Map();
  const seen = {};
  const ids = [...groups.keys()];
  for (let index = 0; index < devices; index += 1) {
    const [prefix, osdesc, icon, agentId, tags] = KINDS[Math.floor(random() * KINDS.length)];
    const name = `${prefix}-${String(index + 1).padStart(devices > 999 ? 5 : 2, '0')}`;
    const _id = `node//${key(`node ${index}`)}`;
    const chance = random();
    const node = {
      type: 'node', _id, name, rname: name, mtype: 2, domain: '', icon, host: null,
      meshid: ids[Math.floor(random() * random() * ids.length)],
      agent: { ver: 0, id: agentId, caps: 15, core: '0.1.0', root: true },
      ip: `192.168.${1 + (index >> 8)}.${(index % 254) + 1}`,
      osdesc, firstconnect: now - Math.floor(random() * 9e9), lastbootuptime: now - Math.floor(random() * 8e8),
      tags: tags.slice(0, 1 + Math.floor(random() * tags.length)),
      ...(random() < 0.3 ? { users: [PEOPLE[Math.floor(random() * PEOPLE.length)]] } : {}),
      ...(chance < 0.72 ? { conn: 1, pwr: 1, agct: now - Math.floor(random() * 9e7) } : chance < 0.8 ? { pwr: 3 } : {}),
    };
    // A hostile name must be shown as the text it is.
    if (index === 3) Object.assign(node, { name: '<img src=x onerror=alert(1)>', osdesc: '<script>alert(1)</script> OS', desc: '<b>bold</b>' });
    if (index === 0) Object.assign(node, { desc: 'Front desk', conn: 1, pwr: 1, agct: now - 3e6, users: ['anna'], tags: ['desk', 'front'], links: { 'user//carla': { rights: 8 + 1048576, name: 'carla' } } });
    nodes.set(_id, node);
    seen[_id] = node.conn ? now : now - Math.floor(random() * random() * 2e9);
  }
  const seconds = Math.floor(now / 1000);
  const users = new Map();
  users.set('user//admin', { _id: 'user//admin', name: 'admin', email: 'admin@example.net', creation: seconds - 9e6, login: seconds - 600, access: seconds, siteadmin: FULL, links: Object.fromEntries(ids.map((id) => [id, { rights: FULL }])) });
  for (const [index, name] of PEOPLE.entries()) {
    users.set(`user//${name}`, {
      _id: `user//${name}`, name, email: `${name}@example.net`, realname: `${name[0].toUpperCase()}${name.slice(1)} Example`, creation: seconds - 5e6, login: seconds - 90000 * index,
      siteadmin: [0, 2, 0, 32, 256][index], links: index < 2 ? { [ids[0]]: { rights: index ? 1048576 : 1458376 } } : { [`ugrp//${key('ops')}`]: { rights: 1 } },
    });
  }
  const ugroups = {
    [`ugrp//${key('ops')}`]: { type: 'ugrp', _id: `ugrp//${key('ops')}`, name: 'Operations', desc: 'On call', domain: '', links: { 'user//carla': { rights: 1, userid: 'user//carla', name: 'carla' }, 'user//deniz': { rights: 1, userid: 'user//deniz', name: 'deniz' }, 'user//emil': { rights: 1, userid: 'user//emil', name: 'emil' }, [ids[2]]: { rights: 393224 } } },
  };
  const events = [];
  const all = [...nodes.values()];
  for (let index = 0; index < 400 && all.length; index += 1) {
    const node = all[Math.floor(random() * all.length)];
    const pick = random();
    const time = new Date(now - index * 900_000 * random() - index * 60_000).toISOString();
    const who = { userid: 'user//admin', username: 'admin' };
    if (pick < 0.3) events.push({ etype: 'node', action: 'changenode', nodeid: node._id, ...who, msg: `Changed device ${node.name} from group ${groups.get(node.meshid).name}: tags`, time });
    else if (pick < 0.5) events.push({ etype: 'relay', action: 'relaylog', nodeid: node._id, ...who, msg: `Ended terminal session from 192.168.1.20 to ${node.ip}, ${Math.floor(random() * 900)} second(s)`, protocol: 1, time });
    else if (pick < 0.7) events.push({ etype: 'user', action: 'login', ...who, msg: 'Account login from 192.168.1.20, Firefox, Linux', time });
    else if (pick < 0.85) events.push({ etype: 'node', action: 'runcommands', nodeid: node._id, ...who, msg: 'Running commands', time });
    else events.push({ etype: 'mesh', action: 'meshchange', meshid: node.meshid, ...who, msg: `Device group name changed from "Lab" to "${groups.get(node.meshid).name}"`, time });
  }
  events.sort((a, b) => (a.time < b.time ? 1 : -1));
  return { groups, nodes, seen, users, ugroups, events };
}
