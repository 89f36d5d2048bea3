/**
 * The control socket: one WebSocket that comes back by itself, requests that end in a reply or an error,
 * and handlers for what the server says unasked. It knows nothing of the page around it.
 */
import type { Message } from './protocol';

/** The least a socket must offer; the browser's WebSocket does, and so does a test's. */
export interface SocketLike {
  readyState: number;
  onopen: ((event: never) => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: ((event: never) => void) | null;
  send(text: string): void;
  close(): void;
}

export type SocketState =
  | { kind: 'connecting' }
  | { kind: 'open' }
  /** `at`: milliseconds since 1970 of the next attempt. */
  | { kind: 'waiting'; at: number }
  | { kind: 'ended' };

/** A request that the server refused, or that found no answer. `message` is fit to show. */
export class ControlError extends Error {
  constructor(
    message: string,
    readonly action: string,
  ) {
    super(message);
    this.name = 'ControlError';
  }
}

interface Waiter {
  action: string;
  replies: Message[];
  wanted: number;
  settle(replies: Message[]): void;
  fail(error: ControlError): void;
  timer: ReturnType<typeof setTimeout>;
}

export interface ControlSocketOptions {
  connect(): SocketLike;
  onState(state: SocketState): void;
  /** Words for a reply that never came and for a connection that went away. */
  words: { timeout(action: string): string; lost: string };
  now?(): number;
  random?(): number;
}

/** How long a request may take; the server answers within one database read, a slow agent aside. */
const REPLY_MS = 20_000;
/** A proxy drops idle connections after 60 s at the earliest; half of that keeps ours. */
const PING_MS = 25_000;
/** Silence after which the connection counts as dead: two pings without any answer. */
const SILENCE_MS = 60_000;
const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 15_000;

export class ControlSocket {
  #socket: SocketLike | null = null;
  #waiters = new Map<string, Waiter>();
  #handlers = new Map<string, Set<(message: Message) => void>>();
  #serial = 0;
  #attempt = 0;
  #ended = false;
  #heard = 0;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #pulse: ReturnType<typeof setInterval> | undefined;

  constructor(private readonly options: ControlSocketOptions) {}

  get isOpen(): boolean {
    return this.#socket?.readyState === 1;
  }

