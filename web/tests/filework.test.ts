import { createHash } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { bytesOf, textOf } from '../src/files/editing';
import { FileHash, hashOf } from '../src/files/hashing';
import { fits, look, patternOf } from '../src/files/looking';
import { modeText, visible } from '../src/files/paths';
import { send } from '../src/files/sending';
import { BLOCK, Conflict, FileSession, LinkLost, MOST_HITS, type Source } from '../src/files/session';
import { Standing } from '../src/files/standing';
import type { TunnelState } from '../src/tunnel/tunnel';
import { FakeSocket } from './fakeSocket';

const noise = (length: number): Uint8Array<ArrayBuffer> => Uint8Array.from({ length }, (_, n) => (n * 7919 + (n >> 8) * 31) & 255);
const source = (bytes: Uint8Array<ArrayBuffer>): Source => ({ size: bytes.length, slice: (from, to) => ({ arrayBuffer: () => Promise.resolve(bytes.slice(from, to).buffer) }) });
const sha = (kind: string, bytes: Uint8Array): string => createHash(kind).update(bytes).digest('hex');
const watch = () => ({ onProgress: vi.fn(), signal: new AbortController().signal });

/** A device with one folder, behind sockets that can be cut. Blocks beyond `breaksAt` bytes break the link. */
class Disk {
  files = new Map<string, Uint8Array>();
  sockets: FakeSocket[] = [];
  requests: Record<string, unknown>[] = [];
  breaksAt = Infinity;
  spoils = false;

  constructor(readonly ours: boolean) {}

  connect(): FakeSocket {
    const socket = new FakeSocket();
    this.sockets.push(socket);
    let upload: { reqid: unknown; name: string; blocks: Uint8Array[]; hash: unknown } | null = null;
    const say = (message: object): void => queueMicrotask(() => socket.say(new TextEncoder().encode(JSON.stringify(message)).buffer as ArrayBuffer));
    const original = socket.send.bind(socket);
    socket.send = (data: string | Uint8Array) => {
      original(data);
      if (typeof data === 'string') {
        if (data === '5' && this.ours) queueMicrotask(() => socket.say(JSON.stringify({ action: 'abilities', can: ['sha256', 'resume', 'replace', 'progress'] })));
        if (data.includes('"rtt"')) queueMicrotask(() => socket.say(data));
        return;
      }
      if (data[0] !== 0x7b) {
        if (!upload) return;
        const block = data[0] === 0 ? data.slice(1) : data.slice();
        upload.blocks.push(block);
        const all = upload.blocks.reduce((sum, one) => sum + one.length, 0);
        this.files.set(upload.name, Buffer.concat(upload.blocks));
        if (all > this.breaksAt) {
          this.breaksAt = Infinity;
          upload = null;
          queueMicrotask(() => socket.drop());
        } else say({ action: 'uploadack', reqid: upload.reqid });
        return;
      }
      const request = JSON.parse(new TextDecoder().decode(data)) as Record<string, string>;
      this.requests.push(request);
      const { reqid } = request;
      if (request.action === 'ls') say({ path: request.path, dir: [...this.files].map(([n, bytes]) => ({ n, t: 3, s: bytes.length })), reqid });
      else if (request.action === 'upload') {
        const old = this.files.get(request.name ?? '') ?? new Uint8Array();
        const kept = 'append' in request ? (this.ours ? old.slice(0, Number(request.offset)) : old) : new Uint8Array();
        upload = { reqid, name: request.name ?? '', blocks: [kept], hash: request.hash };
        this.files.set(upload.name, kept);
        say({ action: 'uploadstart', reqid });
      } else if (request.action === 'uploaddone' && upload) {
        if (this.spoils) this.files.get(upload.name)?.set([1, 2, 3]);
        say({ action: 'uploaddone', reqid, ...(upload.hash ? { hash: sha('sha256', this.files.get(upload.name) ?? new Uint8Array()).toUpperCase() } : {}) });
        upload = null;
      } else if (request.action === 'uploadhash') {
        const file = this.files.get(request.path?.split('/').at(-1) ?? '');
        say({ action: 'uploadhash', reqid, result: 'ok', hash: file ? sha(request.kind ?? 'sha384', file).toUpperCase() : null });
      }
    };
    return socket;
  }

