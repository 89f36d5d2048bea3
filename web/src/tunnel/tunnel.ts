/**
 * One tunnel to a device: from its first request to its end. It opens the viewer's half of the relay, asks the
 * device for the other, waits until both are joined, chooses the protocol and speaks the control messages that
 * every protocol shares. What the bytes mean is the business of terminal, desktop and files. It knows no page, so a
 * test can drive it.
 */
import { text } from '../text';

/** The least a socket must offer; the browser's WebSocket does, and so does a test's. */
export interface TunnelSocket {
  binaryType: string;
  readyState: number;
  /** Bytes handed over and not yet sent. */
  bufferedAmount?: number;
  onopen: ((event: never) => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: ((event: never) => void) | null;
  send(data: string | Uint8Array): void;
  close(): void;
}

/** What the rest of the page lends a tunnel. */
export interface TunnelLink {
  nodeId: string;
  /** Fresh cookies for both ends of the tunnel. */
  cookies(): Promise<{ cookie: string; rcookie: string }>;
  /** Sends the `tunnel` message to the device; resolves with the server's result. */
  ask(message: Record<string, unknown>): Promise<string>;
  connect(path: string): TunnelSocket;
  /** True while the control connection stands; tells a lost server from an ended session. */
  online(): boolean;
  now?(): number;
}

export type TunnelState =
  /** Asking for cookies and for the device. */
  | { kind: 'asking' }
  /** The other end is awaited, or it has said why it waits: consent, no picture, … */
  | { kind: 'waiting'; words: string }
  | { kind: 'open'; since: number; recorded: boolean }
  /** `lost` when nobody wanted it to end: it may be tried again. */
  | { kind: 'ended'; reason: string; lost?: boolean };

/** A control message of the relay, its `ctrlChannel` already checked. */
export interface ControlMessage {
  type?: unknown;
  [field: string]: unknown;
}

export interface TunnelHandlers {
  onState(state: TunnelState): void;
  /** A binary message of the protocol. */
  onBytes(bytes: Uint8Array): void;
  /** A text message that is no control message: some agents send files' answers so. */
  onText?(frame: string): void;
  /** A control message that the tunnel does not know itself. */
  onControl?(message: ControlMessage): void;
  onRoundTrip(milliseconds: number): void;
  /** Who uses this session of the device now: user id → how many. */
  onUsers?(users: Record<string, number>): void;
}

/** The numbers of tunnel-protocols §2. */
export const Protocol = { Terminal: 1, Desktop: 2, Files: 5, PowerShell: 6, UserTerminal: 8, UserPowerShell: 9 } as const;

/** The channel that marks control messages (tunnel-protocols §1.8). */
const CHANNEL = '102938';
/** The relay gives the second half 15 s; a device on a slow line needs as long again to dial. */
const PAIRING_MS = 30_000;
const RTT_EVERY_MS = 5_000;
/** The largest message taken, in bytes or characters: a picture of the largest kind with its heads. What is larger ends the session. */
export const LARGEST_MESSAGE = 64 * 1024 * 1024 + 1024;
/** `console` message numbers that mean a refusal; the device closes after them. */
const REFUSALS: ReadonlySet<unknown> = new Set([2, 4]);

/** 96 random bits: the id brings the two ends of the tunnel together. */
function rendezvous(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, '0')).join('');
}

export class Tunnel {
  #socket: TunnelSocket | null = null;
  #open = false;
  #ended = false;
  #pairing: ReturnType<typeof setTimeout> | undefined;
  #beat: ReturnType<typeof setInterval> | undefined;
  #notice: ReturnType<typeof setTimeout> | undefined;
  #received = 0;
  #sent = 0;
  #since = 0;
  #recorded = false;
  /** The last thing the device said; when it closes then, that was the reason. */
  #said = '';

  constructor(
    private readonly link: TunnelLink,
    private readonly protocol: number,
    /** The options the device gets before the protocol begins, without `type`; empty sends none. */
    private readonly setup: () => Record<string, unknown>,
    private readonly handlers: TunnelHandlers,
    /** Words for an end that nobody explained. */
    private readonly endWords: string,
  ) {}

  /** Bytes of binary messages received and sent so far. */
  get received(): number {
    return this.#received;
  }
  get sent(): number {
    return this.#sent;
  }
  get isOpen(): boolean {
    return this.#open;
  }
  /** Bytes that the browser still holds back for the network. */
  get unsent(): number {
    return this.#socket?.bufferedAmount ?? 0;
  }

