/**
 * Pictures on their way to the canvas: decoded beside each other, drawn in the order they came. A browser cannot
 * stop reading a socket, so what waits is bounded here: a picture that a later one covers is dropped, and when that
 * is not enough the lot is, and the device is asked for the whole screen again.
 */

import { MOST_PIXELS } from './frames';

export interface Surface<Bitmap> {
  resize(width: number, height: number): void;
  draw(picture: Bitmap, x: number, y: number): void;
  copy(fromX: number, fromY: number, width: number, height: number, x: number, y: number): void;
}

export interface PictureQueueOptions<Bitmap> {
  surface: Surface<Bitmap>;
  decode(image: Uint8Array<ArrayBuffer>, type: string): Promise<Bitmap>;
  release(picture: Bitmap): void;
  /** Everything waiting was dropped: the device should send the screen again. Called when there is room again. */
  onLost(): void;
  /** Something new is on the surface. */
  onDrawn(): void;
}

/** Bytes that may wait for the decoder. */
export const MOST_BYTES = 24 * 1024 * 1024;
/** Pictures that may wait; covering is looked for among them, so the search stays short. */
export const MOST_PICTURES = 256;
/** Decoded beside each other; more only takes memory, browsers have few threads for it. */
const AT_ONCE = 4;

interface Waiting<Bitmap> {
  kind: 'picture';
  image: Uint8Array<ArrayBuffer>;
  type: string;
  x: number;
  y: number;
  size: { width: number; height: number } | null;
  state: 'waiting' | 'decoding' | 'done' | 'bad';
  bitmap?: Bitmap;
}
interface Copy {
  kind: 'copy';
  run(): void;
}

export class PictureQueue<Bitmap> {
  #queue: (Waiting<Bitmap> | Copy)[] = [];
  #bytes = 0;
  #decoding = 0;
  /** Counts up when everything is dropped, so that a late decode knows that it is not wanted. */
  #era = 0;
  #lost = false;
  #drawn = 0;
  #dropped = 0;

  constructor(private readonly options: PictureQueueOptions<Bitmap>) {}

  /** Pictures drawn, and those dropped because a later one covered them or there was no room. */
  get drawn(): number {
    return this.#drawn;
  }
  get dropped(): number {
    return this.#dropped;
  }

  resize(width: number, height: number): void {
    this.clear();
    this.options.surface.resize(width, height);
  }

  /** Forgets what waits; pictures of another size of the screen must not be drawn. */
  clear(): void {
    this.#era += 1;
    for (const one of this.#queue) if (one.kind === 'picture' && one.bitmap !== undefined) this.options.release(one.bitmap);
    this.#queue = [];
    this.#bytes = 0;
    this.#lost = false;
  }

  copy(fromX: number, fromY: number, width: number, height: number, x: number, y: number): void {
    this.#queue.push({ kind: 'copy', run: () => this.options.surface.copy(fromX, fromY, width, height, x, y) });
    this.#advance();
  }

  add(x: number, y: number, image: Uint8Array<ArrayBuffer>): void {
    const type = imageType(image);
    // While the lot is lost, pictures are of no use until the screen comes whole again.
    if (!type || this.#lost) {
      this.#dropped += 1;
      return;
    }
    const picture: Waiting<Bitmap> = { kind: 'picture', image, type, x, y, size: imageSize(image, type), state: 'waiting' };
    // A few bytes can unpack to gigabytes.
    if (picture.size && picture.size.width * picture.size.height > MOST_PIXELS) {
      this.#dropped += 1;
      return;
    }
    this.#dropCovered(picture);
    if (this.#bytes + image.length > MOST_BYTES || this.#queue.length >= MOST_PICTURES) {
      this.#overflow();
      return;
    }
    this.#queue.push(picture);
    this.#bytes += image.length;
    this.#advance();
  }

  /** Pictures that nobody will see, since `next` lies over them; not those that a copy still reads. */
  #dropCovered(next: Waiting<Bitmap>): void {
    const { size } = next;
    if (!size) return;
    for (let at = this.#queue.length - 1; at >= 0; at -= 1) {
      const one = this.#queue[at];
      if (!one || one.kind === 'copy') return;
      if (one.state !== 'waiting' || !one.size) continue;
      const covered = one.x >= next.x && one.y >= next.y && one.x + one.size.width <= next.x + size.width && one.y + one.size.height <= next.y + size.height;
      if (!covered) continue;
      this.#queue.splice(at, 1);
      this.#bytes -= one.image.length;
      this.#dropped += 1;
    }
  }