  standing(): Standing {
    return new Standing(
      (events) =>
        new FileSession(
          {
            nodeId: 'node//a',
            cookies: () => Promise.resolve({ cookie: 'C', rcookie: 'R' }),
            ask: () => Promise.resolve('OK'),
            connect: () => {
              const socket = this.connect();
              queueMicrotask(() => {
                socket.open();
                setTimeout(() => socket.say('c'));
              });
              return socket;
            },
            online: () => true,
          },
          events,
        ),
      () => true,
      () => undefined,
    );
  }
}

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

describe.each([
  ['our agent', true],
  ['a MeshAgent', false],
])('an upload to %s', (_, ours) => {
  const kind = ours ? 'sha256' : 'sha384';
  const sending = async (disk: Disk, bytes: Uint8Array<ArrayBuffer>, seen = watch()) => {
    const standing = disk.standing();
    standing.connect();
    const done = send('/d', 'f', source(bytes), { ready: (signal) => standing.ready(signal), say: () => undefined }, seen);
    const caught = done.catch((error: unknown) => error);
    await vi.advanceTimersByTimeAsync(20_000);
    standing.end();
    return caught;
  };

  it('is compared at its end', async () => {
    const disk = new Disk(ours);
    const bytes = noise(BLOCK * 3 + 17);
    expect(await sending(disk, bytes)).toEqual({ kind, hash: sha(kind, bytes), verified: true });
    const spoilt = new Disk(ours);
    spoilt.spoils = true;
    expect(String(await sending(spoilt, bytes))).toMatch(/checksum differs/);
  });

  it('goes on where the link broke, with what is there proved first', async () => {
    const disk = new Disk(ours);
    disk.breaksAt = BLOCK * 6;
    const bytes = noise(BLOCK * 12 + 5);
    const seen = watch();
    expect(await sending(disk, bytes, seen)).toMatchObject({ verified: true, hash: sha(kind, bytes) });
    expect(Buffer.from(bytes).equals(disk.files.get('f') ?? new Uint8Array())).toBe(true);
    const starts = disk.requests.filter((one) => one.action === 'upload');
    expect(starts).toHaveLength(2);
    expect(starts[1]).toMatchObject(ours ? { append: true, offset: BLOCK * 7 } : { append: true });
    expect(disk.sockets).toHaveLength(2);
  });

  it('begins anew when something else is there', async () => {
    const disk = new Disk(ours);
    disk.breaksAt = BLOCK * 5;
    const bytes = noise(BLOCK * 8);
    const connect = disk.connect.bind(disk);
    disk.connect = () => {
      // Between the links somebody else writes there.
      if (disk.sockets.length === 1) disk.files.set('f', Buffer.from('not the beginning'));
      return connect();
    };
    expect(await sending(disk, bytes)).toMatchObject({ verified: true });
    expect(disk.requests.filter((one) => one.action === 'upload')[1]).not.toHaveProperty('append');
    expect(Buffer.from(bytes).equals(disk.files.get('f') ?? new Uint8Array())).toBe(true);
  });
});

