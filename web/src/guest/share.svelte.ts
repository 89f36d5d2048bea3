/** One share as its guest sees it: asked for again and again, since it may end, open or be taken back at any time. */
import { Right } from '../rights';
import { socketTo, type SessionLine } from '../tunnel/link';
import type { TunnelLink } from '../tunnel/tunnel';
import { http, HttpError, type SharedDevice } from '../wire/http';
import type { Device } from '../wire/protocol';
import { guestPage as words } from '../text.guest';

/** What can be shared, by the tunnel's protocol number (tunnel-protocols §2), in the order of the tabs. */
export const PARTS = [
  ['desktop', 2],
  ['terminal', 1],
  ['files', 5],
] as const;
export type Part = (typeof PARTS)[number][0];

export type ShareState =
  | { kind: 'loading' }
  /** The server has not answered yet, or not sensibly; `reason` says so. */
  | { kind: 'failed'; reason: string }
  /** `start` is in milliseconds of this browser's clock; null where no moment is known or it lies in the past. */
  | { kind: 'refused'; why: 'not-yet' | 'over' | 'unknown'; start: number | null }
  /** `until` is on this browser's clock, for counting down; null without an end. */
  | { kind: 'open'; share: SharedDevice; until: number | null };

/** How often the server is asked whether all is still as it was. */
const LOOK_MS = 15_000;
/** The same while it does not answer. */
const RETRY_MS = 5_000;
/** Some time for the server to notice that a tunnel's share was taken back, or its time came. */
const SETTLE_MS = 400;
/** From here on the page counts down. */
export const SOON_MS = 5 * 60_000;

/** Rights that show what is shared and nothing more; the server has its own opinion and asks no page. */
export function guestRights(share: Pick<SharedDevice, 'protocols' | 'viewOnly'>): number {
  const without = { desktop: Right.NoDesktop, terminal: Right.NoTerminal, files: Right.NoFiles };
  let rights: number = Right.RemoteControl | (share.viewOnly ? Right.ViewOnly : 0);
  for (const [part, protocol] of PARTS) if (!share.protocols.includes(protocol)) rights |= without[part];
  return rights;
}

/** The device's record as the parts of the page want it, made from the little that a guest is told. */
export function deviceOf(share: SharedDevice): Device {
  return { _id: share.nodeid, meshid: '', name: share.deviceName, conn: share.connected ? 1 : 0, ...(share.agent ? { agent: share.agent } : {}) };
}

/** Why a link is of no use, out of the server's answer; null when that says nothing about the link. */
export function refusalOf(error: unknown, now: number): (ShareState & { kind: 'refused' }) | null {
  if (!(error instanceof HttpError) || error.status !== 404) return null;
  const { code } = error;
  if (code !== 'not-yet' && code !== 'over') return { kind: 'refused', why: 'unknown', start: null };
  // A share of every day or week names its first beginning, which may be long ago.
  return { kind: 'refused', why: code, start: code === 'not-yet' && error.start !== undefined && error.start > now ? error.start : null };
}

export class GuestShare {
  state = $state.raw<ShareState>({ kind: 'loading' });
  /** False from a question without an answer to the next with one. */
  reachable = $state(true);
  #asking: Promise<SharedDevice> | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** When the timer strikes. */
  #due = Infinity;
  #ended = false;

  constructor(
    private readonly link: string,
    private readonly ask: (link: string) => Promise<SharedDevice> = http.share,
  ) {}

  /** Looks now, and again every quarter of a minute. Returns the way to stop. */
  start(): () => void {
    this.#ended = false;
    void this.look();
    return () => {
      this.#ended = true;
      this.#forgetTimer();
    };
  }

  /** Asks the server and takes its answer over; the page may await it, failures are in `state`. */
  async look(): Promise<void> {
    await this.#fetch().catch(() => undefined);
  }

  /** The same a moment later, when the server has had time to see what this page saw. An earlier look that is due stays. */
  lookSoon(delay = SETTLE_MS): void {
    const due = Date.now() + delay;
    if (this.#ended || this.#due <= due) return;
    this.#forgetTimer();
    this.#due = due;
    this.#timer = setTimeout(() => void this.look(), delay);
  }

  #forgetTimer(): void {
    clearTimeout(this.#timer);
    this.#due = Infinity;
  }

  /** How sessions of this guest are opened: by the share's cookie alone; the server asks the device itself. */
  readonly line: SessionLine = (() => {
    const share = this;
    const cookie = async (): Promise<string> => (await this.#fetch()).auth;
    return {
      guest: true,
      get connected() {
        return share.reachable;
      },
      tunnel: (nodeId: string): TunnelLink => ({
        nodeId,
        cookies: async () => ({ cookie: await cookie(), rcookie: '' }),
        ask: () => Promise.resolve('OK'),
        connect: (path) => {
          const socket = socketTo(path);
          socket.addEventListener('close', () => this.lookSoon());
          return socket;
        },
        online: () => this.reachable && navigator.onLine,
      }),
      cookie,
      others: () => '',
      onConsole: () => () => undefined,
    };
  })();

  #fetch(): Promise<SharedDevice> {
    this.#asking ??= this.#take().finally(() => {
      this.#asking = null;
    });
    return this.#asking;
  }

  async #take(): Promise<SharedDevice> {
    this.#forgetTimer();
    let next = LOOK_MS;
    try {
      const share = await this.ask(this.link);
      this.reachable = true;
      const now = Date.now();
      const until = share.until === null ? null : now + share.until - share.serverTime;
      this.state = { kind: 'open', share, until };
      if (until !== null) next = Math.min(next, until - now + SETTLE_MS);
      return share;
    } catch (error) {
      const now = Date.now();
      const refusal = refusalOf(error, now);
      this.reachable = refusal !== null;
      if (refusal) {
        this.state = refusal;
        if (refusal.start !== null) next = Math.min(next, refusal.start - now + SETTLE_MS);
      } else {
        next = RETRY_MS;
        if (this.state.kind !== 'open') this.state = { kind: 'failed', reason: error instanceof Error ? error.message : String(error) };
      }
      throw refusal ? new Error(words.ended[refusal.why].title) : error;
    } finally {
      // A link that is of no use will not become one.
      if (this.state.kind !== 'refused' || this.state.why === 'not-yet') this.lookSoon(Math.max(SETTLE_MS, next));
    }
  }
}
