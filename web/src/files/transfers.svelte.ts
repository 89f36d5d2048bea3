/** Files on their way: a queue in each direction, one file at a time, since agents take no more; and work on the device. */
import { remote } from '../text.remote';

export type TransferState = 'waiting' | 'moving' | 'done' | 'failed' | 'cancelled';

export interface Transfer {
  readonly id: number;
  /** `there` is work that the device does by itself. */
  readonly direction: 'up' | 'down' | 'there';
  readonly name: string;
  /** Where on the device. */
  readonly folder: string;
  /** Bytes in all; null while nobody knows. */
  size: number | null;
  moved: number;
  state: TransferState;
  error: string;
  /** What is being done, or what came of it, beside the numbers. */
  note: string;
  /** Hash of the whole, as people compare it. */
  hash: string;
  paused: boolean;
  /** Bytes a second, over the last seconds. */
  rate: number;
}

/** What a transfer may use while it works. */
export interface Hands {
  report(moved: number): void;
  signal: AbortSignal;
  size(bytes: number): void;
  say(words: string): void;
  hash(hash: string): void;
  gate(): Promise<void> | undefined;
}
type Work = (hands: Hands) => Promise<void>;

interface Job {
  transfer: Transfer;
  work: Work;
  stop: AbortController;
  /** While it is paused. */
  hold: { wait: Promise<void>; go: () => void } | null;
}

/** The rate is measured over this long. */
const RATE_MS = 3000;
const REDRAW_MS = 100;

export class Transfers {
  list = $state.raw<readonly Transfer[]>([]);
  #jobs = new Map<number, Job>();
  #serial = 0;
  #running: Record<Transfer['direction'], boolean> = { up: false, down: false, there: false };
  #redraw: ReturnType<typeof setTimeout> | undefined;

  /** Called when one has ended, however. */
  onSettled: (transfer: Transfer) => void = () => undefined;

  get busy(): boolean {
    return this.list.some((one) => one.state === 'waiting' || one.state === 'moving');
  }

  add(direction: Transfer['direction'], name: string, folder: string, size: number | null, work: Work): void {
    const transfer: Transfer = { id: ++this.#serial, direction, name, folder, size, moved: 0, state: 'waiting', error: '', note: '', hash: '', paused: false, rate: 0 };
    this.#jobs.set(transfer.id, { transfer, work, stop: new AbortController(), hold: null });
    this.#show();
    void this.#next(direction);
  }

  cancel(id: number): void {
    const job = this.#jobs.get(id);
    if (!job) return;
    if (job.transfer.state === 'waiting') this.#settle(job, 'cancelled', '');
    job.hold?.go();
    job.stop.abort();
  }

  /** Holds a transfer where it is, or lets it go on. */
  pause(id: number): void {
    const job = this.#jobs.get(id);
    if (!job || job.transfer.state !== 'moving') return;
    if (job.hold) {
      job.hold.go();
      job.hold = null;
    } else {
      let go = (): void => undefined;
      const wait = new Promise<void>((settle) => (go = settle));
      job.hold = { wait, go };
    }
    job.transfer.paused = job.hold !== null;
    job.transfer.rate = 0;
    this.#show();
  }

  cancelAll(): void {
    for (const { transfer } of [...this.#jobs.values()]) if (transfer.state === 'waiting' || transfer.state === 'moving') this.cancel(transfer.id);
  }

  /** Takes the ended ones off the list. */
  clear(): void {
    for (const [id, { transfer }] of this.#jobs) if (transfer.state !== 'waiting' && transfer.state !== 'moving') this.#jobs.delete(id);
    this.#show();
  }

  /** Tries a failed one again, at the end of its queue. */
  retry(id: number): void {
    const job = this.#jobs.get(id);
    if (!job || (job.transfer.state !== 'failed' && job.transfer.state !== 'cancelled')) return;
    this.#jobs.delete(id);
    const { direction, name, folder, size } = job.transfer;
    this.add(direction, name, folder, size, job.work);
  }

  async #next(direction: Transfer['direction']): Promise<void> {
    if (this.#running[direction]) return;
    const job = [...this.#jobs.values()].find(({ transfer }) => transfer.direction === direction && transfer.state === 'waiting');
    if (!job) return;
    this.#running[direction] = true;
    const { transfer, stop } = job;
    transfer.state = 'moving';
    const marks: { at: number; moved: number }[] = [{ at: Date.now(), moved: 0 }];
    const report = (moved: number): void => {
      const now = Date.now();
      transfer.moved = moved;
      marks.push({ at: now, moved });
      while (marks.length > 2 && now - (marks[0]?.at ?? now) > RATE_MS) marks.shift();
      const first = marks[0];
      if (first && now - first.at > 200) transfer.rate = ((moved - first.moved) * 1000) / (now - first.at);
      this.#soon();
    };
    this.#show();
    try {
      await job.work({
        report,
        signal: stop.signal,
        size: (bytes) => (transfer.size = bytes),
        say: (words) => {
          transfer.note = words;
          this.#soon();
        },
        hash: (hash) => (transfer.hash = hash),
        gate: () => job.hold?.wait,
      });
      this.#settle(job, 'done', '');
    } catch (error) {
      if (stop.signal.aborted) this.#settle(job, 'cancelled', '');
      else this.#settle(job, 'failed', error instanceof Error ? error.message : remote.files.failed);
    }
    this.#running[direction] = false;
    void this.#next(direction);
  }

  #settle({ transfer }: Job, state: TransferState, error: string): void {
    transfer.state = state;
    transfer.error = error;
    transfer.rate = 0;
    transfer.paused = false;
    this.#show();
    this.onSettled(transfer);
  }

  #soon(): void {
    this.#redraw ??= setTimeout(() => this.#show(), REDRAW_MS);
  }

  #show(): void {
    clearTimeout(this.#redraw);
    this.#redraw = undefined;
    this.list = [...this.#jobs.values()].map(({ transfer }) => ({ ...transfer }));
  }
}
