/**
 * Keys from the browser to the device. In `text` mode characters go as characters, so that this keyboard's layout
 * counts; in `keys` mode every key goes by its place, so that the device's layout counts. Every key that went down is
 * let go again: on its release, and all of them when the page loses the keyboard.
 */
import type { KeyAction } from './commands';

export type KeyMode = 'text' | 'keys';

/** The least of a KeyboardEvent that decides. */
export interface KeyPress {
  code: string;
  key: string;
  ctrlKey: boolean;
  altKey: boolean;
  metaKey: boolean;
  isComposing?: boolean;
  altGraph: boolean;
}

export interface KeySink {
  key(action: KeyAction, code: number, extended: boolean): void;
  unicode(action: KeyAction, unit: number): void;
}

/** Virtual key codes of Windows by the place of the key on the keyboard. */
const PLACES: Readonly<Record<string, number>> = {
  Backspace: 8, Tab: 9, Enter: 13, NumpadEnter: 13, ShiftLeft: 16, ShiftRight: 16, ControlLeft: 17, ControlRight: 17, AltLeft: 18, AltRight: 18,
  Pause: 19, CapsLock: 20, Escape: 27, Space: 32, PageUp: 33, PageDown: 34, End: 35, Home: 36, ArrowLeft: 37, ArrowUp: 38, ArrowRight: 39, ArrowDown: 40,
  PrintScreen: 44, Insert: 45, Delete: 46, MetaLeft: 91, MetaRight: 92, OSLeft: 91, OSRight: 92, ContextMenu: 93,
  NumpadMultiply: 106, NumpadAdd: 107, NumpadComma: 110, NumpadSubtract: 109, NumpadDecimal: 110, NumpadDivide: 111, NumLock: 144, ScrollLock: 145,
  Semicolon: 186, Equal: 187, Comma: 188, Minus: 189, Period: 190, Slash: 191, Backquote: 192, BracketLeft: 219, Backslash: 220, BracketRight: 221, Quote: 222,
  IntlBackslash: 226, IntlRo: 193, IntlYen: 220,
};
/** The second set of a Windows keyboard. */
const EXTENDED: ReadonlySet<string> = new Set([
  'ShiftRight', 'AltRight', 'ControlRight', 'Home', 'End', 'Insert', 'Delete', 'PageUp', 'PageDown', 'ArrowLeft', 'ArrowUp', 'ArrowRight', 'ArrowDown',
  'NumpadDivide', 'NumpadEnter', 'NumLock', 'Pause', 'MetaLeft', 'MetaRight',
]);
/** AltGr as one key, for devices that know their own. */
const ALT_GRAPH = 225;
const CONTROL = 17;
/** Windows browsers report AltGr as Ctrl and then Alt; this long a Ctrl waits for the Alt that unmasks it. */
const ALT_GRAPH_MS = 50;
/** The longest text typed at once. */
export const LONGEST_TEXT = 4096;

/** The virtual key of a place, or 0. */
export function placeCode(code: string): number {
  if (/^Key[A-Z]$/.test(code)) return code.charCodeAt(3);
  if (/^Digit\d$/.test(code)) return code.charCodeAt(5);
  if (/^Numpad\d$/.test(code)) return 96 + Number(code.slice(6));
  const f = /^F(\d{1,2})$/.exec(code);
  if (f && Number(f[1]) >= 1 && Number(f[1]) <= 24) return 111 + Number(f[1]);
  return PLACES[code] ?? 0;
}

type Down = { kind: 'key'; code: number; extended: boolean } | { kind: 'unicode'; unit: number };

