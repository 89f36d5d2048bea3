import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { append, History, LONGEST, MOST_LINES } from '../src/console/lines';
import { desktopAllowed, whyNot } from '../src/devices/tabs';
import { processesOf, programName, servicesOf } from '../src/processes/lists';
import { parseQuery } from '../src/router.svelte';
import { LARGEST_MESSAGE, Protocol, Tunnel, type TunnelState } from '../src/tunnel/tunnel';
import type { Device } from '../src/wire/protocol';
import { FakeSocket } from './fakeSocket';

describe('the tunnel', () => {
  let socket: FakeSocket;
  let states: TunnelState[];
  let users: Record<string, number>[];
  let bytes: Uint8Array[];
  let tunnel: Tunnel;
  let online: boolean;
  beforeEach(async () => {
    vi.useFakeTimers();
    socket = new FakeSocket();
    states = [];
    users = [];
    bytes = [];
    online = true;
    tunnel = new Tunnel(
      { nodeId: 'node//a', cookies: () => Promise.resolve({ cookie: 'C', rcookie: 'R' }), ask: () => Promise.resolve('OK'), connect: () => socket, online: () => online },
      Protocol.Desktop,
      () => ({}),
      { onState: (state) => states.push(state), onBytes: (data) => bytes.push(data), onRoundTrip: () => undefined, onUsers: (map) => users.push(map) },
      'It ended.',
    );
    await tunnel.start();
    socket.open();
  });
  afterEach(() => {
    tunnel.end('');
    vi.useRealTimers();
  });
  const state = () => states.at(-1);

  it('sends no options where there are none, and hears nothing of the protocol before both ends are there', () => {
    socket.say(new Uint8Array([1]).buffer);
    expect(bytes).toHaveLength(0);
    tunnel.send(new Uint8Array([1]));
    expect(socket.sent).toHaveLength(0);
    socket.say('c');
    expect(socket.sent[0]).toBe('2');
    socket.say(new Uint8Array([1]).buffer);
    expect(bytes).toHaveLength(1);
  });

  it('waits for consent in words, and goes on when it is given', () => {
    socket.say('c');
    socket.say({ ctrlChannel: '102938', type: 'console', msg: 'Waiting for user to grant access...', msgid: 1 });
    expect(state()).toMatchObject({ kind: 'waiting', words: expect.stringContaining('allow') as string });
    socket.say({ ctrlChannel: '102938', type: 'console', msg: null, msgid: 0 });
    expect(state()?.kind).toBe('open');
  });

  it('ends with words when the device sends a message larger than any session needs', () => {
    socket.say('c');
    socket.say(new ArrayBuffer(LARGEST_MESSAGE));
    expect(bytes).toHaveLength(1);
    socket.say(new ArrayBuffer(LARGEST_MESSAGE + 1));
    expect(bytes).toHaveLength(1);
    expect(state()).toMatchObject({ kind: 'ended', reason: expect.stringContaining('larger than any session needs') as string });
    expect(socket.readyState).toBe(3);
  });

  it('ends with the refusal’s words when consent is denied', () => {
    socket.say('c');
    socket.say({ ctrlChannel: 102938, type: 'console', msg: 'Denied', msgid: 2 });
    socket.drop();
    expect(state()).toMatchObject({ kind: 'ended', reason: expect.stringContaining('did not allow it') as string });
  });

  it('shows a notice of the device as long as it says', async () => {
    socket.say('cr');
    socket.say({ ctrlChannel: '102938', type: 'console', msg: 'Hello there', msgid: 0, timeout: 3 });
    expect(state()).toMatchObject({ kind: 'waiting', words: 'Hello there' });
    await vi.advanceTimersByTimeAsync(3100);
    expect(state()).toMatchObject({ kind: 'open', recorded: true });
  });

  it('tells who is there, a lost server, and an end without a reason', () => {
    socket.say('c');
    socket.say({ ctrlChannel: '102938', type: 'metadata', users: { 'user//a': 2 } });
    expect(users).toEqual([{ 'user//a': 2 }]);
    online = false;
    socket.drop();
    expect(state()).toMatchObject({ kind: 'ended', reason: expect.stringContaining('server') as string });
  });
});

