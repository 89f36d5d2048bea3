/**
 * One files session (tunnel-protocols §5): lists folders, changes them, and moves files one at a time in each
 * direction, as agents want it. MeshAgents do not answer changes, so whoever makes one lists the folder afterwards.
 * Our own agent says at the beginning what it can do besides (docs/protocol-notes.md). It knows no page.
 */
import { remote } from '../text.remote';
import { Protocol, Tunnel, type TunnelLink, type TunnelState } from '../tunnel/tunnel';

export type EntryKind = 'drive' | 'folder' | 'file';

export interface FileEntry {
  /** As the device calls it, whatever stands in it. */
  name: string;
  kind: EntryKind;
  /** Bytes, for files; of the whole drive, for drives. */
  size: number | null;
  /** Milliseconds since 1970. */
  changed: number | null;
  /** What kind of drive, and its free bytes. */
  drive: { type: string; free: number | null } | null;
  /** Permissions, owner and group, where the agent tells them. */
  rights?: { mode: number; owner: string; group: string };
  /** Where it leads, for links that are shown as such. */
  link?: string;
}

/** What our agent can do beyond MeshCentral's protocol. */
export type Ability = 'progress' | 'conflicts' | 'resume' | 'replace' | 'sha256' | 'zip' | 'folders' | 'offset' | 'owners';
/** What to do where something of that name is already. */
export type Exists = 'refuse' | 'overwrite' | 'skip' | 'both';
export type HashKind = 'sha256' | 'sha384';

/** How far work on the device is. */
export interface WorkProgress {
  done: number;
  total: number | null;
  items: number;
  name: string;
}

/** How an upload begins; what MeshAgents do not know is only sent to agents that do. */
export interface UploadStart {
  /** Bytes that the device has already. */
  from?: number;
  /** A running hash, told at the end. */
  hash?: HashKind;
  /** Put in the old file's place when whole, if that still has this hash. */
  replace?: { expected: string | null };
  /** Called with each block in the order of the file. */
  onBlock?(block: Uint8Array): void;
  /** Called with how many bytes of the file the device has. */
  onConfirmed?(offset: number): void;
}

/** An error with words fit to show. */
export class FilesError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'FilesError';
  }
}

/** The link broke: what was under way may be gone on with over another one. */
export class LinkLost extends FilesError {}

/** Somebody else changed the file meanwhile. */
export class Conflict extends FilesError {}

export interface FileEvents {
  onState(state: TunnelState): void;
  onRoundTrip(milliseconds: number): void;
}

/** Bytes of a file, however they are kept. A browser's File is one. */
export interface Source {
  size: number;
  slice(from: number, to: number): { arrayBuffer(): Promise<ArrayBuffer> };
}

export interface TransferWatch {
  onProgress(bytes: number): void;
  signal: AbortSignal;
  /** Resolves when the transfer may go on; at once unless it is paused. */
  gate?(): Promise<void> | undefined;
}

/** Bytes of an upload's block (the stock client's 64 KiB). */
export const BLOCK = 65536;
/** Bytes read from the file here at once: each reading costs the browser more than the bytes do. */
const READ = 16 * BLOCK;
/** Blocks under way without an answer: the first one and eight more. */
export const WINDOW = 9;
/** The most entries of a folder that are shown; a hostile device could send them for ever. */
export const MOST_ENTRIES = 100_000;
/** A device that says nothing for this long is not coming back. */
const SILENCE_MS = 30_000;
/** Hashing a large file on a slow disk takes this long without a word, where the agent does not tell of progress. */
const HASH_MS = 900_000;
/** The most hits of a search that are shown. */
export const MOST_HITS = 10_000;
const DOWNLOAD_FINAL = 1;
/** The bytes before each block of a download. */
const DOWNLOAD_HEADER = 4;
/** Bytes that the browser may hold back before the next block is read from disk. */
const MOST_UNSENT = 4 * BLOCK;

