/** The bytes of a recording: of the server, piece by piece, or of a file on this computer. A few pieces are kept, never the whole. */
import { recordingText } from '../text.recordings';

export interface Source {
  readonly size: number;
  /** `length` bytes from `from`, fewer at the end. */
  read(from: number, length: number): Promise<Uint8Array<ArrayBuffer>>;
}

/** Fetched at once; a second of a desktop has about as much. */
export const PIECE = 512 * 1024;
/** Pieces kept. */
const KEPT = 8;

/** Keeps the pieces that were read last, and fetches the next one ahead. */
export class Pieces implements Source {
  #pieces = new Map<number, Promise<Uint8Array<ArrayBuffer>>>();

  constructor(
    readonly size: number,
    private readonly fetchPart: (from: number, to: number) => Promise<Uint8Array<ArrayBuffer>>,
  ) {}

  async read(from: number, length: number): Promise<Uint8Array<ArrayBuffer>> {
    const to = Math.min(this.size, from + length);
    if (to <= from) return new Uint8Array(0);
    const first = Math.floor(from / PIECE);
    const last = Math.floor((to - 1) / PIECE);
    // What is longer than all that is kept goes by itself.
    if (last - first >= KEPT - 1) return this.fetchPart(from, to);
    const whole = new Uint8Array(to - from);
    for (let n = first; n <= last; n += 1) {
      const piece = await this.#piece(n);
      const begin = n * PIECE;
      whole.set(piece.subarray(Math.max(0, from - begin), Math.min(piece.length, to - begin)), Math.max(0, begin - from));
    }
    if ((last + 1) * PIECE < this.size) void this.#piece(last + 1).catch(() => undefined);
    return whole;
  }

  #piece(n: number): Promise<Uint8Array<ArrayBuffer>> {
    let piece = this.#pieces.get(n);
    if (piece) this.#pieces.delete(n);
    else {
      piece = this.fetchPart(n * PIECE, Math.min(this.size, (n + 1) * PIECE));
      // One that failed is asked for again.
      piece.catch(() => this.#pieces.delete(n));
    }
    this.#pieces.set(n, piece);
    for (const oldest of this.#pieces.keys()) {
      if (this.#pieces.size <= KEPT) break;
      this.#pieces.delete(oldest);
    }
    return piece;
  }
}

/** A recording of the server. */
export function fromServer(url: string, size: number): Source {
  return new Pieces(size, async (from, to) => {
    const answer = await fetch(url, { headers: { range: `bytes=${from}-${to - 1}` }, credentials: 'same-origin' });
    if (answer.status !== 206) {
      void answer.body?.cancel();
      throw new Error(recordingText.unreadable);
    }
    return new Uint8Array(await answer.arrayBuffer());
  });
}

/** A file on this computer. */
export function fromFile(file: Blob): Source {
  return new Pieces(file.size, async (from, to) => new Uint8Array(await file.slice(from, to).arrayBuffer()));
}
