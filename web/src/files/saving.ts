/**
 * A device's file onto this computer's disk. The server's own download streams it in constant memory, so it is tried
 * first; where the server has none, the tunnel brings the blocks. Small files are gathered in memory, so that their
 * progress can be shown and their hash compared; large ones go straight to disk.
 */
import { remote } from '../text.remote';
import { address } from '../wire/http';
import { sha256 } from '@noble/hashes/sha2.js';
import { hex } from './hashing';
import type { Sent } from './sending';
import { FilesError, type FileSession, type TransferWatch } from './session';

/** Longest address that every server and browser takes. */
const MOST_ADDRESS = 7000;
/** Above this the page does not gather a file in memory. */
export const MOST_IN_MEMORY = 256 * 1024 * 1024;

export interface Wanted {
  nodeId: string;
  /** The whole path. */
  path: string;
  name: string;
  /** Bytes as the listing says; null when it does not. */
  size: number | null;
}

export interface SavingTools {
  cookie(): Promise<string>;
  /** A session that is open. */
  ready(signal: AbortSignal): Promise<FileSession>;
  size(bytes: number): void;
  say(words: string): void;
}

/** What became of a download. */
export interface Saved {
  /** The browser's own downloader has it from here. */
  handed: boolean;
  sent?: Sent;
}

/** Breaks one after the other in which nothing came. */
const MOST_FRUITLESS = 8;
const PAUSE_MS = 1000;

interface Picker {
  showSaveFilePicker?(options: { suggestedName: string }): Promise<{ createWritable(): Promise<WritableStream<Uint8Array> & { write(block: Uint8Array): Promise<void>; close(): Promise<void>; abort(): Promise<void> }> }>;
}

/** Addresses of downloads: a file, or (with names, or none of them for the whole folder) an archive made on its way. */
async function addressOf(wanted: Pick<Wanted, 'nodeId' | 'path'>, tools: Pick<SavingTools, 'cookie'>, names?: readonly string[]): Promise<string> {
  const key = wanted.nodeId.split('/').at(-1) ?? '';
  const archive = names ? `&z=${names.length > 0 ? encodeURIComponent(JSON.stringify(names)) : '1'}` : '';
  return address(`devicefile.ashx?c=${encodeURIComponent(await tools.cookie())}&n=${encodeURIComponent(key)}&f=${encodeURIComponent(wanted.path)}${archive}`);
}

export async function save(wanted: Wanted, tools: SavingTools, watch: TransferWatch): Promise<Saved> {
  const url = await addressOf(wanted, tools);
  const answer = await fetch(url, { signal: watch.signal, credentials: 'same-origin', cache: 'no-store' }).catch((error: unknown) => {
    if (watch.signal.aborted) throw error;
    return null;
  });
  if (answer?.ok && answer.body) {
    const size = Number(answer.headers.get('content-length') ?? Number.NaN);
    if (Number.isFinite(size)) tools.size(size);
    if ((Number.isFinite(size) ? size : (wanted.size ?? 0)) > MOST_IN_MEMORY) {
      // The browser's own download writes as it reads, and goes on after a break; this page need not see the bytes.
      await answer.body.cancel();
      hand(url, wanted.name);
      return { handed: true };
    }
    return { handed: false, sent: await gather(url, answer, Number.isFinite(size) ? size : null, wanted, tools, watch) };
  }
  await answer?.body?.cancel();
  if (answer?.status === 401) throw new FilesError(remote.files.cannotRead);
  await throughTunnel(wanted, tools, watch);
  return { handed: false };
}

/** A folder, or several entries of one, as an archive that the device makes on its way into the browser's downloads. */
export async function saveArchive(wanted: Pick<Wanted, 'nodeId' | 'path'>, names: readonly string[], tools: Pick<SavingTools, 'cookie'>, signal: AbortSignal): Promise<void> {
  const url = await addressOf(wanted, tools, names);
  // An address has room for so many names only.
  if (url.length > MOST_ADDRESS) throw new FilesError(remote.files.tooManyNames);
  const answer = await fetch(url, { signal, credentials: 'same-origin', cache: 'no-store' });
  await answer.body?.cancel();
  if (!answer.ok) throw new FilesError(answer.status === 501 ? remote.files.noArchives : answer.status === 403 ? remote.files.consentNeeded : remote.files.cannotRead);
  hand(url, '');
}