interface Waiting<T> {
  settle(value: T): void;
  fail(error: Error): void;
}
interface Listing extends Waiting<FileEntry[]> {
  path: string;
  timer: ReturnType<typeof setTimeout>;
}
interface Upload extends Waiting<string | null> {
  id: string;
  start: UploadStart;
  source: Source;
  watch: TransferWatch;
  offset: number;
  /** What was read of the file and is not sent yet. */
  ahead: { from: number; bytes: Uint8Array };
  /** Blocks sent and not yet answered, with their sizes. */
  flying: number[];
  confirmed: number;
  started: boolean;
  reading: boolean;
  finishing: boolean;
  timer?: ReturnType<typeof setTimeout>;
}
/** Work on the device that answers at its end. */
interface Work extends Waiting<Record<string, unknown>> {
  action: string;
  onProgress(progress: WorkProgress): void;
  /** MeshAgents tell of archives by words for a dialog, the last of them none. */
  begun: boolean;
  timer?: ReturnType<typeof setTimeout>;
}
interface Search extends Waiting<boolean> {
  onHit(path: string): void;
  hits: number;
}
interface Download extends Waiting<void> {
  id: string;
  take(block: Uint8Array<ArrayBuffer>): Promise<void> | void;
  watch: TransferWatch;
  received: number;
  /** Blocks are taken one after the other, though writing them takes its time. */
  writing: Promise<void>;
  timer?: ReturnType<typeof setTimeout>;
}

const object = (value: unknown): Record<string, unknown> | null => (typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : null);

/** The entries of a listing, with what is broken left out. */
export function entriesOf(list: unknown): FileEntry[] {
  if (!Array.isArray(list)) return [];
  const entries: FileEntry[] = [];
  for (const one of list) {
    if (entries.length === MOST_ENTRIES) break;
    const entry = object(one);
    if (!entry || typeof entry.n !== 'string' || entry.n === '' || entry.n === '.' || entry.n === '..') continue;
    const kind: EntryKind | null = entry.t === 1 ? 'drive' : entry.t === 2 ? 'folder' : entry.t === 3 ? 'file' : null;
    if (!kind) continue;
    const size = typeof entry.s === 'number' && entry.s >= 0 && kind !== 'folder' ? entry.s : null;
    const changed = typeof entry.d === 'string' ? Date.parse(entry.d) : Number.NaN;
    entries.push({
      name: entry.n,
      kind,
      size,
      changed: Number.isNaN(changed) ? null : changed,
      ...(typeof entry.m === 'number' && typeof entry.u === 'string' && typeof entry.g === 'string' ? { rights: { mode: entry.m & 0o7777, owner: entry.u, group: entry.g } } : {}),
      ...(typeof entry.l === 'string' ? { link: entry.l } : {}),
      drive: kind === 'drive' ? { type: typeof entry.dt === 'string' ? entry.dt : '', free: typeof entry.f === 'number' ? entry.f : null } : null,
    });
  }
  return entries;
}

