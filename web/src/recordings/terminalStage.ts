/** A recorded terminal: what the device said goes to xterm, what the viewer said sets its size. */
import type { Terminal } from '@xterm/xterm';
import type { Block } from './file';
import type { Stage } from './player';

/** As wide and high as a terminal may be (`MAX_CELLS` would fill the memory). */
const MOST_CELLS = 500;
/** Output that may wait to be drawn. */
const MOST_WAITING = 256 * 1024;

export class TerminalStage implements Stage {
  readonly most = 4 * 1024 * 1024;
  #waiting = 0;

  constructor(private readonly terminal: Terminal) {}

  clear(): void {
    this.terminal.reset();
  }

  show(block: Block): Promise<void> | void {
    if (!block.binary) {
      if (block.fromViewer) this.#control(new TextDecoder().decode(block.data));
      return;
    }
    if (block.fromViewer) return;
    this.#waiting += block.data.length;
    return new Promise((done) => {
      this.terminal.write(block.data, () => {
        this.#waiting -= block.data.length;
        done();
      });
      if (this.#waiting < MOST_WAITING) done();
    });
  }

  #control(text: string): void {
    let message: { type?: unknown; cols?: unknown; rows?: unknown };
    try {
      message = JSON.parse(text) as typeof message;
    } catch {
      return;
    }
    if (message?.type !== 'options' && message?.type !== 'termsize') return;
    const [cols, rows] = [Number(message.cols), Number(message.rows)];
    const fits = (n: number): boolean => Number.isInteger(n) && n >= 2 && n <= MOST_CELLS;
    if (fits(cols) && fits(rows)) this.terminal.resize(cols, rows);
  }
}
