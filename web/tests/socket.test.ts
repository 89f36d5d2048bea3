import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ControlError, ControlSocket, type SocketState } from '../src/wire/socket';
import { FakeSocket } from './fakeSocket';

let sockets: FakeSocket[];
let states: SocketState[];
let control: ControlSocket;

beforeEach(() => {
  vi.useFakeTimers();
  sockets = [];
  states = [];
  control = new ControlSocket({
    connect: () => {
      const socket = new FakeSocket();
      sockets.push(socket);
      return socket;
    },
    onState: (state) => states.push(state),
    words: { timeout: (action) => `no answer to ${action}`, lost: 'connection lost' },
    random: () => 1,
  });
  control.start();
});
afterEach(() => {
  control.end();
  vi.useRealTimers();
});

const last = (): FakeSocket => sockets.at(-1) as FakeSocket;
const idOf = (index: number): string => last().messages[index]?.responseid as string;

describe('requests', () => {
  it('resolves each request with the reply of its own id, in whatever order they come', async () => {
    last().open();
    const first = control.request('nodes');
    const second = control.request('nodes');
    last().say({ action: 'nodes', responseid: idOf(1), nodes: { b: [] } });
    last().say({ action: 'nodes', responseid: idOf(0), nodes: { a: [] } });
    expect((await first).nodes).toEqual({ a: [] });
    expect((await second).nodes).toEqual({ b: [] });
  });

  it('falls back to the action for replies without an id', async () => {
    last().open();
    const reply = control.request('authcookie');
    last().say({ action: 'authcookie', cookie: 'c' });
    expect((await reply).cookie).toBe('c');
  });

  it('does not take an event for a reply', async () => {
    last().open();
    const reply = control.request('event');
    last().say({ action: 'event', event: {} });
    const outcome = expect(reply).rejects.toThrow('no answer to event');
    await vi.advanceTimersByTimeAsync(60_000);
    await outcome;
  });

  it('turns a refusal into an error with the server’s words, and takes "OK" in any case', async () => {
    last().open();
    const refused = control.perform('deletemesh');
    last().say({ action: 'deletemesh', responseid: idOf(0), result: 'Access denied' });
    await expect(refused).rejects.toThrow(new ControlError('Access denied', 'deletemesh'));
    const fine = control.perform('msg');
    last().say({ action: 'msg', responseid: idOf(1), result: 'OK' });
    await expect(fine).resolves.toBeTruthy();
  });

  it('collects one reply per device, and what came when some are missing', async () => {
    last().open();
    const all = control.collect('removedevices', { nodeids: ['a', 'b'] }, 2, 1000);
    last().say({ action: 'removedevices', responseid: idOf(0), result: 'ok' });
    last().say({ action: 'removedevices', responseid: idOf(0), result: 'Denied' });
    expect((await all).map((one) => one.result)).toEqual(['ok', 'Denied']);
    const some = control.collect('removedevices', { nodeids: ['a', 'b'] }, 2, 1000);
    last().say({ action: 'removedevices', responseid: idOf(1), result: 'ok' });
    await vi.advanceTimersByTimeAsync(1001);
    expect(await some).toHaveLength(1);
  });

  it('fails at once when not connected, and when the connection goes', async () => {
    await expect(control.request('nodes')).rejects.toThrow('connection lost');
    last().open();
    const waiting = control.request('nodes');
    last().drop();
    await expect(waiting).rejects.toThrow('connection lost');
  });

  it('survives text that is no message', () => {
    last().open();
    for (const bad of ['', 'null', '[]', '{"action":5}', '{', '"x"']) last().say(bad);
    expect(control.isOpen).toBe(true);
  });
});

describe('reconnecting', () => {
  it('waits longer each time up to 15 s, and starts over after a success', async () => {
    const delays: number[] = [];
    for (let attempt = 0; attempt < 8; attempt += 1) {
      const before = sockets.length;
      last().drop();
      const state = states.at(-1);
      expect(state?.kind).toBe('waiting');
      const delay = state?.kind === 'waiting' ? state.at - Date.now() : 0;
      delays.push(delay);
      await vi.advanceTimersByTimeAsync(delay + 1);
      expect(sockets.length).toBe(before + 1);
    }
    expect(delays).toEqual([500, 1000, 2000, 4000, 8000, 15000, 15000, 15000]);
    last().open();
    last().drop();
    const state = states.at(-1);
    expect(state?.kind === 'waiting' && state.at - Date.now()).toBe(500);
  });

  it('does not come back after the end', async () => {
    last().open();
    control.end();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(sockets).toHaveLength(1);
    expect(states.at(-1)).toEqual({ kind: 'ended' });
  });

  it('gives up a connection that has been silent through two pings', async () => {
    last().open();
    const silent = last();
    await vi.advanceTimersByTimeAsync(101_000);
    expect(silent.messages.some((message) => message.action === 'ping')).toBe(true);
    expect(sockets.length).toBeGreaterThan(1);
    expect(silent.readyState).toBe(3);
  });

  it('keeps a connection whose pings are answered', async () => {
    last().open();
    for (let beat = 0; beat < 8; beat += 1) {
      await vi.advanceTimersByTimeAsync(25_000);
      last().say({ action: 'pong' });
    }
    expect(sockets).toHaveLength(1);
  });
});
