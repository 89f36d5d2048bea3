import { describe, expect, it } from 'vitest';
import { RecordingFile, type Block } from '../src/recordings/file';
import { LogStage, said } from '../src/recordings/logStage';
import { LONGEST_IDLE, Player, type Stage } from '../src/recordings/player';
import { fromFile, PIECE, Pieces, type Source } from '../src/recordings/source';

const START = 1_795_454_000_000;
const encode = (text: string): Uint8Array => new TextEncoder().encode(text);

function block(kind: number, flags: number, time: number, data: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(16 + data.length);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, kind);
  view.setUint16(2, flags);
  view.setUint32(4, data.length);
  view.setUint16(10, Math.floor(time / 2 ** 32));
  view.setUint32(12, time % 2 ** 32);
  bytes.set(data, 16);
  return bytes;
}

/** A recording of messages `[ms after the start, words]`, each from the device. */
function recording(messages: [number, string][], ending: 'plain' | 'none' | { interval: number; entries: number[][] } = 'plain', protocol: unknown = 1): Blob {
  const parts = [block(1, 0, START, encode(JSON.stringify({ magic: 'MeshCentralRelaySession', ver: 1, username: 'Ann', devicename: 'pc', protocol })))];
  for (const [at, words] of messages) parts.push(block(2, 1, START + at, encode(words)));
  const end = START + (messages.at(-1)?.[0] ?? 0) + 1000;
  if (ending === 'plain') parts.push(block(3, 0, end, encode('MeshCentralMCREC')));
  else if (ending !== 'none') {
    const place = parts.reduce((sum, part) => sum + part.length, 0);
    parts.push(block(4, 0, end, encode(JSON.stringify({ indexInterval: ending.interval, indexStartTime: START, indexes: ending.entries }))));
    parts.push(block(3, 0, place, encode('MeshCentralMCNDX')));
  }
  return new Blob(parts as BlobPart[]);
}

/** What was shown, with a clock that jumps from one wait to the next. */
function theatre(most = 1_000_000) {
  const shown: string[] = [];
  const stage: Stage = {
    most,
    clear: (size) => void shown.push(size ? `clear ${size.width}×${size.height}` : 'clear'),
    show: (one: Block) => void shown.push(new TextDecoder().decode(one.data)),
  };
  let now = 0;
  const timing = { now: () => now, wait: async (milliseconds: number) => void (now += milliseconds) };
  const errors: unknown[] = [];
  const events = { onChange: () => undefined, onError: (error: unknown) => void errors.push(error) };
  return { shown, stage, timing, events, errors, elapsed: () => now };
}

describe('a recording in its file', () => {
  it('is read with its end, its index, or neither', async () => {
    const plain = await RecordingFile.open(fromFile(recording([[0, 'a'], [5000, 'b']])));
    expect([plain.about.protocol, plain.about.username, plain.start, plain.end]).toEqual([1, 'Ann', START, START + 6000]);
    const indexed = await RecordingFile.open(fromFile(recording([[0, 'a'], [25_000, 'b']], { interval: 10, entries: [[17, 64, 32, 0], [17, 64, 32, 0]] }, '2')));
    expect([indexed.about.protocol, indexed.end, indexed.index.length]).toEqual([2, START + 26_000, 2]);
    expect(indexed.entryBefore(9999)).toBeNull();
    expect(indexed.entryBefore(21_000)).toEqual({ at: 20_000, entry: { next: 17, width: 64, height: 32, pictures: [0] } });
    const torn = recording([[0, 'a'], [1000, 'bcdef']], 'none');
    const damaged = await RecordingFile.open(fromFile(torn.slice(0, torn.size - 2)));
    expect(damaged.isWhole).toBe(false);
    const first = await damaged.block(damaged.base);
    expect(new TextDecoder().decode(first?.data)).toBe('a');
    expect(await damaged.block(first?.next ?? 0)).toBeNull();
  });

  it('is refused when it is something else, and a bad index is no index', async () => {
    for (const other of ['', 'hello', '\u0000\u0001'.repeat(40)]) await expect(RecordingFile.open(fromFile(new Blob([other])))).rejects.toThrow();
    const bad = await RecordingFile.open(fromFile(recording([[0, 'a']], { interval: -1, entries: [[1]] })));
    expect([bad.index.length, bad.interval]).toEqual([0, 10]);
  });

  it('is fetched in pieces of which few are kept', async () => {
    const asked: number[] = [];
    const size = PIECE * 20;
    const pieces = new Pieces(size, async (from, to) => (asked.push(from / PIECE), new Uint8Array(to - from).fill(from / PIECE)));
    const across = await pieces.read(PIECE - 2, 4);
    expect([...across]).toEqual([0, 0, 1, 1]);
    await pieces.read(PIECE, 10);
    expect(asked).toEqual([0, 1, 2]);
    for (let n = 3; n < 20; n += 1) await pieces.read(n * PIECE, 1);
    asked.length = 0;
    await pieces.read(0, 1);
    expect(asked[0]).toBe(0);
    expect((await pieces.read(size - 1, 100)).length).toBe(1);
  });
});

