/**
 * A stand-in for the server, for working on the pages and for their tests: the HTTP calls, the control socket
 * and sessions (terminal, desktop, files), over invented devices. It serves dist/ under the same content policy as the real server.
 *
 *   npm run mock            MOCK_PORT=4480 DEVICES=24 FIRST_RUN=1 CHURN=1 LOGIN=1
 */
import { existsSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { WebSocketServer } from 'ws';
import { box } from './box.mjs';
import { Control } from './control.mjs';
import { desktop } from './desktop.mjs';
import { disk, files } from './files.mjs';
import { dice, key, population } from './people.mjs';
import { shell } from './shell.mjs';

const dist = fileURLToPath(new URL('../dist', import.meta.url));
const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml' };
const POLICY = "default-src 'self'; img-src 'self' data:; base-uri 'self'; frame-ancestors 'self'; form-action 'self'";

/**
 * @param {{port?: number, devices?: number, firstRun?: boolean, loggedIn?: boolean, churn?: boolean, ignoresAcks?: boolean, consent?: 'grant' | 'deny', slowFiles?: number, secondFactor?: boolean, noBox?: boolean, boxTrouble?: boolean}} options
 * @returns {Promise<{port: number, control: Control, world: object, received: Buffer[], disk: object, dropSockets(): void, addDevice(meshid?: string): void, close(): Promise<void>}>}
 */
export async function startMock({ port = 0, devices = 24, firstRun = false, loggedIn = true, churn = false, ignoresAcks = false, consent, slowFiles = 0, secondFactor = false, noBox = false, boxTrouble = false } = {}) {
  const world = population(firstRun ? 0 : devices);
  if (firstRun) {
    world.groups.clear();
    world.ugroups = {};
    world.events = [];
    for (const id of [...world.users.keys()]) if (id !== 'user//admin') world.users.delete(id);
    world.users.get('user//admin').links = {};
  }
  const state = { firstRun, loggedIn: loggedIn && !firstRun, failures: 0 };
  const waiting = new Map();
  const server = {
    tunnelAsked(id, node, protocol) {
      waiting.set(id, { node, protocol });
      pair(id);
    },
    groupCreated: undefined,
  };
  const control = new Control(world, server);
  const halves = new Map();
  const received = [];
  const root = disk();
  function pair(id) {
    const asked = waiting.get(id);
    const socket = halves.get(id);
    if (!asked || !socket) return;
    waiting.delete(id);
    halves.delete(id);
    if (asked.protocol === 2) desktop(socket, { consent, received });
    else if (asked.protocol === 5) files(socket, root, { slow: slowFiles });
    else shell(socket, { name: asked.node.name, ignoresAcks });
    socket.send('c');
  }

  const answers = {
    'GET /api/bootstrap': () => [200, {
      server: { name: 'outpost.local', title: 'Outpost', version: '0.1.0', mode: 'lan', addresses: ['https://192.168.1.5:8443/', 'https://outpost.local:8443/'], port: 8443 },
      firstRun: state.firstRun, newAccounts: false, passwordPolicy: { min: 8 }, user: state.loggedIn ? { _id: 'user//admin', name: 'admin' } : null,
    }],
    'POST /api/login': (body) => {
      if (body.password === 'secret' && secondFactor && body.token !== '123456') {
        if (body.token === undefined) return [401, { error: { code: 'token-required', message: 'A code of the second factor is needed.' } }];
        return [401, { error: { code: 'bad-token', field: 'token', message: 'That code is not right.' } }];
      }
      if (body.password === 'secret') {
        Object.assign(state, { loggedIn: true, failures: 0 });
        return [200, { user: { _id: 'user//admin', name: 'admin' } }];
      }
      state.failures += 1;
      if (state.failures > 2) return [429, { error: { code: 'too-many-attempts', message: 'Too many failed logins from this address.', retryAfter: 12 } }];
      return [401, { error: { code: 'bad-credentials', message: 'The user name or the password is not right.' } }];
    },
    'POST /api/logout': () => ((state.loggedIn = false), [200, {}]),
    'POST /api/account': (body) => {
      if (body.password.length < 8) return [422, { error: { code: 'weak-password', field: 'password', message: `At least 8 characters; you have ${body.password.length}` } }];
      Object.assign(state, { firstRun: false, loggedIn: true });
      return [201, { user: { _id: 'user//admin', name: 'admin' } }];
    },
    'POST /api/password-strength': ({ password }) => {
      const score = password.length < 8 ? 0 : password.length < 12 ? 2 : password.length < 18 ? 3 : 4;
      return [200, { score, crackTime: ['a second', 'an hour', '3 days', '40 years', 'centuries'][score], warning: score < 2 ? 'This is easy to guess.' : null, suggestions: score < 3 ? ['Add another word or two. Uncommon words are better.'] : [], unmet: password.length < 8 ? [`At least 8 characters; you have ${password.length}`] : [], acceptable: password.length >= 8 }];
    },
    'GET /api/install': (_, query) => {
      const mesh = [...world.groups.values()].find((one) => one._id.endsWith(query.get('meshid').split('/').at(-1)));
      if (!mesh) return [404, { error: { code: 'unknown-group', message: 'That device group does not exist.' } }];
      const id = mesh._id.split('/').at(-1);
      const agent = (number, name, size) => ({ id: number, name, file: 'outpost-agent', size, url: `meshagents?id=${number}&meshid=${id}`, sha256: '9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08' });
      return [200, {
        groupName: mesh.name, settingsUrl: `meshsettings?id=${id}`,
        linux: { command: `curl -fsSk 'https://192.168.1.5:8443/meshagents?script=1&meshid=${id}' | sudo sh`, scriptUrl: `https://192.168.1.5:8443/meshagents?script=1&meshid=${id}`, scriptSha256: '2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae' },
        official: state.bundle && {
          version: state.bundle.version, command: `(wget -q -O meshinstall.sh 'https://192.168.1.5:8443/meshagents?script=1') && sudo ./meshinstall.sh https://192.168.1.5:8443 '${id}'`,
          agents: state.bundle.agents.map((one) => ({ ...one, url: `meshagents?id=${one.id}&meshid=${id}` })),
        },
        agents: [agent(6, 'Linux x86-64', 2213344), agent(26, 'Linux ARM 64-bit', 1998848), agent(25, 'Linux ARM 32-bit', 1840128)],
      }];
    },
  };

  const bundled = (id, name, family, size) => ({ id, name, family, size, sha256: '9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08', built: 1722958240000 });
  answers['GET /api/agents'] = () => [200, { bundle: state.bundle ?? null }];
  answers['DELETE /api/agents'] = () => ((state.bundle = null), [200, { bundle: null }]);
  answers['POST /api/agents/import'] = (body) => {
    if (body.length < 1000) return [422, { error: { code: 'bad-package', message: 'This is not an npm package (.tgz): it is not compressed with gzip' } }];
    state.bundle = {
      version: '1.1.55', imported: Date.now(), size: 141200000, files: 119, modules: 70,
      agents: [
        bundled(3, 'Windows x86-32 service', 'windows', 3811840), bundled(4, 'Windows x86-64 service', 'windows', 3439616), bundled(6, 'Linux x86-64', 'linux', 3749328),
        bundled(30, 'FreeBSD x86-64', 'bsd', 4673560), bundled(36, 'OpenWrt x86-64', 'openwrt', 3568912), bundled(10005, 'macOS universal', 'macos', 8647784),
      ],
    };
    return [200, { bundle: state.bundle }];
  };

  Object.assign(answers, box({ noBox, trouble: boxTrouble }));

  const http = createServer(async (request, response) => {
    const url = new URL(request.url, 'http://mock');
    const answer = answers[`${request.method} ${url.pathname}`];
    response.setHeader('Content-Security-Policy', POLICY);
    response.setHeader('X-Content-Type-Options', 'nosniff');
    if (answer) {
      let body = '';
      for await (const piece of request) body += piece;
      const json = (request.headers['content-type'] ?? '').includes('json');
      const [status, content] = answer(body && json ? JSON.parse(body) : json || request.method !== 'POST' ? {} : body, url.searchParams);
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(content));
      return;
    }
    if (url.pathname === '/MeshServerRootCert.cer') return void response.writeHead(200, { 'content-type': 'application/octet-stream' }).end('certificate');
    const wanted = normalize(decodeURIComponent(url.pathname)).replace(/^(\.\.[/\\])+/, '');
    let file = join(dist, wanted);
    if (wanted === '/' || wanted.startsWith('/app/')) file = join(dist, 'index.html');
    if (!existsSync(file) || !extname(file)) return void response.writeHead(404).end('Not found');
    const packed = existsSync(`${file}.br`) && /\bbr\b/.test(request.headers['accept-encoding'] ?? '');
    response.writeHead(200, { 'content-type': TYPES[extname(file)] ?? 'application/octet-stream', ...(packed ? { 'content-encoding': 'br' } : {}) });
    response.end(readFileSync(packed ? `${file}.br` : file));
  });

  const sockets = new WebSocketServer({ noServer: true });
  http.on('upgrade', (request, socket, head) => {
    const url = new URL(request.url, 'http://mock');
    sockets.handleUpgrade(request, socket, head, (accepted) => {
      if (url.pathname === '/control.ashx') {
        if (state.loggedIn) control.accept(accepted);
        else {
          accepted.send(JSON.stringify({ action: 'close', cause: 'noauth', msg: 'noauth' }));
          accepted.close();
        }
      } else if (url.pathname === '/meshrelay.ashx') {
        const id = url.searchParams.get('id');
        halves.set(id, accepted);
        pair(id);
      } else accepted.close();
    });
  });

  const random = dice(99);
  let serial = 0;
  function addDevice(meshid = [...world.groups.keys()][0]) {
    const _id = `node//${key(`late ${(serial += 1)}`)}`;
    const node = { type: 'node', _id, name: `bench-${serial}`, rname: `bench-${serial}`, mtype: 2, domain: '', icon: 1, meshid, host: null, agent: { ver: 0, id: 6, caps: 14, core: '0.1.0' }, ip: `192.168.1.${200 + serial}`, osdesc: 'Debian GNU/Linux 13 (trixie)', firstconnect: Date.now() };
    world.nodes.set(_id, node);
    control.event({ etype: 'node', action: 'addnode', node: { ...node }, msg: `Added device ${node.name}` });
    Object.assign(node, { conn: 1, pwr: 1, agct: Date.now() });
    control.event({ action: 'nodeconnect', meshid, nodeid: _id, conn: 1, pwr: 1, ct: Date.now(), nolog: 1, id: random() });
  }
  const timer = churn
    ? setInterval(() => {
        const all = [...world.nodes.values()];
        for (let index = 0; index < 20; index += 1) {
          const node = all[Math.floor(random() * all.length)];
          node.conn = node.conn ? 0 : 1;
          control.event({ action: 'nodeconnect', meshid: node.meshid, nodeid: node._id, conn: node.conn, pwr: node.conn, ct: Date.now(), nolog: 1, id: random() });
        }
      }, 50)
    : undefined;

  await new Promise((resolve) => http.listen(port, '127.0.0.1', resolve));
  return {
    port: http.address().port,
    control,
    world,
    received,
    disk: root,
    addDevice,
    dropSockets: () => sockets.clients.forEach((socket) => socket.terminate()),
    close: () =>
      new Promise((resolve) => {
        clearInterval(timer);
        sockets.clients.forEach((socket) => socket.terminate());
        http.closeAllConnections();
        http.close(resolve);
      }),
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { env } = process;
  const mock = await startMock({ port: Number(env.MOCK_PORT ?? 4480), devices: Number(env.DEVICES ?? 24), firstRun: env.FIRST_RUN === '1', loggedIn: env.LOGIN !== '1', churn: env.CHURN === '1' });
  console.log(`Mock server on http://127.0.0.1:${mock.port}/`);
}
