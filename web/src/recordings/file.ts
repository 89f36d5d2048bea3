/** A recording as it lies in its file (tunnel-protocols §9): blocks with a head of 16 bytes. Everything is hostile until read. */
import { recordingText } from '../text.recordings';
import type { Source } from './source';

export interface About {
  protocol: number | null;
  userid: string;
  username: string;
  devicename: string;
  nodeid: string;
  guestname: string;
}

/** What is needed to show a screen at one moment; places count from the first message. */
export interface IndexEntry {
  next: number;
  width: number;
  height: number;
  pictures: number[];
}

export interface Block {
  kind: 'message' | 'end';
  binary: boolean;
  fromViewer: boolean;
  /** Milliseconds since 1970. */
  time: number;
  data: Uint8Array<ArrayBuffer>;
  /** Bytes that it has, of which `data` may be the beginning. */
  size: number;
  /** Where the next block begins. */
  next: number;
}

const HEAD = 16;
const ENDING = 32;
const PLAIN = 'MeshCentralMCREC';
const INDEXED = 'MeshCentralMCNDX';
/** The largest block read whole: the largest picture. */
const LARGEST = 64 * 1024 * 1024;
const LARGEST_ABOUT = 64 * 1024;
const LARGEST_INDEX = 32 * 1024 * 1024;

interface Head {
  kind: number;
  flags: number;
  size: number;
  time: number;
}

function headOf(bytes: Uint8Array): Head | null {
  if (bytes.length < HEAD) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return { kind: view.getUint16(0), flags: view.getUint16(2), size: view.getUint32(4), time: view.getUint16(10) * 2 ** 32 + view.getUint32(12) };
}

const decode = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
const texts = (value: unknown): string => (typeof value === 'string' ? value : '');
const whole = (value: unknown): value is number => typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;

function parse(bytes: Uint8Array): Record<string, unknown> | null {
  try {
    const read: unknown = JSON.parse(decode(bytes));
    return typeof read === 'object' && read !== null ? (read as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}

export class RecordingFile {
  private constructor(
    private readonly source: Source,
    readonly about: About,
    /** Where the first message begins. */
    readonly base: number,
    /** When the session began, and when it ended if the file says so. */
    readonly start: number,
    readonly end: number | null,
    /** Seconds between two entries of the index. */
    readonly interval: number,
    readonly index: readonly IndexEntry[],
  ) {}

  /** The file has its end. */
  get isWhole(): boolean {
    return this.end !== null;
  }

  static async open(source: Source): Promise<RecordingFile> {
    const first = await source.read(0, Math.min(source.size, LARGEST_ABOUT));
    const head = headOf(first);
    const json = head && head.kind === 1 && head.size <= LARGEST_ABOUT - HEAD && HEAD + head.size <= first.length ? parse(first.subarray(HEAD, HEAD + head.size)) : null;
    if (!head || json?.magic !== 'MeshCentralRelaySession') throw new Error(recordingText.notRecording);
    const protocol = Number(json.protocol ?? NaN);
    const about: About = {
      protocol: Number.isInteger(protocol) ? protocol : null,
      userid: texts(json.userid),
      username: texts(json.username),
      devicename: texts(json.devicename),
      nodeid: texts(json.nodeid),
      guestname: texts(json.guestname),
    };
    const base = HEAD + head.size;
    const message = headOf(await source.read(base, HEAD));
    const start = message?.kind === 2 ? message.time : head.time;
    const { end, interval, index } = await RecordingFile.#ending(source, base);
    return new RecordingFile(source, about, base, start, end, interval, index);
  }

  static async #ending(source: Source, base: number): Promise<{ end: number | null; interval: number; index: IndexEntry[] }> {
    const none = { end: null, interval: 10, index: [] };
    const last = source.size - ENDING;
    if (last < base) return none;
    const tail = await source.read(last, ENDING);
    const head = headOf(tail);
    if (!head || head.kind !== 3 || head.size !== 16) return none;
    const word = decode(tail.subarray(HEAD));
    if (word === PLAIN) return { ...none, end: head.time };
    const place = head.time;
    if (word !== INDEXED || place < base || place + HEAD > last) return none;
    const extra = headOf(await source.read(place, HEAD));
    if (!extra || extra.kind !== 4) return none;
    const size = last - place - HEAD;
    const json = extra.size === size && size <= LARGEST_INDEX ? parse(await source.read(place + HEAD, size)) : null;
    const interval = Number(json?.indexInterval);
    const listed = Array.isArray(json?.indexes) && interval > 0 ? (json.indexes as unknown[]) : [];
    const index = listed.map((entry): IndexEntry | null => {
      if (!Array.isArray(entry) || !entry.every(whole) || entry.length < 3) return null;
      const [next = 0, width = 0, height = 0, ...pictures] = entry as number[];
      return { next, width, height, pictures };
    });
    return { end: extra.time, interval: interval > 0 ? interval : 10, index: index.every((entry) => entry !== null) ? index : [] };
  }

  /** The block at a place, of its content at most `most` bytes; null behind the last whole one. */
  async block(place: number, most = LARGEST): Promise<Block | null> {
    const head = headOf(await this.source.read(place, HEAD));
    if (!head || head.kind !== 2) return null;
    const next = place + HEAD + head.size;
    if (next > this.source.size) return null;
    const data = await this.source.read(place + HEAD, Math.min(head.size, most, LARGEST));
    return { kind: 'message', binary: (head.flags & 1) !== 0, fromViewer: (head.flags & 2) !== 0, time: head.time, data, size: head.size, next };
  }

  /** The last entry of the index at or before a moment (milliseconds after the start), with its own moment. */
  entryBefore(position: number): { entry: IndexEntry; at: number } | null {
    const n = Math.min(this.index.length, Math.floor(position / (this.interval * 1000))) - 1;
    const entry = this.index[n];
    return entry ? { entry, at: (n + 1) * this.interval * 1000 } : null;
  }
}
