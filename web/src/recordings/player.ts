/** Plays a recording on a stage: when what is shown, how fast, and how to get to another moment. It knows no page. */
import type { Block, RecordingFile } from './file';

/** Where a session is shown. */
export interface Stage {
  /** Bytes of a message that are needed. */
  readonly most: number;
  /** As before the first message; of this size, where it is known. */
  clear(size?: { width: number; height: number }): void;
  /** Shows a message, `position` milliseconds after the start. Resolves when there is room for the next. */
  show(block: Block, position: number): Promise<void> | void;
}

export interface PlayerEvents {
  /** Something of what can be read here changed. */
  onChange(): void;
  onError(error: unknown): void;
}

/** The timers and the clock, which a test brings itself. */
export interface Timing {
  now(): number;
  wait(milliseconds: number): Promise<void>;
}

export const SPEEDS = [0.5, 1, 2, 4, 8, 16] as const;
/** Idle time longer than this is cut to it, in milliseconds of the session. */
export const LONGEST_IDLE = 1500;
/** The position is told at least this often. */
const TICK_MS = 100;
/** Messages shown in one go before others get their turn. */
const AT_ONCE = 200;

const browserTiming: Timing = {
  now: () => performance.now(),
  wait: (milliseconds) => new Promise((done) => setTimeout(done, milliseconds)),
};

export class Player {
  position = 0;
  playing = false;
  seeking = false;
  ended = false;
  speed = 1;
  skipIdle = false;
  #place: number;
  /** The message to be shown next, its own moment behind those before it: recorded clocks may go back. */
  #next: { block: Block; at: number } | null = null;
  #run = 0;
  #latest = 0;

  constructor(
    private readonly file: RecordingFile,
    private readonly stage: Stage,
    private readonly events: PlayerEvents,
    private readonly timing: Timing = browserTiming,
  ) {
    this.#place = file.base;
    stage.clear();
  }

  /** Milliseconds; where the file does not say, as far as was played. */
  get length(): number {
    return this.file.end === null ? this.#latest : Math.max(0, this.file.end - this.file.start, this.#latest);
  }

  toggle(): void {
    if (this.playing) this.pause();
    else void this.play();
  }

  pause(): void {
    this.#run += 1;
    this.playing = false;
    this.events.onChange();
  }

  async play(): Promise<void> {
    if (this.playing) return;
    if (this.ended) await this.seek(0);
    this.playing = true;
    this.events.onChange();
    await this.#attempt(this.#begin());
  }

  /** Ends everything that is under way. */
  stop(): void {
    this.#run += 1;
    this.playing = false;
  }

  async seek(wanted: number): Promise<void> {
    const target = Math.max(0, Math.min(wanted, this.length || wanted));
    const run = this.#begin();
    const goOn = this.playing;
    this.seeking = true;
    this.ended = false;
    this.events.onChange();
    try {
      await this.#goTo(target, run);
    } catch (error) {
      if (run === this.#run) this.#fail(error);
      return;
    }
    if (run !== this.#run) return;
    this.seeking = false;
    this.events.onChange();
    if (goOn) await this.#attempt(run);
  }

  #begin(): number {
    return (this.#run += 1);
  }

  async #attempt(run: number): Promise<void> {
    try {
      await this.#playOn(run);
    } catch (error) {
      if (run === this.#run) this.#fail(error);
    }
  }

  #fail(error: unknown): void {
    this.playing = this.seeking = false;
    this.events.onError(error);
    this.events.onChange();
  }

  async #peek(): Promise<{ block: Block; at: number } | null> {
    if (this.#next) return this.#next;
    const block = await this.file.block(this.#place, this.stage.most);
    if (!block) return null;
    this.#next = { block, at: Math.max(this.position, block.time - this.file.start) };
    return this.#next;
  }

  async #show(next: { block: Block; at: number }): Promise<void> {
    this.#place = next.block.next;
    this.#next = null;
    this.#latest = Math.max(this.#latest, next.at);
    await this.stage.show(next.block, next.at);
  }

  async #goTo(target: number, run: number): Promise<void> {
    const entry = this.file.entryBefore(target);
    if (entry && (target < this.position || entry.at > this.position)) {
      this.stage.clear({ width: entry.entry.width, height: entry.entry.height });
      for (const place of entry.entry.pictures) {
        const picture = await this.file.block(this.file.base + place, this.stage.most);
        if (run !== this.#run) return;
        if (picture) await this.stage.show(picture, entry.at);
      }
      this.#place = this.file.base + entry.entry.next;
      this.#next = null;
      this.position = entry.at;
    } else if (target < this.position) {
      this.stage.clear();
      this.#place = this.file.base;
      this.#next = null;
      this.position = 0;
    }
    for (let n = 1; run === this.#run; n += 1) {
      const next = await this.#peek();
      if (run !== this.#run) return;
      if (!next || next.at > target) break;
      this.position = next.at;
      await this.#show(next);
      if (n % AT_ONCE === 0) {
        this.events.onChange();
        await this.timing.wait(0);
      }
    }
    if (run === this.#run) this.position = target;
  }

  async #playOn(run: number): Promise<void> {
    let before = this.timing.now();
    while (run === this.#run && this.playing) {
      const next = await this.#peek();
      if (run !== this.#run) return;
      const now = this.timing.now();
      // What took long to load or to draw is not made up for in a rush.
      this.position += Math.min(now - before, 4 * TICK_MS) * this.speed;
      before = now;
      const end = next?.at ?? Math.max(this.length, this.position);
      if (this.skipIdle && end - this.position > LONGEST_IDLE) this.position = end - LONGEST_IDLE;
      if (!next) {
        if (this.position < this.length) {
          await this.#tick(Math.min(TICK_MS, (this.length - this.position) / this.speed));
          continue;
        }
        this.position = this.length;
        this.playing = false;
        this.ended = true;
        this.events.onChange();
        return;
      }
      if (next.at > this.position) {
        await this.#tick(Math.min(TICK_MS, (next.at - this.position) / this.speed));
        continue;
      }
      let shown = 0;
      for (let due: typeof next | null = next; due && due.at <= this.position && shown < AT_ONCE; shown += 1) {
        await this.#show(due);
        if (run !== this.#run) return;
        due = await this.#peek();
        if (run !== this.#run) return;
      }
      this.events.onChange();
      await this.timing.wait(0);
    }
  }

  async #tick(milliseconds: number): Promise<void> {
    this.events.onChange();
    await this.timing.wait(Math.max(1, milliseconds));
  }
}
