import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { MOST_PENDING, protocolOf, TerminalSession, USUAL, WINDOW } from '../src/terminal/session';
import type { TunnelState } from '../src/tunnel/tunnel';
import { FakeSocket } from './fakeSocket';

let socket: FakeSocket;
let states: TunnelState[];
let drawn: { bytes: Uint8Array; done: () => void }[];
let asked: Record<string, unknown>[];
let path: string;
let verdict: string;
let session: TerminalSession;
let online: boolean;

beforeEach(() => {
  vi.useFakeTimers();
  socket = new FakeSocket();
  states = [];
  drawn = [];
  asked = [];
  verdict = 'OK';
  online = true;
  session = new TerminalSession({
    link: {
      nodeId: 'node//a@b$',
      cookies: () => Promise.resolve({ cookie: 'C@$=', rcookie: 'R@$=' }),
      ask: (message) => {
        asked.push(message);
        return Promise.resolve(verdict);
      },
      connect: (to) => {
        path = to;
        return socket;
      },
      online: () => online,
    },
    choice: { as: 'named', name: 'alice', shell: '', powerShell: false },
    cols: 100,
    rows: 30,
    onState: (state) => states.push(state),
    onOutput: (bytes, done) => drawn.push({ bytes, done }),
    onRoundTrip: () => undefined,
  });
});
afterEach(() => {
  session.end('');
  vi.useRealTimers();
});

const settle = () => vi.advanceTimersByTimeAsync(1);
async function opened(): Promise<void> {
  await session.start();
  socket.open();
  socket.say('c');
}
const block = (size: number): ArrayBuffer => new Uint8Array(size).fill(65).buffer;
const acks = () => socket.messages.filter((message) => message.type === 'ack').map((message) => message.bytes);

describe('setting up', () => {
  it('asks the device with the rendezvous id of its own socket, cookies unencoded in the device’s address', async () => {
    await opened();
    const id = /[?&]id=([0-9a-f]{24})&/.exec(path)?.[1];
    expect(id).toBeTruthy();
    expect(path).toContain(`auth=${encodeURIComponent('C@$=')}`);
    expect(asked[0]).toMatchObject({ type: 'tunnel', nodeid: 'node//a@b$', usage: 1, value: `*/meshrelay.ashx?p=1&nodeid=node//a@b$&id=${id}&rauth=R@$=` });
  });

  it('sends the options and then the protocol once both ends are there', async () => {
    await opened();
    expect(JSON.parse(socket.sent[0] as string)).toEqual({ type: 'options', protocol: 1, cols: 100, rows: 30, window: WINDOW, user: 'alice' });
    expect(socket.sent[1]).toBe('1');
    expect(states.at(-1)?.kind).toBe('open');
  });

  it('says when the session is recorded', async () => {
    await session.start();
    socket.open();
    socket.say('cr');
    expect(states.at(-1)).toMatchObject({ kind: 'open', recorded: true });
  });

  it('ends with the server’s reason when it cannot route', async () => {
    verdict = 'Unable to route';
    await session.start();
    const state = states.at(-1);
    expect(state?.kind === 'ended' && state.reason).toContain('Unable to route');
  });

  it('gives up on a silent device', async () => {
    await session.start();
    socket.open();
    await vi.advanceTimersByTimeAsync(31_000);
    expect(states.at(-1)?.kind).toBe('ended');
  });
});

describe('flow', () => {
  it('acknowledges what is drawn, not what arrives', async () => {
    await opened();
    socket.say(block(100_000));
    await settle();
    expect(acks()).toEqual([]);
    drawn[0]?.done();
    await vi.advanceTimersByTimeAsync(200);
    expect(acks().at(-1)).toBe(100_000);
  });

  it('acknowledges small output once the screen is idle', async () => {
    await opened();
    socket.say(block(10));
    drawn[0]?.done();
    await vi.advanceTimersByTimeAsync(200);
    expect(acks().at(-1)).toBe(10);
  });

  it('bounds what waits for the screen when the agent ignores acknowledgements, and says what was skipped', async () => {
    await opened();
    const size = 256 * 1024;
    for (let n = 0; n < 64; n += 1) socket.say(block(size));
    const waiting = drawn.reduce((sum, one) => sum + one.bytes.length, 0);
    expect(waiting).toBeLessThanOrEqual(MOST_PENDING + size);
    for (const one of [...drawn]) one.done();
    const note = new TextDecoder().decode(drawn.at(-1)?.bytes);
    expect(note).toContain('skipped');
    const before = drawn.length;
    socket.say(block(100));
    expect(drawn).toHaveLength(before + 1);
  });

  it('answers pings, and treats a broken control message as nothing', async () => {
    await opened();
    socket.say('{"ctrlChannel":102938,"type":"ping"}');
    expect(socket.messages.at(-1)).toMatchObject({ type: 'pong' });
    for (const bad of ['null', '5', '{', '[]', '{"ctrlChannel":1,"type":"close"}']) socket.say(bad);
    expect(states.at(-1)?.kind).toBe('open');
  });
});

describe('the end', () => {
  it('tells an ended shell from a lost server', async () => {
    await opened();
    socket.drop();
    const ended = states.at(-1);
    expect(ended?.kind).toBe('ended');
  });

  it('tells the device when the user ends it, and says nothing after', async () => {
    await opened();
    session.end('closed');
    expect(socket.messages.at(-1)).toMatchObject({ type: 'close' });
    const before = states.length;
    socket.say(block(5));
    expect(drawn).toHaveLength(0);
    expect(states).toHaveLength(before);
    expect(socket.readyState).toBe(3);
  });
});

describe('where it is', () => {
  it('is told by agents that know it, and by others not', async () => {
    await session.start();
    socket.open();
    socket.say('c');
    const asking = session.surroundings();
    socket.say(JSON.stringify({ ctrlChannel: '102938', type: 'surroundings', folder: '/srv', account: 'root', shells: ['/bin/sh', 5], accounts: ['root'] }));
    expect(await asking).toEqual({ folder: '/srv', account: 'root', shells: ['/bin/sh'], accounts: ['root'] });
    const silent = session.surroundings();
    await vi.advanceTimersByTimeAsync(4000);
    expect(await silent).toBeNull();
  });

  it('is chosen by protocol (tunnel-protocols §3)', () => {
    expect([USUAL, { ...USUAL, as: 'user' as const }, { ...USUAL, powerShell: true }, { ...USUAL, as: 'user' as const, powerShell: true }].map(protocolOf)).toEqual([1, 8, 6, 9]);
  });
});
