/**
 * One terminal session: the tunnel from its first request to its end, and the flow of its bytes. It knows
 * neither xterm nor the page, so a test can drive it.
 */
import { text } from '../text';

export interface TunnelSocket {
  binaryType: string;
  readyState: number;
  onopen: ((event: never) => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: ((event: never) => void) | null;
  send(data: string | Uint8Array): void;
  close(): void;
}

export type SessionState =
  | { kind: 'asking' }
  | { kind: 'waiting'; words: string }
  | { kind: 'open'; since: number; recorded: boolean }
  | { kind: 'ended'; reason: string };

export interface SessionOptions {
  nodeId: string;
  /** Leave empty for the agent's own account. */
  user: string;
  cols: number;
  rows: number;
  /** Fresh cookies for both ends of the tunnel. */
  cookies(): Promise<{ cookie: string; rcookie: string }>;
  /** Sends the `tunnel` message to the device; resolves with the server's result. */
  ask(message: Record<string, unknown>): Promise<string>;
  connect(path: string): TunnelSocket;
  /** True while the control connection stands; tells a lost server from an ended shell. */
  online(): boolean;
  onState(state: SessionState): void;
  /** Bytes for the screen. `done` must be called once they are drawn. */
  onOutput(bytes: Uint8Array, done: () => void): void;
  onRoundTrip(milliseconds: number): void;
  now?(): number;
}

/** How many bytes the agent may send ahead of our acknowledgement. */
export const WINDOW = 512 * 1024;
/** An acknowledgement goes out for at least this much, or when the screen has caught up. */
const ACK_EVERY = 64 * 1024;
/** Agents that know no acknowledgement can flood the page: above this much undrawn output, output is skipped… */
export const MOST_PENDING = 4 * 1024 * 1024;
/** …until no more than this is left. */
export const RESUME_PENDING = 256 * 1024;
const PAIRING_MS = 30_000;
const RTT_EVERY_MS = 5_000;
const CHANNEL = '102938';

/** 96 random bits: the id brings the two ends of the tunnel together. */
function rendezvous(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, '0')).join('');
}

export class TerminalSession {
  #socket: TunnelSocket | null = null;
  #open = false;
  #ended = false;
  #timers: ReturnType<typeof setTimeout>[] = [];
  #beat: ReturnType<typeof setInterval> | undefined;
  #received = 0;
  #drawn = 0;
  #acknowledged = 0;
  #skipped = 0;
  #recorded = false;
  /** The last thing the device said; when it closes then, that was the reason. */
  #said = '';

  constructor(private readonly options: SessionOptions) {}

  /** All bytes received so far. */
  get received(): number {
    return this.#received;
  }

  async start(): Promise<void> {
    const { options } = this;
    options.onState({ kind: 'asking' });
    try {
      const { cookie, rcookie } = await options.cookies();
      if (this.#ended) return;
      const id = rendezvous();
      const query = `p=1&nodeid=${encodeURIComponent(options.nodeId)}&id=${id}`;
      const socket = options.connect(`meshrelay.ashx?browser=1&${query}&auth=${encodeURIComponent(cookie)}`);
      socket.binaryType = 'arraybuffer';
      this.#socket = socket;
      socket.onmessage = (event) => this.#receive(event.data);
      socket.onclose = () => this.#finish(!options.online() ? text.terminal.lost : this.#said || (this.#open ? text.terminal.ended : text.terminal.noPairing));
      this.#timers.push(setTimeout(() => !this.#open && this.end(text.terminal.silent), PAIRING_MS));
      const result = await options.ask({
        type: 'tunnel',
        nodeid: options.nodeId,
        usage: 1,
        value: `*/meshrelay.ashx?p=1&nodeid=${options.nodeId}&id=${id}&rauth=${rcookie}`,
      });
      if (this.#ended) return;
      if (result.toLowerCase() !== 'ok') this.end(text.terminal.refused(result));
      else if (!this.#open) options.onState({ kind: 'waiting', words: text.terminal.waiting });
    } catch (error) {
      this.end(error instanceof Error ? error.message : String(error));
    }
  }

  /** Keys and pastes; dropped when the session is not open. */
  input(data: string): void {
    if (this.#open) this.#socket?.send(new TextEncoder().encode(data));
  }

  inputBytes(bytes: Uint8Array): void {
    if (this.#open) this.#socket?.send(bytes);
  }

  resize(cols: number, rows: number): void {
    this.#control({ type: 'termsize', cols, rows });
  }

  end(reason: string): void {
    if (this.#ended) return;
    this.#control({ type: 'close' });
    const socket = this.#socket;
    this.#finish(reason);
    if (socket) {
      socket.onmessage = socket.onclose = null;
      socket.close();
    }
  }

  #finish(reason: string): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#open = false;
    for (const timer of this.#timers) clearTimeout(timer);
    clearInterval(this.#beat);
    this.options.onState({ kind: 'ended', reason });
  }

  #control(message: Record<string, unknown>): void {
    if (this.#open && this.#socket?.readyState === 1) this.#socket.send(JSON.stringify({ ctrlChannel: CHANNEL, ...message }));
  }

  #receive(data: unknown): void {
    if (this.#ended) return;
    if (data instanceof ArrayBuffer) this.#output(new Uint8Array(data));
    else if (typeof data === 'string') this.#textFrame(data);
  }

  #textFrame(frame: string): void {
    if (!this.#open) {
      if (frame !== 'c' && frame !== 'cr') return;
      const { cols, rows, user, onState } = this.options;
      this.#open = true;
      this.#recorded = frame === 'cr';
      this.#socket?.send(JSON.stringify({ type: 'options', protocol: 1, cols, rows, window: WINDOW, ...(user ? { user } : {}) }));
      this.#socket?.send('1');
      this.#pulse();
      this.#beat = setInterval(() => this.#pulse(), RTT_EVERY_MS);
      onState({ kind: 'open', since: this.#now(), recorded: this.#recorded });
      return;
    }
    let message: { ctrlChannel?: unknown; type?: unknown; time?: unknown; msg?: unknown; msgid?: unknown };
    try {
      message = JSON.parse(frame) as typeof message;
    } catch {
      return;
    }
    if (typeof message !== 'object' || message === null || String(message.ctrlChannel) !== CHANNEL) return;
    switch (message.type) {
      case 'rtt':
        if (typeof message.time === 'number') this.options.onRoundTrip(Math.max(0, this.#now() - message.time));
        break;
      case 'ping':
        this.#control({ type: 'pong' });
        break;
      case 'console':
        // Consent prompts and reasons; an empty one means that all is well again.
        this.#said = typeof message.msg === 'string' ? message.msg : '';
        this.options.onState(this.#said ? { kind: 'waiting', words: this.#said } : { kind: 'open', since: this.#now(), recorded: this.#recorded });
        break;
      case 'close':
        this.end(text.terminal.ended);
        break;
    }
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
        const line = new TextEncoder().encode(`\r\n\x1b[0;2m${text.terminal.skipped(skipped)}\x1b[0m\r\n`);
        this.options.onOutput(line, () => undefined);
      }
      this.#acknowledge();
    });
  }

  #acknowledge(): void {
    const idle = this.#drawn === this.#received;
    if (this.#drawn - this.#acknowledged < ACK_EVERY && !(idle && this.#drawn > this.#acknowledged)) return;
    this.#acknowledged = this.#drawn;
    this.#control({ type: 'ack', bytes: this.#drawn });
  }

  #pulse(): void {
    this.#control({ type: 'rtt', time: this.#now() });
  }

  #now(): number {
    return (this.options.now ?? Date.now)();
  }
}
