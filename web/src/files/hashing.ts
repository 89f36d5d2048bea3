/** Hashes of files as they pass, and at any place of a file again. The browser's own can only do a whole file at once. */
import { sha256, sha384 } from '@noble/hashes/sha2.js';
import type { HashKind, Source } from './session';

interface Running {
  update(data: Uint8Array): unknown;
  digest(): Uint8Array;
  clone(): Running;
}

/** Bytes read at a time when a part of a file is hashed again. */
const PIECE = 1024 * 1024;

export const hex = (bytes: Uint8Array): string => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');

export const hashOf = (kind: HashKind, bytes: Uint8Array): string => hex((kind === 'sha256' ? sha256 : sha384)(bytes));

/** A hash of the beginning of a file, which can be gone on with from every place that was marked. */
export class FileHash {
  #now: Running;
  #mark: { offset: number; state: Running };
  /** States behind blocks that are under way. */
  #ahead: { offset: number; state: Running }[] = [];
  #offset = 0;

  constructor(readonly kind: HashKind) {
    this.#now = (kind === 'sha256' ? sha256 : sha384).create() as Running;
    this.#mark = { offset: 0, state: this.#now.clone() };
  }

  /** The next bytes of the file. */
  add(block: Uint8Array): void {
    this.#now.update(block);
    this.#offset += block.length;
    this.#ahead.push({ offset: this.#offset, state: this.#now.clone() });
  }

  /** The other side has this much. */
  confirm(offset: number): void {
    while (this.#ahead[0] && this.#ahead[0].offset <= offset) this.#mark = this.#ahead.shift() ?? this.#mark;
  }

  /** Goes to a place of the file, from the nearest mark; the hash of all before it. */
  async goTo(offset: number, source: Source, signal: AbortSignal): Promise<string> {
    if (this.#mark.offset > offset) this.#mark = { offset: 0, state: (this.kind === 'sha256' ? sha256 : sha384).create() as Running };
    this.#ahead = [];
    const state = this.#mark.state.clone();
    let at = this.#mark.offset;
    while (at < offset) {
      signal.throwIfAborted();
      const end = Math.min(at + PIECE, offset);
      state.update(new Uint8Array(await source.slice(at, end).arrayBuffer()));
      at = end;
    }
    this.#now = state;
    this.#offset = offset;
    this.#mark = { offset, state: state.clone() };
    return hex(state.clone().digest());
  }

  /** The hash of what was added so far. */
  digest(): string {
    return hex(this.#now.clone().digest());
  }
}
