import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { plainWords } from '../src/devices/complaints';
import { badName, crumbsOf, join, parentOf, typedPath, visible } from '../src/files/paths';
import { BLOCK, entriesOf, escaped, FileSession, MOST_ENTRIES, WINDOW, type Source } from '../src/files/session';
import { Transfers } from '../src/files/transfers.svelte';
import { remote } from '../src/text.remote';
import { FakeSocket } from './fakeSocket';

const text = new TextEncoder();
const asBuffer = (value: string | Uint8Array): ArrayBuffer => Uint8Array.from(typeof value === 'string' ? text.encode(value) : value).buffer;

let socket: FakeSocket;
let session: FileSession;
/** What was sent as JSON, control messages left out. */
const asked = () => socket.sent.filter((one): one is Uint8Array => typeof one !== 'string' && one[0] === 0x7b).map((one) => JSON.parse(new TextDecoder().decode(one)) as Record<string, unknown>);
const last = () => asked().at(-1) ?? {};
const blocks = () => socket.sent.filter((one): one is Uint8Array => typeof one !== 'string' && one[0] !== 0x7b);
const settle = () => vi.advanceTimersByTimeAsync(1);
const watch = (signal = new AbortController().signal) => ({ onProgress: vi.fn(), signal });
const source = (bytes: Uint8Array<ArrayBuffer>): Source => ({ size: bytes.length, slice: (from, to) => ({ arrayBuffer: () => Promise.resolve(bytes.slice(from, to).buffer) }) });
/** The device answers in binary messages. */
const answer = (message: Record<string, unknown>) => socket.say(asBuffer(JSON.stringify(message)));

beforeEach(async () => {
  vi.useFakeTimers();
  socket = new FakeSocket();
  session = new FileSession(
    { nodeId: 'node//a', cookies: () => Promise.resolve({ cookie: 'C', rcookie: 'R' }), ask: () => Promise.resolve('OK'), connect: () => socket, online: () => true },
    { onState: () => undefined, onRoundTrip: () => undefined },
  );
  await session.start();
  socket.open();
  socket.say('c');
});
afterEach(() => {
  session.end('');
  vi.useRealTimers();
});

describe('listing', () => {
  it('begins protocol 5 and reads a folder as captured (tunnel-protocols §5.5)', async () => {
    expect(socket.sent.slice(0, 2)).toEqual(['{"type":"options","abilities":true}', '5']);
    const listing = session.list('/d');
    expect(last()).toMatchObject({ action: 'ls', path: '/d' });
    answer({ path: '/d', dir: [{ n: 'a', t: 3, s: 6, d: '2026-11-23T17:15:51Z' }], reqid: last().reqid });
    expect(await listing).toEqual([{ name: 'a', kind: 'file', size: 6, changed: Date.UTC(2026, 10, 23, 17, 15, 51), drive: null }]);
  });

  it('tells a folder that cannot be read, and a device that says nothing', async () => {
    const missing = session.list('/x');
    answer({ path: '/x', dir: null, reqid: last().reqid });
    await expect(missing).rejects.toThrow(/may not read it/);
    const silent = expect(session.list('/y')).rejects.toThrow(/did not answer/);
    await vi.advanceTimersByTimeAsync(31_000);
    await silent;
  });

  it('keeps answers apart, and takes none that was not asked for', async () => {
    const one = session.list('/1');
    const first = last().reqid;
    const two = session.list('/2');
    answer({ path: '/2', dir: [], reqid: last().reqid });
    answer({ path: '/9', dir: [], reqid: 'other' });
    answer({ path: '/1', dir: [{ n: 'x', t: 2, d: 'never' }], reqid: first });
    expect(await two).toEqual([]);
    expect(await one).toMatchObject([{ name: 'x', kind: 'folder', changed: null }]);
  });

  it('takes no more of a listing than can be shown, and no listing nobody asked for', async () => {
    const listing = session.list('/many');
    const asked = last().reqid;
    const dir = Array.from({ length: MOST_ENTRIES + 5 }, (_, n) => ({ n: `f${n}`, t: 3, s: 1 }));
    answer({ path: '/many', dir, reqid: asked });
    const shown = await listing;
    expect(shown.length).toBe(MOST_ENTRIES);
    expect(remote.files.listedFirst(shown.length)).toBe('Only the first 100,000 entries are shown.');
    // A device that goes on listing for ever is not heard any more.
    const sent = socket.sent.length;
    for (let n = 0; n < 1000; n += 1) answer({ path: '/many', dir: [{ n: 'again', t: 3 }], reqid: asked });
    expect(socket.sent.length).toBe(sent);
    const next = session.list('/d');
    answer({ path: '/d', dir: [{ n: 'a', t: 2 }], reqid: last().reqid });
    expect((await next).map((entry) => entry.name)).toEqual(['a']);
  });

  it('says why a folder cannot be shown, and whose entries are, where the agent tells', async () => {
    const refused = session.list('/root');
    answer({ path: '/root', dir: null, error: 'Permission denied (os error 13)', reqid: last().reqid });
    await expect(refused).rejects.toThrow(/Permission denied$/);
    expect(entriesOf([{ n: 'a', t: 3, s: 1, m: 0o100644, u: 'root', g: 'adm', l: '/b' }])).toMatchObject([{ rights: { mode: 0o644, owner: 'root', group: 'adm' }, link: '/b' }]);
  });

  it('leaves out what is broken in a listing', () => {
    expect(entriesOf([{ n: '..', t: 2 }, { n: '', t: 3 }, { n: 5, t: 3 }, null, { n: 'z', t: 9 }, { n: 'C:', t: 1, s: 100, f: 40, dt: 'FIXED' }, { n: 'bad', t: 3, s: -1 }])).toEqual([
      { name: 'C:', kind: 'drive', size: 100, changed: null, drive: { type: 'FIXED', free: 40 } },
      { name: 'bad', kind: 'file', size: null, changed: null, drive: null },
    ]);
    expect(entriesOf('text')).toEqual([]);
  });

  it('fails what waits when the session ends', async () => {
    const waiting = expect(session.list('/d')).rejects.toThrow(/ended|lost|closed/i);
    socket.drop();
    await waiting;
  });
});