  /** Connects now, and again whenever the connection is lost, until `end`. */
  start(): void {
    this.#ended = false;
    clearTimeout(this.#retry);
    this.options.onState({ kind: 'connecting' });
    const socket = this.options.connect();
    this.#socket = socket;
    socket.onopen = () => {
      this.#attempt = 0;
      this.#heard = this.#now();
      this.options.onState({ kind: 'open' });
    };
    socket.onmessage = (event) => {
      if (socket !== this.#socket || typeof event.data !== 'string') return;
      this.#heard = this.#now();
      this.#receive(event.data);
    };
    socket.onclose = () => {
      if (socket === this.#socket) this.#lost();
    };
    clearInterval(this.#pulse);
    this.#pulse = setInterval(() => this.#beat(), PING_MS);
  }

  /** Closes for good and fails what is still waiting. */
  end(): void {
    this.#ended = true;
    clearTimeout(this.#retry);
    clearInterval(this.#pulse);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
    this.#failAll();
    this.options.onState({ kind: 'ended' });
  }

  /** Skips the rest of the back-off. */
  retryNow(): void {
    if (!this.#ended && !this.#socket) this.start();
  }

  /** Calls `handler` for every message of `action`, replies included. Returns the way to stop. */
  on(action: string, handler: (message: Message) => void): () => void {
    const set = this.#handlers.get(action) ?? new Set();
    this.#handlers.set(action, set);
    set.add(handler);
    return () => set.delete(handler);
  }

  /** Sends without waiting for an answer; `false` when not connected. */
  send(message: { action: string; [field: string]: unknown }): boolean {
    if (!this.isOpen) return false;
    this.#socket?.send(JSON.stringify(message));
    return true;
  }

  /** Sends a request and resolves with the first reply, whatever it says. */
  async request(action: string, fields: Record<string, unknown> = {}, timeoutMs = REPLY_MS): Promise<Message> {
    const [reply] = await this.collect(action, fields, 1, timeoutMs);
    if (!reply) throw new ControlError(this.options.words.timeout(action), action);
    return reply;
  }

  /** As `request`, but a reply whose `result` is not "ok" is an error with the server's words. */
  async perform(action: string, fields: Record<string, unknown> = {}): Promise<Message> {
    const reply = await this.request(action, fields);
    return accepted(reply);
  }

  /** For actions answered once per device: resolves after `wanted` replies. */
  collect(action: string, fields: Record<string, unknown>, wanted: number, timeoutMs = REPLY_MS): Promise<Message[]> {
    return new Promise((settle, fail) => {
      if (!this.isOpen) {
        fail(new ControlError(this.options.words.lost, action));
        return;
      }
      const id = `w${++this.#serial}`;
      const timer = setTimeout(() => {
        this.#waiters.delete(id);
        if (pending.replies.length > 0) settle(pending.replies);
        else fail(new ControlError(this.options.words.timeout(action), action));
      }, timeoutMs);
      const pending: Waiter = { action, replies: [], wanted, settle, fail, timer };
      this.#waiters.set(id, pending);
      // `requestid` comes back on every answer; `responseid` also travels to agents, whose answers carry it.
      this.#socket?.send(JSON.stringify({ ...fields, action, responseid: id, requestid: id }));
    });
  }

  #receive(text: string): void {
    let message: Message;
    try {
      const parsed: unknown = JSON.parse(text);
      if (typeof parsed !== 'object' || parsed === null || typeof (parsed as Message).action !== 'string') return;
      message = parsed as Message;
    } catch {
      return;
    }
    const given = message.requestid ?? message.responseid;
    const id = typeof given === 'string' ? given : this.#oldestWaiter(message.action);
    const waiter = id === undefined ? undefined : this.#waiters.get(id);
    if (id !== undefined && waiter) {
      waiter.replies.push(message);
      if (waiter.replies.length >= waiter.wanted) {
        clearTimeout(waiter.timer);
        this.#waiters.delete(id);
        waiter.settle(waiter.replies);
      }
    }
    for (const handler of this.#handlers.get(message.action) ?? []) handler(message);
  }

  /** Replies without an id (MeshCentral's own server sends some) belong to whoever has waited longest. */
  #oldestWaiter(action: string): string | undefined {
    if (action === 'event' || action === 'msg') return undefined;
    for (const [id, waiter] of this.#waiters) if (waiter.action === action) return id;
    return undefined;
  }

  #lost(): void {
    this.#socket = null;
    clearInterval(this.#pulse);
    this.#failAll();
    if (this.#ended) return;
    const ceiling = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** this.#attempt++);
    // Jitter from half to full: a hundred open pages must not return in the same instant.
    const delay = ceiling * (0.5 + 0.5 * (this.options.random ?? Math.random)());
    this.options.onState({ kind: 'waiting', at: this.#now() + delay });
    this.#retry = setTimeout(() => this.start(), delay);
  }

  #failAll(): void {
    const waiters = [...this.#waiters.values()];
    this.#waiters.clear();
    for (const waiter of waiters) {
      clearTimeout(waiter.timer);
      waiter.fail(new ControlError(this.options.words.lost, waiter.action));
    }
  }

  #beat(): void {
    const socket = this.#socket;
    if (!socket) return;
    if (this.#now() - this.#heard > SILENCE_MS) {
      socket.onclose = null;
      socket.close();
      this.#lost();
    } else this.send({ action: 'ping' });
  }

  #now(): number {
    return (this.options.now ?? Date.now)();
  }
}

/** The reply itself when its `result` is absent or "ok" in any case; otherwise an error. */
export function accepted(reply: Message): Message {
  if (reply.result !== undefined && reply.result.toLowerCase() !== 'ok') throw new ControlError(reply.result, reply.action);
  return reply;
}