export class FileSession {
  readonly #tunnel: Tunnel;
  readonly #encoder = new TextEncoder();
  readonly #decoder = new TextDecoder();
  #serial = 0;
  #listings = new Map<string, Listing>();
  #upload: Upload | null = null;
  #download: Download | null = null;
  #works = new Map<string, Work>();
  #searches = new Map<string, Search>();
  #can: ReadonlySet<string> = new Set();
  #greet: () => void = () => undefined;
  /** Resolves when the agent has had the time to say what it can do: it answers in order, and this was asked after. */
  readonly greeted = new Promise<void>((settle) => (this.#greet = settle));

  constructor(link: TunnelLink, private readonly events: FileEvents) {
    this.#tunnel = new Tunnel(
      link,
      Protocol.Files,
      () => ({ abilities: true }),
      {
        onState: (state) => this.#state(state),
        onRoundTrip: (milliseconds) => {
          this.#greet();
          events.onRoundTrip(milliseconds);
        },
        onBytes: (bytes) => (bytes[0] === 0x7b ? this.#message(this.#decoder.decode(bytes)) : this.#block(bytes as Uint8Array<ArrayBuffer>)),
        onText: (frame) => this.#message(frame),
      },
      remote.files.ended,
    );
  }

  /** Whether the agent can do something beyond MeshCentral's protocol; known when the first folder is listed. */
  can(ability: Ability): boolean {
    return this.#can.has(ability);
  }
  /** The kind of hash to use with this agent. */
  get hashKind(): HashKind {
    return this.can('sha256') ? 'sha256' : 'sha384';
  }
  get isOpen(): boolean {
    return this.#tunnel.isOpen;
  }

  get moved(): number {
    return this.#tunnel.received + this.#tunnel.sent;
  }

  start(): Promise<void> {
    return this.#tunnel.start();
  }

  end(reason: string): void {
    this.#tunnel.end(reason);
  }

  /** The entries of a folder, unsorted. */
  list(path: string): Promise<FileEntry[]> {
    return new Promise((settle, fail) => {
      if (!this.#tunnel.isOpen) {
        fail(new FilesError(remote.files.notConnected));
        return;
      }
      const id = `l${++this.#serial}`;
      const timer = setTimeout(() => {
        this.#listings.delete(id);
        fail(new FilesError(remote.files.silent));
      }, SILENCE_MS);
      this.#listings.set(id, { path, settle, fail, timer });
      this.#send({ action: 'ls', reqid: id, path });
    });
  }

  makeFolder(path: string): void {
    this.#send({ action: 'mkdir', reqid: `m${++this.#serial}`, path });
  }

  remove(path: string, names: readonly string[]): void {
    this.#send({ action: 'rm', reqid: `r${++this.#serial}`, path, delfiles: names, rec: true });
  }

  /** A request that agents do not answer. */
  tell(message: Record<string, unknown>): void {
    this.#send({ reqid: `t${++this.#serial}`, ...message });
  }

  rename(path: string, from: string, to: string): void {
    this.#send({ action: 'rename', reqid: `n${++this.#serial}`, path, oldname: from, newname: to });
  }

  // --- work on the device -----------------------------------------------------------------------------------

  /** Has the agent do what takes its time; only for agents that tell of progress, and for archives. */
  work(message: Record<string, unknown> & { action: string }, signal: AbortSignal, onProgress: (progress: WorkProgress) => void = () => undefined): Promise<Record<string, unknown>> {
    return new Promise((settle, fail) => {
      if (!this.#tunnel.isOpen) {
        fail(new FilesError(remote.files.notConnected));
        return;
      }
      const reqid = `w${++this.#serial}`;
      this.#works.set(reqid, { action: message.action, onProgress, begun: false, settle, fail });
      // Agents answer when they have stopped; MeshAgents stop archives, and end with the same words as always.
      signal.addEventListener('abort', () => this.#works.has(reqid) && this.#send({ action: 'cancel', reqid }), { once: true });
      this.#send({ ...message, reqid, watch: true });
    });
  }

  #workSaid(message: Record<string, unknown>): void {
    const reqid = String(message.reqid);
    const work = this.#works.get(reqid);
    if (!work) return;
    if (message.action === 'progress') {
      const number = (value: unknown): number => (typeof value === 'number' && value >= 0 ? value : 0);
      work.onProgress({ done: number(message.done), total: typeof message.total === 'number' ? message.total : null, items: number(message.items), name: typeof message.name === 'string' ? message.name : '' });
    } else if (message.action === work.action) this.#endWork(reqid, typeof message.error === 'string' ? new FilesError(message.error) : message);
  }

  #endWork(reqid: string, end: Error | Record<string, unknown>): void {
    const work = this.#works.get(reqid);
    if (!work) return;
    clearTimeout(work.timer);
    this.#works.delete(reqid);
    if (end instanceof Error) work.fail(end);
    else work.settle(end);
  }

  /** What MeshAgents say while they make an archive or take one apart. */
  #dialogSaid(message: Record<string, unknown>): void {
    if (this.can('zip')) return;
    for (const [reqid, work] of this.#works) {
      if (work.action !== 'zip' && work.action !== 'unzip') continue;
      if (message.msg === 'unziperror') this.#endWork(reqid, new FilesError(typeof message.error === 'string' ? message.error : remote.files.notUnzipped));
      else if (message.msg === null) {
        if (work.begun) this.#endWork(reqid, {});
      } else {
        work.begun = true;
        if (typeof message.file === 'string') work.onProgress({ done: 0, total: null, items: 0, name: message.file });
      }
    }
  }