describe('upload', () => {
  it('sends blocks and their ends as captured, a zero before what could be taken for JSON', async () => {
    const done = session.upload('/d', 'u', source(Uint8Array.from([0x7b, 1, 2])), watch());
    expect(last()).toMatchObject({ action: 'upload', path: '/d', name: 'u', size: 3 });
    const reqid = last().reqid;
    answer({ action: 'uploadstart', reqid });
    await settle();
    expect([...(blocks()[0] ?? [])]).toEqual([0, 0x7b, 1, 2]);
    expect(last().action).toBe('upload');
    answer({ action: 'uploadack', reqid });
    await settle();
    expect(last()).toEqual({ action: 'uploaddone', reqid });
    answer({ action: 'uploaddone', reqid });
    await done;
    expect([...escaped(Uint8Array.from([0, 1]))]).toEqual([0, 0, 1]);
    expect([...escaped(Uint8Array.from([5, 6, 7]))]).toEqual([5, 6, 7]);
  });

  it('ends an empty file at once', async () => {
    const done = session.upload('/d', 'empty', source(new Uint8Array(0)), watch());
    const reqid = last().reqid;
    answer({ action: 'uploadstart', reqid });
    await settle();
    expect(blocks()).toHaveLength(0);
    expect(last()).toEqual({ action: 'uploaddone', reqid });
    answer({ action: 'uploaddone', reqid });
    await done;
  });

  it('keeps to the window, tells progress by what was answered, and waits for all answers before the end', async () => {
    const seen = watch();
    const done = session.upload('/d', 'big', source(new Uint8Array(BLOCK * 20 + 5).fill(9)), seen);
    const reqid = last().reqid;
    answer({ action: 'uploadstart', reqid });
    await settle();
    expect(blocks()).toHaveLength(WINDOW);
    for (let n = 0; n < 20; n += 1) {
      answer({ action: 'uploadack', reqid });
      await settle();
      expect(blocks().length).toBeLessThanOrEqual(WINDOW + n + 1);
      expect(last().action).toBe('upload');
    }
    expect(blocks()).toHaveLength(21);
    expect(seen.onProgress).toHaveBeenLastCalledWith(BLOCK * 20);
    answer({ action: 'uploadack', reqid });
    await settle();
    expect(last().action).toBe('uploaddone');
    answer({ action: 'uploaddone', reqid });
    await done;
  });

  it('fails with the reason: not created, disk full, file here gone, device silent', async () => {
    const refused = session.upload('/proc', 'x', source(new Uint8Array(5)), watch());
    answer({ action: 'uploaderror', reqid: last().reqid });
    await expect(refused).rejects.toThrow(/may not write/);
    const full = session.upload('/d', 'x', source(new Uint8Array(5)), watch());
    answer({ action: 'uploadstart', reqid: last().reqid });
    await settle();
    answer({ action: 'uploaderror' });
    await expect(full).rejects.toThrow(/full/);
    const gone = session.upload('/d', 'x', { size: 9, slice: () => ({ arrayBuffer: () => Promise.reject(new Error('NotReadableError')) }) }, watch());
    const caught = expect(gone).rejects.toThrow(/no longer be read/);
    answer({ action: 'uploadstart', reqid: last().reqid });
    await settle();
    await caught;
    expect(last().action).toBe('uploadcancel');
    const silent = expect(session.upload('/d', 'x', source(new Uint8Array(5)), watch())).rejects.toThrow(/did not answer/);
    await vi.advanceTimersByTimeAsync(31_000);
    await silent;
  });

  it('takes the file back when it is cancelled, and takes the next one', async () => {
    const stop = new AbortController();
    const done = session.upload('/d', 'x', source(new Uint8Array(BLOCK * 30)), watch(stop.signal));
    const reqid = last().reqid;
    answer({ action: 'uploadstart', reqid });
    await settle();
    stop.abort();
    await expect(done).rejects.toThrow(/Cancelled/);
    expect(last()).toEqual({ action: 'uploadcancel', reqid });
    const sent = blocks().length;
    answer({ action: 'uploadack', reqid });
    await settle();
    expect(blocks()).toHaveLength(sent);
    void session.upload('/d', 'y', source(new Uint8Array(1)), watch()).catch(() => undefined);
    expect(last()).toMatchObject({ action: 'upload', name: 'y' });
  });
});