export class Keyboard {
  /** What is down at the device, by the place of the key here. */
  #down = new Map<string, Down>();
  #waitingControl: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly sink: KeySink,
    /** Only Windows agents tell the second set apart. */
    private readonly windows: boolean,
    public mode: KeyMode = 'text',
    /** Right 4096: no combinations, no special keys. */
    private readonly limited = false,
  ) {}

  /** True when the key was ours, so the page must not act on it. */
  press(event: KeyPress): boolean {
    if (event.isComposing || event.key === 'Dead' || event.key === 'Process') return false;
    const { code } = event;
    if (this.#waitingControl !== undefined) {
      const graph = code === 'AltRight';
      this.#settleControl(!graph);
      if (graph) {
        this.#altGraph();
        return true;
      }
    }
    if (code === 'AltRight' && event.key === 'AltGraph') {
      this.#altGraph();
      return true;
    }
    if (code === 'ControlLeft' && !this.#down.has(code) && !event.altKey && this.windowsBrowser) {
      this.#waitingControl = setTimeout(() => this.#settleControl(true), ALT_GRAPH_MS);
      return true;
    }
    const down = this.#meaning(event);
    if (!down) return false;
    const before = this.#down.get(code);
    // A key that repeats with another meaning (Shift was let go in between) first ends the old one.
    if (before && JSON.stringify(before) !== JSON.stringify(down)) this.#send('up', before);
    this.#down.set(code, down);
    this.#send('down', down);
    return true;
  }

  release(event: Pick<KeyPress, 'code'>): boolean {
    const { code } = event;
    if (code === 'ControlLeft' && this.#waitingControl !== undefined) this.#settleControl(true);
    const down = this.#down.get(code);
    if (down) {
      this.#down.delete(code);
      this.#send('up', down);
    }
    // macOS tells no releases while ⌘ is held: what was pressed with it ends with it.
    if (code === 'MetaLeft' || code === 'MetaRight' || code === 'OSLeft' || code === 'OSRight') this.releaseAll();
    return down !== undefined;
  }

  /** Lets go of everything: the page lost the keyboard, or the session ends. */
  releaseAll(): void {
    if (this.#waitingControl !== undefined) this.#settleControl(false);
    for (const down of [...this.#down.values()].reverse()) this.#send('up', down);
    this.#down.clear();
  }

  /** A stroke of keys held together, such as Alt+Tab, pressed in order and let go in reverse. */
  chord(codes: readonly string[]): void {
    if (this.limited) return;
    const all = codes.map((code) => this.#place(code)).filter((down) => down !== null);
    for (const down of all) this.#send('down', down);
    for (const down of all.reverse()) this.#send('up', down);
  }

  /** Types a text as characters; line ends and tabs as their keys. */
  type(words: string): void {
    const text = words.slice(0, LONGEST_TEXT).replace(/\r\n?/g, '\n');
    for (let at = 0; at < text.length; at += 1) {
      const unit = text.charCodeAt(at);
      const down: Down = unit === 10 ? { kind: 'key', code: 13, extended: false } : unit === 9 ? { kind: 'key', code: 9, extended: false } : { kind: 'unicode', unit };
      if (unit < 32 && unit !== 10 && unit !== 9) continue;
      this.#send('down', down);
      this.#send('up', down);
    }
  }

  /** A held modifier of the touch keys goes down or up here. */
  hold(code: string, held: boolean): void {
    const down = this.#place(code);
    if (!down || this.limited) return;
    if (held) this.#down.set(code, down);
    else this.#down.delete(code);
    this.#send(held ? 'down' : 'up', down);
  }

  private readonly windowsBrowser = typeof navigator !== 'undefined' && /Windows/.test(navigator.userAgent);

  #altGraph(): void {
    // In text mode the character it makes is all that counts.
    if (this.mode === 'text' || this.limited) return;
    const down: Down = { kind: 'key', code: ALT_GRAPH, extended: false };
    this.#down.set('AltRight', down);
    this.#send('down', down);
  }

  #settleControl(real: boolean): void {
    clearTimeout(this.#waitingControl);
    this.#waitingControl = undefined;
    if (!real || this.limited) return;
    const down: Down = { kind: 'key', code: CONTROL, extended: false };
    this.#down.set('ControlLeft', down);
    this.#send('down', down);
  }

  #meaning(event: KeyPress): Down | null {
    const { key, code } = event;
    const printable = [...key].length === 1 && key >= ' ';
    const combined = (event.ctrlKey || event.altKey || event.metaKey) && !event.altGraph;
    if (this.limited) return this.#limited(event, printable, combined);
    if (this.mode === 'text' && printable && !combined && key.length === 1 && code !== 'Space') return { kind: 'unicode', unit: key.charCodeAt(0) };
    // A shortcut is known by its letter, wherever this keyboard has it.
    if (this.mode === 'text' && combined && /^[a-z0-9]$/i.test(key)) return { kind: 'key', code: key.toUpperCase().charCodeAt(0), extended: false };
    const place = this.#place(code);
    if (place) return place;
    return printable && key.length === 1 ? { kind: 'unicode', unit: key.charCodeAt(0) } : null;
  }

  /** Letters, digits, Enter and Backspace only (tunnel-protocols §4.7). */
  #limited(event: KeyPress, printable: boolean, combined: boolean): Down | null {
    if (combined) return null;
    if (printable && event.key.length === 1) return { kind: 'unicode', unit: event.key.charCodeAt(0) };
    return event.code === 'Enter' || event.code === 'NumpadEnter' || event.code === 'Backspace' ? this.#place(event.code) : null;
  }

  #place(code: string): Down | null {
    const number = placeCode(code);
    return number ? { kind: 'key', code: number, extended: this.windows && EXTENDED.has(code) } : null;
  }

  #send(action: KeyAction, down: Down): void {
    if (down.kind === 'key') this.sink.key(action, down.code, down.extended);
    else this.sink.unicode(action, down.unit);
  }
}
