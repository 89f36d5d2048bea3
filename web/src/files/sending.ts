/**
 * A file onto the device, whatever becomes of the link: after a break the next link goes on from what the device has, if
 * that is the beginning of this file by its hash; and at the end both sides' hashes are compared.
 */
import { remote } from '../text.remote';
import { FileHash } from './hashing';
import { join } from './paths';
import { FilesError, LinkLost, type FileSession, type Source, type TransferWatch } from './session';

/** Breaks one after the other in which nothing moved. */
const MOST_FRUITLESS = 8;

export interface Sent {
  kind: 'sha256' | 'sha384';
  hash: string;
  /** Whether the device came to the same hash. */
  verified: boolean;
}

export interface SendingTools {
  /** A session that is open. */
  ready(signal: AbortSignal): Promise<FileSession>;
  /** What is being done now, beside moving bytes. */
  say(words: string): void;
}

export async function send(folder: string, name: string, source: Source, tools: SendingTools, watch: TransferWatch): Promise<Sent> {
  const { signal } = watch;
  let session = await tools.ready(signal);
  const hash = new FileHash(session.hashKind);
  const path = join(folder, name);
  let from = 0;
  let moved = 0;
  let fruitless = 0;
  const seen: TransferWatch = {
    ...watch,
    onProgress: (bytes) => {
      if (bytes > moved) fruitless = 0;
      moved = Math.max(moved, bytes);
      watch.onProgress(bytes);
    },
  };
  for (let first = true; ; first = false) {
    try {
      if (!first) {
        tools.say(remote.files.waitingForLink);
        session = await tools.ready(signal);
        tools.say(remote.files.comparing);
        from = await whatIsThere(session, folder, name, source, hash, signal);
        seen.onProgress(from);
      }
      tools.say('');
      let told = await session.upload(folder, name, source, seen, { from, hash: hash.kind, onBlock: (block) => hash.add(block), onConfirmed: (offset) => hash.confirm(offset) });
      if (source.size === 0) return { kind: hash.kind, hash: hash.digest(), verified: true };
      if (told === null) {
        tools.say(remote.files.comparing);
        told = await session.hash(path, signal);
      }
      const mine = hash.digest();
      if (told !== null && told !== mine) throw new FilesError(remote.files.wrongHash);
      return { kind: hash.kind, hash: mine, verified: told !== null };
    } catch (error) {
      if (!(error instanceof LinkLost) || signal.aborted || ++fruitless > MOST_FRUITLESS) throw error;
    }
  }
}

/** How many bytes at the beginning of the file the device has, by its hash; 0 when it has something else. */
async function whatIsThere(session: FileSession, folder: string, name: string, source: Source, hash: FileHash, signal: AbortSignal): Promise<number> {
  const there = (await session.list(folder)).find((entry) => entry.name === name)?.size ?? 0;
  if (there > 0 && there <= source.size) {
    const theirs = await session.hash(join(folder, name), signal);
    if (theirs !== null && theirs === (await hash.goTo(there, source, signal))) return there;
  }
  await hash.goTo(0, source, signal);
  return 0;
}