describe('download', () => {
  const block = (flags: number, length: number) => {
    const frame = new Uint8Array(4 + length).fill(length & 255);
    new DataView(frame.buffer).setUint32(0, flags);
    return frame.buffer;
  };

  it('asks for block after block and ends with the short one (40,000 bytes as captured)', async () => {
    const got: number[] = [];
    const seen = watch();
    const done = session.download('/f', (piece) => void got.push(piece.length), seen);
    const { id } = last();
    socket.say(JSON.stringify({ action: 'download', sub: 'start', id }));
    expect(last()).toMatchObject({ sub: 'startack', id });
    for (const [flags, length] of [[0x01000000, 16380], [0x01000000, 16380], [0x01000001, 7240]] as const) {
      socket.say(block(flags, length));
      await settle();
    }
    await done;
    expect(got).toEqual([16380, 16380, 7240]);
    expect(asked().filter((one) => one.sub === 'ack')).toHaveLength(2);
    expect(seen.onProgress).toHaveBeenLastCalledWith(40_000);
  });

  it('ends a file of whole blocks with an empty one', async () => {
    const got: number[] = [];
    const done = session.download('/f', (piece) => void got.push(piece.length), watch());
    socket.say(block(0x01000000, 16380));
    await settle();
    socket.say(block(0x01000001, 0));
    await done;
    expect(got).toEqual([16380]);
  });

  it('asks for no more before the disk has taken what came', async () => {
    let written: () => void = () => undefined;
    void session.download('/f', () => new Promise<void>((done) => (written = done)), watch()).catch(() => undefined);
    socket.say(block(0x01000000, 16380));
    await settle();
    expect(last().sub).toBe('start');
    written();
    await settle();
    expect(last().sub).toBe('ack');
  });

  it('tells a missing file, ignores answers to others, and stops when cancelled', async () => {
    const missing = session.download('/none', () => undefined, watch());
    const { id } = last();
    socket.say(JSON.stringify({ action: 'download', sub: 'cancel', id: 'other' }));
    socket.say(JSON.stringify({ action: 'download', sub: 'cancel', id }));
    await expect(missing).rejects.toThrow(/does not exist/);
    const stop = new AbortController();
    const cancelled = session.download('/f', () => undefined, watch(stop.signal));
    stop.abort();
    await expect(cancelled).rejects.toThrow(/Cancelled/);
    expect(last().sub).toBe('stop');
    // A late block belongs to nobody.
    socket.say(block(0x01000000, 100));
  });

  it('stops the device when writing fails here', async () => {
    const full = session.download('/f', () => Promise.reject(new Error('The disk here is full.')), watch());
    const caught = expect(full).rejects.toThrow('The disk here is full.');
    socket.say(block(0x01000000, 100));
    await settle();
    await caught;
    expect(last().sub).toBe('stop');
  });
});