  #overflow(): void {
    this.#dropped += this.#queue.length + 1;
    this.clear();
    this.#lost = true;
    if (this.#decoding === 0) this.#recover();
  }

  #recover(): void {
    this.#lost = false;
    this.options.onLost();
  }

  #advance(): void {
    while (this.#decoding < AT_ONCE) {
      const next = this.#queue.find((one): one is Waiting<Bitmap> => one.kind === 'picture' && one.state === 'waiting');
      if (!next) break;
      next.state = 'decoding';
      this.#decoding += 1;
      void this.#decode(next, this.#era);
    }
    this.#paint();
  }

  async #decode(picture: Waiting<Bitmap>, era: number): Promise<void> {
    try {
      const bitmap = await this.options.decode(picture.image, picture.type);
      if (era === this.#era) {
        picture.bitmap = bitmap;
        picture.state = 'done';
      } else this.options.release(bitmap);
    } catch {
      // A broken picture leaves its place as it was.
      picture.state = 'bad';
    }
    this.#decoding -= 1;
    if (this.#lost && this.#decoding === 0) this.#recover();
    this.#advance();
  }

  /** Draws as far as everything before has been decoded. */
  #paint(): void {
    let painted = false;
    for (;;) {
      const first = this.#queue[0];
      if (!first) break;
      if (first.kind === 'copy') {
        first.run();
        painted = true;
      } else {
        if (first.state === 'waiting' || first.state === 'decoding') break;
        this.#bytes -= first.image.length;
        if (first.bitmap !== undefined) {
          this.options.surface.draw(first.bitmap, first.x, first.y);
          this.options.release(first.bitmap);
          this.#drawn += 1;
          painted = true;
        }
      }
      this.#queue.shift();
    }
    if (painted) this.options.onDrawn();
  }
}

const starts = (image: Uint8Array, at: number, ...bytes: number[]): boolean => bytes.every((byte, n) => image[at + n] === byte);

/** What an image is by its first bytes; agents send another kind than they were asked for. Empty when unknown. */
export function imageType(image: Uint8Array): string {
  if (starts(image, 0, 0xff, 0xd8, 0xff)) return 'image/jpeg';
  if (starts(image, 0, 0x89, 0x50, 0x4e, 0x47)) return 'image/png';
  if (starts(image, 0, 0x52, 0x49, 0x46, 0x46) && starts(image, 8, 0x57, 0x45, 0x42, 0x50)) return 'image/webp';
  if (starts(image, 0, 0x49, 0x49, 0x2a, 0) || starts(image, 0, 0x4d, 0x4d, 0, 0x2a)) return 'image/tiff';
  return '';
}

/** Width and height out of a JPEG's or PNG's own header; null when it does not say, or not where it should. */
export function imageSize(image: Uint8Array, type: string): { width: number; height: number } | null {
  const view = new DataView(image.buffer, image.byteOffset, image.byteLength);
  if (type === 'image/png') return image.length >= 24 ? { width: view.getUint32(16), height: view.getUint32(20) } : null;
  if (type !== 'image/jpeg') return null;
  for (let at = 2; at + 9 <= image.length; ) {
    if (image[at] !== 0xff) return null;
    const marker = image[at + 1] ?? 0;
    if (marker === 0xff) {
      at += 1;
      continue;
    }
    // Start of frame, but not the tables that share its range.
    if (marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc) return { width: view.getUint16(at + 7), height: view.getUint16(at + 5) };
    at += 2 + view.getUint16(at + 2);
  }
  return null;
}
