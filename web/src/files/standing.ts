/** A files session that stands: when its link breaks it is made anew, and whoever waits for it goes on. */
import { remote } from '../text.remote';
import type { TunnelState } from '../tunnel/tunnel';
import { FilesError, type FileEvents, type FileSession } from './session';

/** Waits between attempts, in milliseconds; the last one is taken again and again. */
const PAUSES = [500, 1000, 2000, 4000, 8000, 15_000];
/** Attempts that fail one after the other before it gives up, five minutes of them. */
const MOST_ATTEMPTS = 25;
/** Between two looks at whether the device is there. */
const LOOK_MS = 500;

interface Waiter {
  settle(session: FileSession): void;
  fail(error: Error): void;
}

export class Standing {
  #session: FileSession | null = null;
  #waiting = new Set<Waiter>();
  #attempts = 0;
  #again: ReturnType<typeof setTimeout> | undefined;
  #ended = false;
  /** Whether this session's agent has said what it can do. */
  #greeted = false;

  constructor(
    private readonly make: (events: FileEvents) => FileSession,
    /** Whether an attempt can succeed now: the device is online, and so is this page. */
    private readonly possible: () => boolean,
    /** `again` when it is being tried again by itself. */
    private readonly onState: (state: TunnelState, again: boolean) => void,
  ) {}

  /** The session, when it is open. */
  get open(): FileSession | null {
    return this.#session?.isOpen ? this.#session : null;
  }

  /** Begins, or begins anew. */
  connect(): void {
    this.#attempts = 0;
    this.#ended = false;
    this.#try();
  }

  /** The session as soon as it is open. */
  ready(signal: AbortSignal): Promise<FileSession> {
    const { open } = this;
    if (open && this.#greeted) return Promise.resolve(open);
    return new Promise((settle, fail) => {
      if (this.#ended) {
        fail(new FilesError(remote.files.notConnected));
        return;
      }
      const waiter: Waiter = { settle, fail };
      this.#waiting.add(waiter);
      signal.addEventListener('abort', () => this.#waiting.delete(waiter) && fail(new FilesError(remote.files.cancelled)), { once: true });
    });
  }

  end(): void {
    this.#stop(remote.files.notConnected);
    const session = this.#session;
    this.#session = null;
    session?.end('');
  }

  #try(): void {
    clearTimeout(this.#again);
    this.#session?.end('');
    this.#greeted = false;
    const mine: FileSession = this.make({ onState: (state) => mine === this.#session && this.#state(state), onRoundTrip: () => undefined });
    this.#session = mine;
    void mine.start();
  }

  #state(state: TunnelState): void {
    if (state.kind === 'open') {
      this.#attempts = 0;
      const session = this.#session;
      void session?.greeted.then(() => {
        if (session !== this.#session || !session.isOpen) return;
        this.#greeted = true;
        for (const waiter of this.#waiting) waiter.settle(session);
        this.#waiting.clear();
      });
    }
    const again = state.kind === 'ended' && state.lost === true && this.#attempts < MOST_ATTEMPTS;
    if (again) this.#later();
    else if (state.kind === 'ended') this.#stop(state.reason || remote.files.ended);
    this.onState(state, again);
  }

  #later(): void {
    clearTimeout(this.#again);
    const pause = PAUSES[Math.min(this.#attempts, PAUSES.length - 1)];
    const look = (): void => {
      if (!this.possible()) {
        this.#again = setTimeout(look, LOOK_MS);
        return;
      }
      this.#attempts += 1;
      this.#try();
    };
    this.#again = setTimeout(look, pause);
  }

  #stop(words: string): void {
    this.#ended = true;
    clearTimeout(this.#again);
    for (const waiter of this.#waiting) waiter.fail(new FilesError(words));
    this.#waiting.clear();
  }
}
