/** A recorded desktop on a canvas. */
import { FrameReader } from '../desktop/frames';
import { imageType } from '../desktop/pictures';
import type { Block } from './file';
import type { Stage } from './player';

/** Pictures that are decoded beside each other. */
const AT_ONCE = 4;

export class DesktopStage implements Stage {
  readonly most = Number.MAX_SAFE_INTEGER;
  #reader = new FrameReader();
  #under: Promise<void>[] = [];
  #order: Promise<void> = Promise.resolve();
  /** Counts up when the stage is cleared: a picture that comes late is not wanted. */
  #era = 0;

  constructor(
    private readonly canvas: HTMLCanvasElement,
    private readonly onSize: (width: number, height: number) => void,
  ) {}

  clear(size?: { width: number; height: number }): void {
    this.#era += 1;
    this.#reader = new FrameReader();
    this.#under = [];
    this.#order = Promise.resolve();
    if (size) this.#resize(size.width, size.height);
    else this.canvas.getContext('2d')?.clearRect(0, 0, this.canvas.width, this.canvas.height);
  }

  async show(block: Block): Promise<void> {
    if (!block.binary || block.fromViewer) return;
    const message = this.#reader.read(block.data);
    if (!message) return;
    const era = this.#era;
    const inOrder = (run: () => void | Promise<void>): void => {
      this.#order = this.#order.then(() => (era === this.#era ? run() : undefined));
    };
    if (message.kind === 'screen') {
      await this.#order;
      if (era === this.#era && (message.width !== this.canvas.width || message.height !== this.canvas.height)) this.#resize(message.width, message.height);
    } else if (message.kind === 'copy') {
      const { fromX, fromY, width, height, x, y } = message;
      inOrder(() => this.canvas.getContext('2d')?.drawImage(this.canvas, fromX, fromY, width, height, x, y, width, height));
    } else if (message.kind === 'picture') {
      const type = imageType(message.image);
      if (!type) return;
      const decoded = createImageBitmap(new Blob([message.image], { type })).catch(() => null);
      const drawn = this.#order.then(async () => {
        const picture = await decoded;
        if (picture && era === this.#era) this.canvas.getContext('2d')?.drawImage(picture, message.x, message.y);
        picture?.close();
      });
      this.#order = drawn;
      this.#under.push(drawn);
      if (this.#under.length >= AT_ONCE) await this.#under.shift();
    }
  }

  #resize(width: number, height: number): void {
    if (width < 1 || height < 1 || width > 16_384 || height > 16_384) return;
    this.canvas.width = width;
    this.canvas.height = height;
    this.onSize(width, height);
  }
}
