/** One terminal session: the flow of its bytes between the device's shell and the screen. It knows neither xterm nor the page. */
import { text } from '../text';
import { Protocol, Tunnel, type TunnelLink, type TunnelState } from '../tunnel/tunnel';

/** Which shell a terminal runs, and as whom. */
export interface Choice {
  /** The agent's own account, whoever is logged in, whoever logs in at a prompt, or (our agent) a named account. */
  as: 'agent' | 'user' | 'login' | 'named';
  /** The name of the account, for `named`. */
  name: string;
  /** A shell of the device (our agent); empty for the account's own. */
  shell: string;
  /** PowerShell instead of the command prompt, on Windows. */
  powerShell: boolean;
}

export const USUAL: Choice = { as: 'agent', name: '', shell: '', powerShell: false };

/** The protocol that a choice means (tunnel-protocols §3). */
export const protocolOf = ({ as, powerShell }: Choice): number =>
  as === 'user' ? (powerShell ? Protocol.UserPowerShell : Protocol.UserTerminal) : powerShell ? Protocol.PowerShell : Protocol.Terminal;

/** Where a terminal is, as our agent tells. */
export interface Surroundings {
  folder: string | null;
  account: string | null;
  shells: string[];
  accounts: string[];
}

const strings = (list: unknown): string[] => (Array.isArray(list) ? list.filter((one): one is string => typeof one === 'string').slice(0, 200) : []);
/** Agents that do not know the question say nothing. */
const ANSWER_MS = 3000;

export interface SessionOptions {
  link: TunnelLink;
  /** Whose shell; see {@link Choice}. */
  choice: Choice;
  cols: number;
  rows: number;
  onState(state: TunnelState): void;
  /** Bytes for the screen. `done` must be called once they are drawn. */
  onOutput(bytes: Uint8Array, done: () => void): void;
  onRoundTrip(milliseconds: number): void;
}

/** How many bytes the agent may send ahead of our acknowledgement. */
export const WINDOW = 512 * 1024;
/** An acknowledgement goes out for at least this much, or when the screen has caught up. */
const ACK_EVERY = 64 * 1024;
/** Agents that know no acknowledgement can flood the page: above this much undrawn output, output is skipped… */
export const MOST_PENDING = 4 * 1024 * 1024;
/** …until no more than this is left. */
export const RESUME_PENDING = 256 * 1024;

export class TerminalSession {
  readonly #tunnel: Tunnel;
  readonly #encoder = new TextEncoder();
  #received = 0;
  #drawn = 0;
  #acknowledged = 0;
  #skipped = 0;
  #asking: ((told: Surroundings | null) => void)[] = [];

  constructor(private readonly options: SessionOptions) {
    const { link, choice, cols, rows, onState, onRoundTrip } = options;
    const protocol = protocolOf(choice);
    this.#tunnel = new Tunnel(
      link,
      protocol,
      () => ({
        protocol,
        cols,
        rows,
        window: WINDOW,
        ...(choice.as === 'named' && choice.name ? { user: choice.name } : {}),
        ...(choice.as === 'login' ? { requireLogin: true } : {}),
        ...(choice.shell ? { shell: choice.shell } : {}),
      }),
      { onState, onRoundTrip, onBytes: (bytes) => this.#output(bytes), onControl: (message) => this.#told(message) },
      text.terminal.ended,
    );
  }

  /** All bytes received so far. */
  get received(): number {
    return this.#received;
  }

  start(): Promise<void> {
    return this.#tunnel.start();
  }

  /** Keys and pastes; dropped when the session is not open. */
  input(data: string): void {
    this.#tunnel.send(this.#encoder.encode(data));
  }

  inputBytes(bytes: Uint8Array): void {
    this.#tunnel.send(bytes);
  }

  /** Where the shell is now; null from agents that do not tell. */
  surroundings(): Promise<Surroundings | null> {
    return new Promise((settle) => {
      const timer = setTimeout(() => this.#heard(null), ANSWER_MS);
      this.#asking.push((told) => {
        clearTimeout(timer);
        settle(told);
      });
      this.#tunnel.control({ type: 'surroundings' });
    });
  }

  #told(message: Record<string, unknown>): void {
    if (message.type !== 'surroundings') return;
    const text = (value: unknown): string | null => (typeof value === 'string' ? value : null);
    this.#heard({ folder: text(message.folder), account: text(message.account), shells: strings(message.shells), accounts: strings(message.accounts) });
  }

  #heard(told: Surroundings | null): void {
    const asking = this.#asking;
    this.#asking = [];
    for (const one of asking) one(told);
  }

  resize(cols: number, rows: number): void {
    this.#tunnel.control({ type: 'termsize', cols, rows });
  }

  end(reason: string): void {
    this.#tunnel.end(reason);
  }

  #output(bytes: Uint8Array): void {
    this.#received += bytes.length;
    if (this.#skipped > 0 || this.#received - this.#drawn > MOST_PENDING) {
      // Skipped bytes count as drawn: the limit is on what waits for the screen.
      this.#skipped += bytes.length;
      this.#drawn += bytes.length;
      this.#acknowledge();
      return;
    }
    this.#draw(bytes);
  }

  #draw(bytes: Uint8Array): void {
    this.options.onOutput(bytes, () => {
      this.#drawn += bytes.length;
      if (this.#skipped > 0 && this.#received - this.#drawn <= RESUME_PENDING) {
        const skipped = this.#skipped;
        this.#skipped = 0;
        const line = this.#encoder.encode(`\r\n\x1b[0;2m${text.terminal.skipped(skipped)}\x1b[0m\r\n`);
        this.options.onOutput(line, () => undefined);
      }
      this.#acknowledge();
    });
  }

  #acknowledge(): void {
    const idle = this.#drawn === this.#received;
    if (this.#drawn - this.#acknowledged < ACK_EVERY && !(idle && this.#drawn > this.#acknowledged)) return;
    this.#acknowledged = this.#drawn;
    this.#tunnel.control({ type: 'ack', bytes: this.#drawn });
  }
}