describe('the player', () => {
  const open = async (blob: Blob) => RecordingFile.open(fromFile(blob));

  it('shows what is due, at any speed, to the end', async () => {
    for (const speed of [1, 4]) {
      const { shown, stage, timing, events, elapsed } = theatre();
      const player = new Player(await open(recording([[0, 'a'], [2000, 'b'], [2000, 'c'], [8000, 'd']])), stage, events, timing);
      player.speed = speed;
      await player.play();
      expect(shown).toEqual(['clear', 'a', 'b', 'c', 'd']);
      expect([player.ended, player.playing, player.position]).toEqual([true, false, 9000]);
      expect(elapsed()).toBeGreaterThanOrEqual(8900 / speed);
      expect(elapsed()).toBeLessThan(10_000 / speed);
    }
  });

  it('skips idle time', async () => {
    const { stage, timing, events, elapsed } = theatre();
    const player = new Player(await open(recording([[0, 'a'], [600_000, 'b'], [600_500, 'c']])), stage, events, timing);
    player.skipIdle = true;
    await player.play();
    expect(player.position).toBe(601_500);
    expect(elapsed()).toBeLessThan(LONGEST_IDLE + 500 + 1500);
  });

  it('goes ahead and back, by the index where there is one', async () => {
    const messages: [number, string][] = [[0, 'a'], [9000, 'b'], [12_000, 'c'], [24_000, 'd'], [26_000, 'e']];
    const plain = theatre();
    const player = new Player(await open(recording(messages)), plain.stage, plain.events, plain.timing);
    await player.seek(13_000);
    expect([plain.shown, player.position]).toEqual([['clear', 'a', 'b', 'c'], 13_000]);
    await player.seek(9500);
    expect(plain.shown.slice(4)).toEqual(['clear', 'a', 'b']);
    const indexed = theatre();
    // Blocks of one letter have 17 bytes. At 10 s: the picture of b; at 20 s that of c.
    const file = await open(recording(messages, { interval: 10, entries: [[34, 64, 32, 17], [51, 64, 32, 17, 34]] }));
    const other = new Player(file, indexed.stage, indexed.events, indexed.timing);
    await other.seek(25_000);
    expect(indexed.shown).toEqual(['clear', 'clear 64×32', 'b', 'c', 'd']);
    await other.seek(26_500);
    expect(indexed.shown.slice(5)).toEqual(['e']);
    await other.seek(11_000);
    expect(indexed.shown.slice(6)).toEqual(['clear 64×32', 'b']);
    expect(indexed.errors).toEqual([]);
  });

  it('says what went wrong and stands still', async () => {
    const blob = recording([[0, 'a'], [100, 'b']]);
    const whole = fromFile(blob);
    let broken = false;
    const source: Source = { size: whole.size, read: (from, length) => (broken ? Promise.reject(new Error('gone')) : whole.read(from, length)) };
    const { stage, timing, events, errors } = theatre();
    const player = new Player(await RecordingFile.open(source), stage, events, timing);
    broken = true;
    await player.play();
    expect(errors).toEqual([new Error('gone')]);
    expect(player.playing).toBe(false);
  });
});

describe('files in words', () => {
  it('tells what was asked of the device', () => {
    expect(said('{"action":"ls","reqid":1,"path":"/tmp"}')).toBe('Listed /tmp');
    expect(said('{"action":"rm","path":"/tmp/","delfiles":["a","b"]}')).toBe('Deleted /tmp/a, b');
    expect(said('{"action":"rename","path":"/x","oldname":"a","newname":"b"}')).toBe('Renamed /x/a → b');
    expect(said('{"action":"download","sub":"start","path":"/x/y"}')).toBe('Fetched /x/y');
    for (const silent of ['{"action":"download","sub":"ack"}', '{"ctrlChannel":"102938","type":"rtt"}', '5', '{', '{"action":7}', '']) expect(said(silent)).toBe('');
    expect(said('{"action":"frobnicate","path":"/x"}')).toBe('frobnicate /x');
  });

  it('counts what passed', () => {
    let last: unknown;
    const stage = new LogStage(false, (_, up, down) => (last = [up, down]));
    stage.show({ kind: 'message', binary: true, fromViewer: true, time: 0, data: new Uint8Array(1), size: 1, next: 0 }, 0);
    stage.show({ kind: 'message', binary: true, fromViewer: false, time: 0, data: new Uint8Array(3), size: 9000, next: 0 }, 0);
    expect(last).toEqual([1, 9000]);
  });
});