describe('tabs', () => {
  const device = (caps?: number): Device => ({ _id: 'node//a', meshid: 'mesh//a', name: 'a', agent: caps === undefined ? {} : { caps } });
  it('need the right and the ability', () => {
    expect(whyNot('desktop', 0xffffffff, device(31))).toBe('');
    expect(whyNot('desktop', 0xffffffff, device(30))).toMatch(/no desktop/);
    expect(whyNot('desktop', 8, device())).toBe('');
    expect(whyNot('desktop', 256, device(31))).toBe('');
    expect(whyNot('desktop', 8 + 65536, device(31))).toMatch(/may not/);
    expect(whyNot('files', 8 + 1024, device(31))).toMatch(/may not/);
    expect(whyNot('terminal', 8 + 512, device(31))).toMatch(/may not/);
    expect(whyNot('console', 8, device(31))).toMatch(/Agent console/);
    expect(whyNot('console', 8 + 16, device(31))).toBe('');
    expect(whyNot('processes', 1048576, device(31))).toMatch(/Remote control/);
  });
  it('know how far someone may go on a desktop', () => {
    expect([0xffffffff, 8, 8 + 256, 256, 8 + 4096].map(desktopAllowed)).toEqual(['control', 'control', 'view', 'view', 'limited']);
  });
  it('open by MeshCentral’s addresses', () => {
    const tab = (mode: number) => parseQuery(new URLSearchParams(`viewmode=${mode}&gotonode=abc`)).tab;
    expect([10, 11, 12, 13, 15, 16, 99].map(tab)).toEqual(['general', 'desktop', 'terminal', 'files', 'console', 'events', 'general']);
  });
});

describe('processes and services', () => {
  it('are read from what agents send, strange parts left out', () => {
    const value = JSON.stringify({ 1: { pid: '1', user: 'root', cmd: '/usr/lib/systemd/systemd --system' }, 7: { pid: 7, cmd: '[kworker/0:1]' }, x: { cmd: 'no' }, 9: 'text' });
    expect(processesOf(value)).toEqual([
      { pid: 1, name: 'systemd', command: '/usr/lib/systemd/systemd --system', user: 'root' },
      { pid: 7, name: '[kworker/0:1]', command: '[kworker/0:1]', user: '' },
      { pid: 9, name: '', command: '', user: '' },
    ]);
    expect(processesOf('{"a')).toEqual([]);
    expect(programName('"C:\\Program Files\\App\\app.exe" /run')).toBe('app.exe');
    expect(programName('svchost.exe')).toBe('svchost.exe');
  });
  it('of services, in the shapes of Windows and Linux', () => {
    expect(servicesOf('[{"name":"ssh","displayName":"OpenSSH","status":{"state":"RUNNING"},"startType":"AUTO_START"},{"name":"cron","status":"stopped","description":"Jobs"},{"x":1}]')).toEqual([
      { name: 'ssh', title: 'OpenSSH', state: 'running', start: 'auto start' },
      { name: 'cron', title: 'Jobs', state: 'stopped', start: '' },
    ]);
    expect(servicesOf(null)).toEqual([]);
  });
});

describe('the console', () => {
  it('keeps so many lines and no more', () => {
    let lines = append([], 'answer', 'a\r\nb');
    expect(lines[0]?.text).toBe('a\nb');
    for (let n = 0; n < MOST_LINES + 10; n += 1) lines = append(lines, 'answer', 'x'.repeat(LONGEST + 1));
    expect(lines).toHaveLength(MOST_LINES);
    expect(lines.at(-1)?.text).toHaveLength(LONGEST);
    expect(new Set(lines.map((line) => line.id)).size).toBe(MOST_LINES);
  });
  it('walks through what was typed and comes back to the draft', () => {
    const history = new History();
    history.add('help');
    history.add('info');
    history.add('info');
    expect([history.older('dra'), history.older(''), history.older(''), history.newer(''), history.newer(''), history.newer('z')]).toEqual(['info', 'help', 'help', 'info', 'dra', 'z']);
  });
});