describe('the link', () => {
  it('is made again when it broke, and not when the device ended it with words', async () => {
    const states: [TunnelState['kind'], boolean][] = [];
    const sockets: FakeSocket[] = [];
    const standing = new Standing(
      (events) => new FileSession({ nodeId: 'n', cookies: () => Promise.resolve({ cookie: '', rcookie: '' }), ask: () => Promise.resolve('OK'), connect: () => (sockets.push(new FakeSocket()), sockets.at(-1) as FakeSocket), online: () => true }, events),
      () => true,
      (state, again) => states.push([state.kind, again]),
    );
    standing.connect();
    await vi.advanceTimersByTimeAsync(10);
    sockets[0]?.open();
    sockets[0]?.say('c');
    sockets[0]?.drop();
    expect(states.at(-1)).toEqual(['ended', true]);
    const waiting = standing.ready(new AbortController().signal).catch((error: unknown) => error);
    await vi.advanceTimersByTimeAsync(5000);
    expect(sockets).toHaveLength(2);
    sockets[1]?.open();
    sockets[1]?.say('c');
    sockets[1]?.say(JSON.stringify({ ctrlChannel: '102938', type: 'console', msg: 'No right to use the files of this device', msgid: 0 }));
    sockets[1]?.drop();
    expect(states.at(-1)).toEqual(['ended', false]);
    expect(String(await waiting)).toMatch(/No right/);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(sockets).toHaveLength(2);
  });
});

describe('work on the device', () => {
  const begin = async () => {
    const socket = new FakeSocket();
    const session = new FileSession({ nodeId: 'n', cookies: () => Promise.resolve({ cookie: '', rcookie: '' }), ask: () => Promise.resolve('OK'), connect: () => socket, online: () => true }, { onState: () => undefined, onRoundTrip: () => undefined });
    await session.start();
    socket.open();
    socket.say('c');
    const last = () => JSON.parse(new TextDecoder().decode(socket.sent.filter((one): one is Uint8Array => typeof one !== 'string').at(-1))) as Record<string, string>;
    return { socket, session, last };
  };

  it('tells how far it is, is ended, and fails with the words of the device', async () => {
    const { socket, session, last } = await begin();
    const stop = new AbortController();
    const seen = vi.fn();
    const done = session.work({ action: 'copy', names: ['a'] }, stop.signal, seen).catch((error: unknown) => error);
    const { reqid } = last();
    socket.say(JSON.stringify({ action: 'progress', reqid, done: 5, total: 10, items: 1, name: 'a' }));
    expect(seen).toHaveBeenCalledWith({ done: 5, total: 10, items: 1, name: 'a' });
    stop.abort();
    expect(last()).toEqual({ action: 'cancel', reqid });
    socket.say(JSON.stringify({ action: 'copy', reqid, error: 'cancelled' }));
    expect(String(await done)).toMatch(/cancelled/);
    session.end('');
  });

  it('ends an archive of a MeshAgent with the last of its words', async () => {
    const { socket, session } = await begin();
    const say = (message: object) => socket.say(new TextEncoder().encode(JSON.stringify({ action: 'dialogmessage', ...message })).buffer as ArrayBuffer);
    const { signal } = new AbortController();
    const zipped = session.work({ action: 'zip', files: ['a'], output: 'a.zip' }, signal);
    say({ msg: null });
    say({ msg: 'zipping' });
    say({ msg: 'zippingFile', file: '/a', progress: 5 });
    say({ msg: null });
    expect(await zipped).toEqual({});
    const unzipped = session.work({ action: 'unzip', input: '/a.zip', dest: '/' }, signal).catch((error: unknown) => error);
    say({ msg: 'unziperror', error: 'bad' });
    expect(String(await unzipped)).toMatch(/bad/);
    session.end('');
  });

  it('takes no more hits than it shows, and fails what was under way when the link breaks', async () => {
    const { socket, session, last } = await begin();
    const hits: string[] = [];
    const found = session.find('/d', '*', (hit) => hits.push(hit), new AbortController().signal);
    const { reqid } = last();
    for (let n = 0; n < MOST_HITS + 5; n += 1) socket.say(JSON.stringify({ action: 'findfile', r: `/${n}`, reqid }));
    expect(await found).toBe(true);
    expect(hits).toHaveLength(MOST_HITS);
    expect(hits[0]).toBe('0');
    expect(last().action).toBe('cancelfindfile');
    const cut = session.work({ action: 'rm' }, new AbortController().signal).catch((error: unknown) => error);
    socket.drop();
    expect(await cut).toBeInstanceOf(LinkLost);
  });

  it('tells a conflict from other failures', async () => {
    const { socket, session, last } = await begin();
    const done = session.upload('/d', 'f', source(new Uint8Array(0)), watch(), { replace: { expected: 'x' } }).catch((error: unknown) => error);
    socket.say(new TextEncoder().encode(JSON.stringify({ action: 'uploaderror', reqid: last().reqid, error: 'changed', conflict: true })).buffer as ArrayBuffer);
    expect(await done).toBeInstanceOf(Conflict);
    session.end('');
  });
});