  async start(): Promise<void> {
    const { link, protocol, handlers } = this;
    handlers.onState({ kind: 'asking' });
    try {
      const { cookie, rcookie } = await link.cookies();
      if (this.#ended) return;
      const id = rendezvous();
      const query = `p=${protocol}&nodeid=${encodeURIComponent(link.nodeId)}&id=${id}`;
      const socket = link.connect(`meshrelay.ashx?browser=1&${query}&auth=${encodeURIComponent(cookie)}`);
      socket.binaryType = 'arraybuffer';
      this.#socket = socket;
      socket.onmessage = (event) => this.#receive(event.data);
      socket.onclose = () => this.#closed();
      this.#pairing = setTimeout(() => !this.#open && this.#giveUp(text.tunnel.silent), PAIRING_MS);
      const result = await link.ask({
        type: 'tunnel',
        nodeid: link.nodeId,
        usage: protocol,
        value: `*/meshrelay.ashx?p=${protocol}&nodeid=${link.nodeId}&id=${id}&rauth=${rcookie}`,
      });
      if (this.#ended) return;
      if (result.toLowerCase() !== 'ok') this.#giveUp(text.tunnel.refused(result));
      else if (!this.#open) handlers.onState({ kind: 'waiting', words: text.tunnel.waiting });
    } catch (error) {
      this.#giveUp(error instanceof Error ? error.message : String(error));
    }
  }

  /** Sends bytes of the protocol; dropped when the tunnel is not open. */
  send(bytes: Uint8Array): void {
    if (!this.#open || this.#socket?.readyState !== 1) return;
    this.#sent += bytes.length;
    this.#socket.send(bytes);
  }

  /** Sends a control message; dropped when the tunnel is not open. */
  control(message: ControlMessage): void {
    if (this.#open && this.#socket?.readyState === 1) this.#socket.send(JSON.stringify({ ctrlChannel: CHANNEL, ...message }));
  }

  /** Ends the session from this side, with the words to show. */
  end(reason: string): void {
    this.#leave(reason, false);
  }

  /** Ends what does not work and may work later. */
  #giveUp(reason: string): void {
    this.#leave(reason, true);
  }

  #leave(reason: string, lost: boolean): void {
    if (this.#ended) return;
    this.control({ type: 'close' });
    const socket = this.#socket;
    if (socket) socket.onmessage = socket.onclose = null;
    this.#finish(reason, lost);
    socket?.close();
  }

  #closed(): void {
    const { online } = this.link;
    // Words of the device before it closed are its reason; without them the link broke.
    this.#finish(!online() ? text.tunnel.lost : this.#said || (this.#open ? this.endWords : text.tunnel.noPairing), !online() || !this.#said);
  }

  #finish(reason: string, lost: boolean): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#open = false;
    clearTimeout(this.#pairing);
    clearTimeout(this.#notice);
    clearInterval(this.#beat);
    this.handlers.onState({ kind: 'ended', reason, lost });
  }

  #receive(data: unknown): void {
    if (this.#ended) return;
    const length = typeof data === 'string' ? data.length : data instanceof ArrayBuffer ? data.byteLength : 0;
    if (length > LARGEST_MESSAGE) {
      this.end(text.tunnel.tooLarge);
      return;
    }
    if (typeof data === 'string') this.#text(data);
    // Nothing of a protocol comes before the halves are joined.
    else if (data instanceof ArrayBuffer && this.#open) {
      this.#received += data.byteLength;
      this.handlers.onBytes(new Uint8Array(data));
    }
  }

  #text(frame: string): void {
    if (!this.#open) {
      if (frame === 'c' || frame === 'cr') this.#begin(frame === 'cr');
      return;
    }
    let message: (ControlMessage & { ctrlChannel?: unknown }) | null = null;
    try {
      const parsed: unknown = JSON.parse(frame);
      if (typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed)) message = parsed as ControlMessage;
    } catch {
      // Not for us; the protocol may know it.
    }
    if (message && String(message.ctrlChannel) === CHANNEL) this.#controlled(message);
    else this.handlers.onText?.(frame);
  }

  #begin(recorded: boolean): void {
    this.#open = true;
    this.#recorded = recorded;
    this.#since = this.#now();
    clearTimeout(this.#pairing);
    const options = this.setup();
    if (Object.keys(options).length > 0) this.#socket?.send(JSON.stringify({ type: 'options', ...options }));
    this.#socket?.send(String(this.protocol));
    this.#pulse();
    this.#beat = setInterval(() => this.#pulse(), RTT_EVERY_MS);
    this.#tellOpen();
  }

  #controlled(message: ControlMessage): void {
    switch (message.type) {
      case 'rtt':
        if (typeof message.time === 'number') this.handlers.onRoundTrip(Math.max(0, this.#now() - message.time));
        break;
      case 'ping':
        this.control({ type: 'pong' });
        break;
      case 'pong':
        break;
      case 'console':
        this.#console(message);
        break;
      case 'metadata':
        if (typeof message.users === 'object' && message.users !== null) this.handlers.onUsers?.(message.users as Record<string, number>);
        break;
      case 'close':
        this.end(this.#said || this.endWords);
        break;
      default:
        this.handlers.onControl?.(message);
    }
  }

  /** Consent prompts and reasons; an empty one means that all is well again. */
  #console(message: ControlMessage): void {
    clearTimeout(this.#notice);
    const args = Array.isArray(message.msgargs) ? message.msgargs.map(String) : [];
    const known = text.tunnel.console[Number(message.msgid ?? 0)];
    const literal = typeof message.msg === 'string' ? message.msg : '';
    const words = literal === '' ? '' : REFUSALS.has(message.msgid) || !known ? literal : known.replace(/\{(\d)\}/g, (_, n: string) => args[Number(n)] ?? '');
    this.#said = REFUSALS.has(message.msgid) && known ? `${known}${literal && literal !== known ? ` (${literal})` : ''}` : words;
    if (!this.#said) {
      this.#tellOpen();
      return;
    }
    this.handlers.onState({ kind: 'waiting', words: this.#said });
    const seconds = Number(message.timeout ?? 0);
    if (seconds > 0) this.#notice = setTimeout(() => ((this.#said = ''), this.#tellOpen()), seconds * 1000);
  }

  #tellOpen(): void {
    if (!this.#ended) this.handlers.onState({ kind: 'open', since: this.#since, recorded: this.#recorded });
  }

  #pulse(): void {
    this.control({ type: 'rtt', time: this.#now() });
  }

  #now(): number {
    return (this.link.now ?? Date.now)();
  }
}