  /** The hash of a file on the device, in lower case; null when it cannot be read. */
  async hash(path: string, signal: AbortSignal, onProgress?: (progress: WorkProgress) => void): Promise<string | null> {
    if (this.can('sha256')) {
      const answer = await this.work({ action: 'uploadhash', path, kind: 'sha256' }, signal, onProgress);
      return typeof answer.hash === 'string' ? answer.hash.toLowerCase() : null;
    }
    return new Promise((settle, fail) => {
      const reqid = `h${++this.#serial}`;
      const timer = setTimeout(() => this.#endWork(reqid, new LinkLost(remote.files.silent)), HASH_MS);
      const hashed = (answer: Record<string, unknown>): void => settle(typeof answer.hash === 'string' ? answer.hash.toLowerCase() : null);
      this.#works.set(reqid, { action: 'uploadhash', onProgress: () => undefined, begun: false, settle: hashed, fail, timer });
      this.#send({ action: 'uploadhash', reqid, path });
    });
  }

  /** Looks for names below a folder; resolves with whether there may be more. Several words for one hit come as one. */
  find(path: string, filter: string, onHit: (path: string) => void, signal: AbortSignal): Promise<boolean> {
    return new Promise((settle, fail) => {
      if (!this.#tunnel.isOpen) {
        fail(new FilesError(remote.files.notConnected));
        return;
      }
      const reqid = `s${++this.#serial}`;
      this.#searches.set(reqid, { onHit, hits: 0, settle, fail });
      signal.addEventListener(
        'abort',
        () => {
          if (!this.#searches.delete(reqid)) return;
          this.#send({ action: 'cancelfindfile', reqid });
          settle(true);
        },
        { once: true },
      );
      this.#send({ action: 'findfile', reqid, path, filter });
    });
  }

  #foundOne(message: Record<string, unknown>): void {
    const reqid = String(message.reqid);
    const search = this.#searches.get(reqid);
    if (!search) return;
    if (typeof message.r === 'string' && search.hits < MOST_HITS) {
      search.hits += 1;
      search.onHit(message.r.replace(/^\/+/, ''));
    } else {
      this.#searches.delete(reqid);
      // A device that finds without end is told to stop.
      if (message.r !== null) this.#send({ action: 'cancelfindfile', reqid });
      search.settle(message.r !== null || typeof message.limit === 'number');
    }
  }

  // --- upload -----------------------------------------------------------------------------------------------

  /**
   * Writes a file into a folder of the device, over one of the same name or on from where it broke off. Resolves when the
   * device has closed it, with its hash where one was asked for and the agent makes one.
   */
  upload(path: string, name: string, source: Source, watch: TransferWatch, start: UploadStart = {}): Promise<string | null> {
    return new Promise((settle, fail) => {
      if (!this.#tunnel.isOpen || this.#upload) {
        fail(new FilesError(this.#upload ? remote.files.busy : remote.files.notConnected));
        return;
      }
      const id = `u${++this.#serial}`;
      const from = start.from ?? 0;
      const upload: Upload = { id, start, source, watch, settle, fail, offset: from, ahead: { from: 0, bytes: new Uint8Array(0) }, flying: [], confirmed: from, started: false, reading: false, finishing: false };
      this.#upload = upload;
      watch.signal.addEventListener('abort', () => this.#abandonUpload(upload), { once: true });
      this.#watchUpload(upload);
      this.#send({
        action: 'upload',
        reqid: id,
        path,
        name,
        size: source.size,
        ...(from > 0 ? { append: true } : {}),
        ...(from > 0 && this.can('resume') ? { offset: from } : {}),
        ...(start.hash && this.can('sha256') ? { hash: start.hash } : {}),
        ...(start.replace && this.can('replace') ? { replace: true, expected: start.replace.expected } : {}),
      });
    });
  }

  #watchUpload(upload: Upload): void {
    clearTimeout(upload.timer);
    upload.timer = setTimeout(() => {
      // Nothing is owed while the transfer is paused.
      if (upload.started && upload.flying.length === 0 && !upload.finishing) this.#watchUpload(upload);
      else this.#failUpload(upload, new LinkLost(remote.files.silent));
    }, SILENCE_MS);
  }

  /** Sends blocks as far as the window and the browser's own buffer allow. */
  async #feed(upload: Upload): Promise<void> {
    if (upload.reading) return;
    upload.reading = true;
    try {
      while (upload === this.#upload && upload.offset < upload.source.size && upload.flying.length < WINDOW && this.#tunnel.unsent < MOST_UNSENT) {
        await upload.watch.gate?.();
        if (upload !== this.#upload) return;
        if (upload.offset >= upload.ahead.from + upload.ahead.bytes.length) {
          const end = Math.min(upload.offset + READ, upload.source.size);
          upload.ahead = { from: upload.offset, bytes: new Uint8Array(await upload.source.slice(upload.offset, end).arrayBuffer()) };
          if (upload !== this.#upload) return;
        }
        const at = upload.offset - upload.ahead.from;
        const block = upload.ahead.bytes.subarray(at, at + BLOCK);
        if (block.length === 0) throw new FilesError(remote.files.sourceGone);
        upload.offset += block.length;
        upload.flying.push(block.length);
        upload.start.onBlock?.(block);
        this.#tunnel.send(escaped(block));
      }
    } catch (error) {
      // The file here vanished or may not be read: what the device has of it is of no use.
      const words = error instanceof FilesError ? error.message : remote.files.sourceGone;
      if (upload === this.#upload) this.#send({ action: 'uploadcancel', reqid: upload.id });
      this.#failUpload(upload, words);
      return;
    } finally {
      upload.reading = false;
    }
    if (upload === this.#upload && upload.offset >= upload.source.size && upload.flying.length === 0 && !upload.finishing) {
      upload.finishing = true;
      this.#send({ action: 'uploaddone', reqid: upload.id });
    }
  }

  #uploadSaid(action: string, message: Record<string, unknown>): void {
    const upload = this.#upload;
    // A write error comes without an id.
    if (!upload || (message.reqid !== undefined && message.reqid !== upload.id)) return;
    this.#watchUpload(upload);
    switch (action) {
      case 'uploadstart':
        upload.started = true;
        void this.#feed(upload);
        break;
      case 'uploadack':
        upload.confirmed += upload.flying.shift() ?? 0;
        upload.start.onConfirmed?.(upload.confirmed);
        upload.watch.onProgress(upload.confirmed);
        void this.#feed(upload);
        break;
      case 'uploaddone':
        if (!upload.finishing) break;
        clearTimeout(upload.timer);
        this.#upload = null;
        upload.settle(typeof message.hash === 'string' ? message.hash.toLowerCase() : null);
        break;
      case 'uploaderror':
        if (message.conflict === true) this.#failUpload(upload, new Conflict(String(message.error)));
        else this.#failUpload(upload, typeof message.error === 'string' ? message.error : upload.started ? remote.files.writeFailed : remote.files.cannotCreate);
        break;
      case 'uploadcancel':
        this.#failUpload(upload, remote.files.cancelled);
        break;
    }
  }

  #abandonUpload(upload: Upload): void {
    if (upload !== this.#upload) return;
    this.#send({ action: 'uploadcancel', reqid: upload.id });
    this.#failUpload(upload, remote.files.cancelled);
  }

  #failUpload(upload: Upload, why: string | FilesError): void {
    clearTimeout(upload.timer);
    if (upload === this.#upload) this.#upload = null;
    upload.fail(typeof why === 'string' ? new FilesError(why) : why);
  }

  // --- download ---------------------------------------------------------------------------------------------

  /** Reads a file of the device. `take` gets its blocks in order; the next is asked for when it is done with one. */
  download(path: string, take: Download['take'], watch: TransferWatch, from = 0): Promise<void> {
    return new Promise((settle, fail) => {
      if (!this.#tunnel.isOpen || this.#download) {
        fail(new FilesError(this.#download ? remote.files.busy : remote.files.notConnected));
        return;
      }
      const id = `d${++this.#serial}`;
      const download: Download = { id, take, watch, settle, fail, received: from, writing: Promise.resolve() };
      this.#download = download;
      watch.signal.addEventListener('abort', () => this.#endDownload(download, remote.files.cancelled, true), { once: true });
      this.#watchDownload(download);
      this.#send({ action: 'download', sub: 'start', id, path, ...(from > 0 ? { offset: from } : {}) });
    });
  }

  #watchDownload(download: Download): void {
    clearTimeout(download.timer);
    download.timer = setTimeout(() => this.#endDownload(download, new LinkLost(remote.files.silent), true), SILENCE_MS);
  }

  #downloadSaid(message: Record<string, unknown>): void {
    const download = this.#download;
    if (!download || message.id !== download.id) return;
    if (message.sub === 'start') {
      this.#watchDownload(download);
      this.#send({ action: 'download', sub: 'startack', id: download.id, ack: 8 });
    } else if (message.sub === 'cancel') this.#endDownload(download, remote.files.cannotRead, false);
  }

  #block(frame: Uint8Array<ArrayBuffer>): void {
    const download = this.#download;
    if (!download || frame.length < DOWNLOAD_HEADER || frame[0] !== 1) return;
    this.#watchDownload(download);
    const last = ((frame[3] ?? 0) & DOWNLOAD_FINAL) !== 0;
    const block = frame.subarray(DOWNLOAD_HEADER);
    download.writing = download.writing
      .then(async () => {
        if (download !== this.#download) return;
        if (block.length > 0) await download.take(block);
        download.received += block.length;
        download.watch.onProgress(download.received);
        await download.watch.gate?.();
        if (download !== this.#download) return;
        if (last) {
          clearTimeout(download.timer);
          this.#download = null;
          download.settle();
        } else this.#send({ action: 'download', sub: 'ack', id: download.id });
      })
      .catch((error: unknown) => this.#endDownload(download, error instanceof Error ? error.message : String(error), true));
  }

  #endDownload(download: Download, why: string | FilesError, tell: boolean): void {
    clearTimeout(download.timer);
    if (download === this.#download) {
      this.#download = null;
      if (tell) this.#send({ action: 'download', sub: 'stop', id: download.id });
    }
    download.fail(typeof why === 'string' ? new FilesError(why) : why);
  }

  // --- what the device says ---------------------------------------------------------------------------------

  #message(frame: string): void {
    let message: Record<string, unknown> | null;
    try {
      message = object(JSON.parse(frame));
    } catch {
      return;
    }
    if (!message) return;
    const { action } = message;
    if (action === 'abilities') this.#can = new Set(Array.isArray(message.can) ? message.can.slice(0, 100).map(String) : []);
    else if (typeof message.reqid === 'string' && this.#works.has(message.reqid)) this.#workSaid(message);
    else if (action === 'dialogmessage') this.#dialogSaid(message);
    else if (action === 'findfile') this.#foundOne(message);
    else if (typeof action === 'string' && action.startsWith('upload')) this.#uploadSaid(action, message);
    else if (action === 'download') this.#downloadSaid(message);
    else if ('dir' in message && typeof message.reqid === 'string') this.#listed(message.reqid, message);
  }

  #listed(id: string, message: Record<string, unknown>): void {
    const listing = this.#listings.get(id);
    if (!listing) return;
    this.#listings.delete(id);
    clearTimeout(listing.timer);
    if (message.dir === null) listing.fail(new FilesError(typeof message.error === 'string' ? remote.files.cannotListBecause(message.error.slice(0, 300).replace(/ \(os error \d+\)$/, '')) : remote.files.cannotList));
    else listing.settle(entriesOf(message.dir));
  }

  #send(message: Record<string, unknown>): void {
    this.#tunnel.send(this.#encoder.encode(JSON.stringify(message)));
  }

  #state(state: TunnelState): void {
    if (state.kind === 'ended') {
      const words = state.reason || remote.files.ended;
      const error = state.lost ? new LinkLost(words) : new FilesError(words);
      for (const listing of this.#listings.values()) {
        clearTimeout(listing.timer);
        listing.fail(error);
      }
      this.#listings.clear();
      for (const reqid of [...this.#works.keys()]) this.#endWork(reqid, error);
      for (const search of this.#searches.values()) search.fail(error);
      this.#searches.clear();
      if (this.#upload) this.#failUpload(this.#upload, error);
      if (this.#download) this.#endDownload(this.#download, error, false);
    }
    this.events.onState(state);
  }
}

/** A block that could be taken for JSON, or for an escaped one, gets a zero before it, which the device takes off. */
export function escaped(block: Uint8Array): Uint8Array {
  if (block[0] !== 0 && block[0] !== 0x7b) return block;
  const longer = new Uint8Array(block.length + 1);
  longer.set(block, 1);
  return longer;
}