describe('hashes', () => {
  it('are those of the whole, wherever they were gone on with', async () => {
    const bytes = noise(300_000);
    const hash = new FileHash('sha256');
    for (let at = 0; at < 200_000; at += 50_000) hash.add(bytes.slice(at, at + 50_000));
    hash.confirm(100_000);
    const { signal } = new AbortController();
    expect(await hash.goTo(123_456, source(bytes), signal)).toBe(sha('sha256', bytes.slice(0, 123_456)));
    hash.add(bytes.slice(123_456));
    expect(hash.digest()).toBe(sha('sha256', bytes));
    expect(await hash.goTo(10, source(bytes), signal)).toBe(sha('sha256', bytes.slice(0, 10)));
    expect(hashOf('sha384', bytes)).toBe(sha('sha384', bytes));
  });
});

describe('texts', () => {
  it('come back as they were', () => {
    for (const words of ['', 'one', 'one\ntwo\n', 'one\r\ntwo\r\n', '\ufeffBOM\r\n', 'Grüße 世界\n']) {
      const bytes = new TextEncoder().encode(words);
      const text = textOf(bytes);
      expect(bytesOf(text, text.words)).toEqual(bytes);
    }
    expect(textOf(new TextEncoder().encode('a\r\nb\n'))).toMatchObject({ mixed: true });
    expect(textOf(new TextEncoder().encode('a\r\nb\r\n'))).toMatchObject({ end: '\r\n', mixed: false, words: 'a\nb\n' });
  });
  it('are refused when they would not', () => {
    expect(() => textOf(Uint8Array.from([65, 0, 66]))).toThrow(/no text file/);
    expect(() => textOf(Uint8Array.from([0xff, 0xfe, 65]))).toThrow(/no UTF-8/);
    expect(() => textOf(Uint8Array.from([65, 13, 66]))).toThrow();
  });
});

describe('looking for names', () => {
  it('knows patterns as people type them', () => {
    expect(patternOf('log')).toBe('*log*');
    for (const [pattern, name] of [['*.LOG', 'a.log'], ['a?c', 'abc'], ['*', ''], ['a*b*c', 'axxbyyc']] as const) expect(fits(pattern, name)).toBe(true);
    for (const [pattern, name] of [['*.log', 'a.logx'], ['a?c', 'ac'], ['', 'a']] as const) expect(fits(pattern, name)).toBe(false);
  });
  it('goes through the folders of an agent that cannot search, and finds an end in a circle', async () => {
    const session = { can: () => false, list: (path: string) => Promise.resolve(path.includes('secret') ? [] : [{ name: 'loop', kind: 'folder' }, { name: 'hit.txt', kind: 'file' }]) } as unknown as FileSession;
    const hits: string[] = [];
    await look(session, '/d', '*.txt', false, (hit) => hits.push(hit), new AbortController().signal);
    expect(hits[0]).toBe('hit.txt');
    expect(hits[1]).toBe('loop/hit.txt');
    expect(hits).toHaveLength(25);
  });
});

it('shows bytes that are no text, and permissions', () => {
  expect(visible('a\u{10feff}b\u{10fe80}')).toBe('a\\xffb\\x80');
  expect(modeText(0o754)).toBe('rwxr-xr--');
});
