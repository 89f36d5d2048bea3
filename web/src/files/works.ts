/** What a person asks of a device's files, each put into the queue of transfers with the words for it. */
import { remote } from '../text.remote';
import type { SessionLine } from '../tunnel/link';
import { join, visible } from './paths';
import { save, saveArchive } from './saving';
import { send, type Sent } from './sending';
import type { Exists, FileEntry, FileSession, WorkProgress } from './session';
import type { Standing } from './standing';
import type { Hands, Transfers } from './transfers.svelte';

const words = remote.files;
const NAMES = { sha256: 'SHA-256', sha384: 'SHA-384' };

/** Entries taken along to another folder. */
export interface Held {
  folder: string;
  names: string[];
  /** Folders among them, which MeshAgents do not copy. */
  folders: boolean;
  move: boolean;
}

export interface Target {
  file: File;
  folder: string;
}

export class FileWorks {
  constructor(
    private readonly nodeId: string,
    private readonly line: SessionLine,
    private readonly standing: Standing,
    private readonly transfers: Transfers,
  ) {}

  #settled(hands: Hands, sent: Sent): void {
    hands.hash(`${NAMES[sent.kind]} ${sent.hash}`);
    hands.say(sent.verified ? words.verified : words.unverified);
  }

  upload(targets: readonly Target[]): void {
    for (const { file, folder } of targets) {
      this.transfers.add('up', file.name, folder, file.size, async (hands) => {
        const ready = (signal: AbortSignal): Promise<FileSession> => this.standing.ready(signal);
        this.#settled(hands, await send(folder, file.name, file, { ready, say: hands.say }, { onProgress: hands.report, signal: hands.signal, gate: hands.gate }));
      });
    }
  }

  download(folder: string, entries: readonly FileEntry[]): void {
    for (const entry of entries) {
      if (entry.kind !== 'file') continue;
      const file = { nodeId: this.nodeId, path: join(folder, entry.name), name: entry.name, size: entry.size };
      this.transfers.add('down', entry.name, folder, entry.size, async (hands) => {
        const tools = { cookie: () => this.line.cookie(), ready: (signal: AbortSignal) => this.standing.ready(signal), size: hands.size, say: hands.say };
        const saved = await save(file, tools, { onProgress: hands.report, signal: hands.signal, gate: hands.gate });
        if (saved.handed) hands.say(words.handed);
        else if (saved.sent) this.#settled(hands, saved.sent);
      });
    }
  }

  /** Entries of a folder, or the folder itself, as an archive made on its way. */
  archive(folder: string, names: readonly string[], called: string): void {
    this.transfers.add('down', `${called}.zip`, folder, null, async (hands) => {
      const [only] = names;
      // A folder alone needs no list of names, so that its own may be as odd as it likes.
      const path = names.length === 1 && only !== undefined ? join(folder, only) : folder;
      await saveArchive({ nodeId: this.nodeId, path }, names.length === 1 ? [] : names, { cookie: () => this.line.cookie() }, hands.signal);
      hands.say(words.handed);
    });
  }

  /** Work that the device does by itself. */
  #there(label: string, folder: string, work: (session: FileSession, hands: Hands, onProgress: (progress: WorkProgress) => void) => Promise<void>): void {
    this.transfers.add('there', label, folder, null, async (hands) => {
      const session = await this.standing.ready(hands.signal);
      await work(session, hands, ({ done, total, items, name }) => {
        if (total !== null) hands.size(total);
        hands.report(done);
        if (done === 0) hands.say(`${items > 0 ? `${items.toLocaleString('en')}: ` : ''}${visible(name)}`);
        else hands.say('');
      });
    });
  }

  hash(folder: string, entry: FileEntry): void {
    this.#there(words.hashing(entry.name), folder, async (session, hands, onProgress) => {
      const hash = await session.hash(join(folder, entry.name), hands.signal, onProgress);
      if (hash === null) throw new Error(words.noHash);
      hands.hash(`${NAMES[session.hashKind]} ${hash}`);
      hands.say(NAMES[session.hashKind]);
    });
  }

  remove(folder: string, names: readonly string[]): void {
    this.#there(words.deleting(names.length, names[0] ?? ''), folder, async (session, hands, onProgress) => {
      await session.work({ action: 'rm', path: folder, delfiles: names, rec: true }, hands.signal, onProgress);
      hands.say('');
    });
  }

  /** Copies or moves what was taken along into a folder. MeshAgents say nothing of it: the folder is looked at after. */
  carry(held: Held, into: string, exists: Exists, names: readonly string[]): void {
    const action = held.move ? 'move' : 'copy';
    this.#there((held.move ? words.moving : words.copying)(names.length, names[0] ?? ''), into, async (session, hands, onProgress) => {
      const request = { action, scpath: held.folder, dspath: into, names };
      if (session.can('conflicts')) {
        await session.work({ ...request, exists }, hands.signal, onProgress);
        hands.say('');
        return;
      }
      session.tell(request);
      // Agents do one thing after the other, so the listing comes when the copy is done.
      const there = new Set((await session.list(into)).map((entry) => entry.name));
      const missing = names.find((name) => !there.has(name));
      if (missing !== undefined) throw new Error(words.notMade(visible(missing)));
    });
  }

  zip(folder: string, names: readonly string[], output: string): void {
    this.#there(words.zipping(output), folder, async (session, hands, onProgress) => {
      const answer = await session.work({ action: 'zip', path: folder, files: names, output }, hands.signal, onProgress);
      hands.say(typeof answer.unread === 'number' && answer.unread > 0 ? words.unread(answer.unread) : '');
    });
  }

  unzip(folder: string, entry: FileEntry, exists: Exists): void {
    this.#there(words.unzipping(entry.name), folder, async (session, hands, onProgress) => {
      const answer = await session.work({ action: 'unzip', input: join(folder, entry.name), dest: folder, exists }, hands.signal, onProgress);
      const left = typeof answer.leftout === 'number' ? answer.leftout : 0;
      hands.say(left > 0 ? words.leftOut(left) : '');
    });
  }
}
