/** One side of a conversation: its socket, what was said while this page is open, and who is there. */
import { socketAddress } from '../wire/http';

/** The longest text, as the server counts (UTF-16 units). */
export const LONGEST = 4096;
/** Pauses before the socket is opened again. */
const RETRY_MS = [500, 1000, 2000, 5000];
/** "Is writing" is said this often at most, and believed this long. */
const TYPING_EACH_MS = 2000;
const TYPING_FOR_MS = 4000;

export interface Line {
  key: number;
  mine: boolean;
  words: string;
  /** Milliseconds since 1970. */
  time: number;
}

type Socket = Pick<WebSocket, 'send' | 'close' | 'readyState' | 'addEventListener'>;

export class Conversation {
  lines = $state.raw<Line[]>([]);
  /** Whether the other side's page is open. */
  there = $state(false);
  /** It was open before. */
  wasThere = $state(false);
  typing = $state(false);
  connected = $state(false);
  /** Why it is over; empty while it is not. */
  ended = $state('');
  /** How long a text may be, after one that was longer. */
  refused = $state(0);
  #socket: Socket | null = null;
  #tries = 0;
  #key = 0;
  #typed = 0;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #quiet: ReturnType<typeof setTimeout> | undefined;
  #opened = false;

  constructor(
    private readonly id: string,
    private readonly connect: (path: string) => Socket = (path) => new WebSocket(socketAddress(path)),
  ) {}

  /** Opens it. Returns the way to leave. */
  start(): () => void {
    this.#open();
    return () => this.#leave();
  }

  say(words: string): void {
    if (!words.trim() || !this.connected || this.ended) return;
    this.refused = 0;
    this.#socket?.send(JSON.stringify({ action: 'chat', msg: words }));
    this.#add(true, words, Date.now());
    this.#typed = 0;
  }

  isTyping(): void {
    const now = Date.now();
    if (!this.connected || this.ended || now - this.#typed < TYPING_EACH_MS) return;
    this.#typed = now;
    this.#socket?.send(JSON.stringify({ action: 'typing' }));
  }

  /** Ends it for both; only the person's side may. */
  close(): void {
    this.#socket?.send(JSON.stringify({ action: 'close' }));
  }

  #add(mine: boolean, words: string, time: number): void {
    this.lines = [...this.lines, { key: this.#key++, mine, words, time }];
  }

  #open(): void {
    this.#opened = false;
    const socket = this.connect(`meshrelay.ashx?id=${encodeURIComponent(this.id).replaceAll('%40', '@').replaceAll('%24', '$')}`);
    this.#socket = socket;
    socket.addEventListener('open', () => {
      this.connected = true;
      this.#opened = true;
      this.#tries = 0;
    });
    socket.addEventListener('message', (event) => this.#hear((event as MessageEvent).data));
    socket.addEventListener('close', () => this.#lost(socket));
  }

  #hear(data: unknown): void {
    if (typeof data !== 'string') return;
    let message: Record<string, unknown>;
    try {
      message = JSON.parse(data) as Record<string, unknown>;
    } catch {
      return;
    }
    if (message.action === 'chat' && typeof message.msg === 'string') {
      this.#add(false, message.msg, typeof message.time === 'number' ? message.time : Date.now());
      this.#still();
    } else if (message.action === 'typing') {
      this.typing = true;
      clearTimeout(this.#quiet);
      this.#quiet = setTimeout(() => this.#still(), TYPING_FOR_MS);
    } else if (message.action === 'there') {
      this.there = message.there === true;
      if (this.there) this.wasThere = true;
      else this.#still();
    } else if (message.action === 'refused') {
      this.refused = typeof message.most === 'number' ? message.most : LONGEST;
      // What was not sent is not shown as said.
      const last = this.lines.findLastIndex((line) => line.mine);
      this.lines = this.lines.filter((_, at) => at !== last);
    } else if (message.action === 'end') {
      this.ended = typeof message.why === 'string' ? message.why : 'closed';
      this.there = false;
      this.#still();
    }
  }

  #still(): void {
    clearTimeout(this.#quiet);
    this.typing = false;
  }

  #lost(socket: Socket): void {
    if (socket !== this.#socket) return;
    this.connected = false;
    this.there = false;
    this.#still();
    if (this.ended) return;
    // A door that never opened, several times over, is shut: the conversation is over.
    if (!this.#opened && this.#tries >= RETRY_MS.length) {
      this.ended = 'over';
      return;
    }
    this.#retry = setTimeout(() => this.#open(), RETRY_MS[Math.min(this.#tries, RETRY_MS.length - 1)]);
    this.#tries += 1;
  }

  #leave(): void {
    clearTimeout(this.#retry);
    this.#still();
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }
}