async function gather(url: string, first: Response, size: number | null, wanted: Wanted, tools: SavingTools, watch: TransferWatch): Promise<Sent> {
  const { signal } = watch;
  const tag = first.headers.get('etag');
  let answer: Response | null = first;
  let blocks: Uint8Array<ArrayBuffer>[] = [];
  let received = 0;
  let hash = sha256.create();
  for (let fruitless = 0; ; ) {
    const before = received;
    try {
      if (answer === null) {
        answer = await fetch(url, { signal, credentials: 'same-origin', cache: 'no-store', headers: tag && received > 0 ? { range: `bytes=${received}-`, 'if-range': tag } : {} });
        if (!answer.ok) throw new TypeError(String(answer.status));
        if (answer.status !== 206) {
          // Another version, or an agent that cannot go on: from the beginning.
          [blocks, received, hash] = [[], 0, sha256.create()];
        }
        tools.say('');
      }
      const reader = (answer.body as ReadableStream<Uint8Array<ArrayBuffer>>).getReader();
      for (;;) {
        await watch.gate?.();
        const { done, value } = await reader.read();
        if (done) break;
        blocks.push(value);
        hash.update(value);
        received += value.length;
        if (received > MOST_IN_MEMORY) {
          await reader.cancel();
          throw new FilesError(remote.files.tooLarge);
        }
        watch.onProgress(received);
      }
      if (size === null || received === size) break;
      throw new TypeError('cut');
    } catch (error) {
      if (signal.aborted || error instanceof FilesError) throw error;
      if (received === before && ++fruitless > MOST_FRUITLESS) throw new FilesError(remote.files.cut);
      if (received > before) fruitless = 0;
      answer = null;
      tools.say(remote.files.waitingForLink);
      await new Promise((done) => setTimeout(done, PAUSE_MS));
    }
  }
  const mine = hex(hash.digest());
  const verified = await compare(wanted.path, mine, tools, signal);
  keep(blocks, wanted.name);
  return { kind: 'sha256', hash: mine, verified };
}

/** Whether the device comes to the same hash, where it can say without being asked to read the file twice in vain. */
async function compare(path: string, mine: string, tools: SavingTools, signal: AbortSignal): Promise<boolean> {
  tools.say(remote.files.comparing);
  let theirs: string | null = null;
  try {
    const session = await tools.ready(signal);
    if (session.can('sha256')) theirs = await session.hash(path, signal);
  } catch (error) {
    // The file is here all the same; that nobody compared it is said.
    if (signal.aborted) throw error;
  }
  if (theirs !== null && theirs !== mine) throw new FilesError(remote.files.changedMeanwhile);
  return theirs !== null;
}

async function throughTunnel(wanted: Wanted, tools: SavingTools, watch: TransferWatch): Promise<void> {
  const session = await tools.ready(watch.signal);
  if ((wanted.size ?? 0) <= MOST_IN_MEMORY) {
    const blocks: Uint8Array<ArrayBuffer>[] = [];
    let held = 0;
    await session.download(
      wanted.path,
      (block) => {
        held += block.length;
        if (held > MOST_IN_MEMORY) throw new FilesError(remote.files.tooLarge);
        blocks.push(block);
      },
      watch,
    );
    keep(blocks, wanted.name);
    return;
  }
  const { showSaveFilePicker } = window as Picker;
  if (!showSaveFilePicker) throw new FilesError(remote.files.tooLarge);
  const file = await (await showSaveFilePicker.call(window, { suggestedName: wanted.name })).createWritable();
  try {
    await session.download(wanted.path, (block) => file.write(block), watch);
    await file.close();
  } catch (error) {
    await file.abort().catch(() => undefined);
    throw error;
  }
}

function keep(blocks: Uint8Array<ArrayBuffer>[], name: string): void {
  const url = URL.createObjectURL(new Blob(blocks, { type: 'application/octet-stream' }));
  hand(url, name);
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** Hands an address to the browser's own downloads. */
function hand(url: string, name: string): void {
  const link = document.createElement('a');
  link.href = url;
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
}