describe('paths and names', () => {
  it('joins and takes apart on both kinds of system', () => {
    expect(join('/', 'a')).toBe('/a');
    expect(join('/a', 'b c')).toBe('/a/b c');
    expect(join('', 'C:')).toBe('C:/');
    expect(join('C:/', 'x')).toBe('C:/x');
    expect(parentOf('/a/b', false)).toBe('/a');
    expect(parentOf('/', false)).toBeNull();
    expect(parentOf('C:/', true)).toBe('');
    expect(parentOf('C:/x/y', true)).toBe('C:/x');
    expect(crumbsOf('/a/b', false).map((crumb) => crumb.path)).toEqual(['/', '/a', '/a/b']);
    expect(typedPath('C:\\Users\\anna\\', true)).toBe('C:/Users/anna');
    expect(typedPath('//var//log/', false)).toBe('/var/log');
    expect(typedPath('/with\\backslash', false)).toBe('/with\\backslash');
  });

  it('knows names that cannot be given', () => {
    expect(['', '..', 'a/b', 'a:b', 'trail.', 'ä'.repeat(200)].map((name) => badName(name, true))).toEqual(['empty', 'dots', 'slash', 'windows', 'windows', 'long']);
    expect([' lead', 'a:b?', '-rf', 'it\'s "x"'].map((name) => badName(name, false))).toEqual([null, null, null, null]);
  });

  it('shows control characters and direction marks instead of obeying them', () => {
    expect(visible('two\nlines\u202e.exe\u0000')).toBe('two\u240alines\ufffd.exe\u2400');
    expect(visible('Grüße 世界 👩')).toBe('Grüße 世界 👩');
  });

  it('finds the words in what an agent complains of', () => {
    expect(plainWords("uncaughtException1: Error:  => EventEmitter.emit(): Event dispatch for 'data' on 'x' threw an exception: fs.mkdirSync(): Unable to create dir: /proc/a in method 'onTunnelData()'")).toBe('Unable to create dir: /proc/a.');
    expect(plainWords('Something else')).toBe('Something else.');
  });
});

describe('the queue', () => {
  it('holds a transfer and lets it go on', async () => {
    const transfers = new Transfers();
    let steps = 0;
    transfers.add('up', 'a', '/', 10, async ({ gate, report }) => {
      for (; steps < 3; steps += 1) {
        await gate();
        report(steps);
        await Promise.resolve();
        if (steps === 0) transfers.pause(1);
      }
    });
    await settle();
    expect(steps).toBe(1);
    expect(transfers.list[0]).toMatchObject({ state: 'moving', paused: true });
    transfers.pause(1);
    await settle();
    expect(transfers.list[0]).toMatchObject({ state: 'done', paused: false });
  });

  it('moves one file at a time in each direction, goes on after a failure, and tries again', async () => {
    const transfers = new Transfers();
    const running: string[] = [];
    const ends: Record<string, (error?: Error) => void> = {};
    const work = (name: string) => () =>
      new Promise<void>((settleOne, fail) => {
        running.push(name);
        ends[name] = (error) => (error ? fail(error) : settleOne());
      });
    for (const name of ['a', 'b']) transfers.add('up', name, '/', 1, work(name));
    transfers.add('down', 'c', '/', 1, work('c'));
    expect(running).toEqual(['a', 'c']);
    ends.a?.(new Error('no'));
    await settle();
    expect(running).toEqual(['a', 'c', 'b']);
    expect(transfers.list.find((one) => one.name === 'a')).toMatchObject({ state: 'failed', error: 'no' });
    transfers.retry(1);
    ends.b?.();
    await settle();
    expect(running.at(-1)).toBe('a');
    transfers.cancelAll();
    ends.a?.(new Error('Cancelled'));
    ends.c?.(new Error('Cancelled'));
    await settle();
    expect(transfers.busy).toBe(false);
    transfers.clear();
    expect(transfers.list).toEqual([]);
  });
});
