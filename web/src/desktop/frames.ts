/** What a desktop agent sends (tunnel-protocols §4.1, §4.4), read from whole binary messages. Everything is hostile until read. */

import { remote } from '../text.remote';

export type DesktopMessage =
  | { kind: 'picture'; x: number; y: number; image: Uint8Array<ArrayBuffer> }
  | { kind: 'copy'; fromX: number; fromY: number; x: number; y: number; width: number; height: number }
  /** The size of the canvas, in pixels of the device. */
  | { kind: 'screen'; width: number; height: number }
  | { kind: 'displays'; ids: number[]; chosen: number }
  | { kind: 'display'; id: number }
  | { kind: 'layout'; displays: { id: number; x: number; y: number; width: number; height: number }[] }
  | { kind: 'touch'; ready: boolean }
  | { kind: 'touchReset' }
  | { kind: 'keyState'; num: boolean; scroll: boolean; caps: boolean }
  | { kind: 'inputLock'; locked: boolean }
  | { kind: 'cursor'; index: number }
  /** Words for the viewer; quiet ones are for the log alone. */
  | { kind: 'words'; words: string; quiet: boolean };

/** The id that means all displays together. */
export const ALL_DISPLAYS = 65535;
/** The largest picture taken; a full 8K screen as JPEG has a third of it. */
export const LARGEST_PICTURE = 64 * 1024 * 1024;
/** The most pixels of a screen, or of one picture: eight 4K displays. A canvas takes four bytes for each. */
export const MOST_PIXELS = 8 * 3840 * 2160;
const HEADER = 4;
const JUMBO_HEADER = 8;

const Command = { Picture: 3, Copy: 4, Screen: 7, Displays: 11, SetDisplay: 12, Touch: 14, TouchReset: 15, Message: 17, KeyState: 18, Jumbo: 27, Alert: 65, Layout: 82, InputLock: 87, Cursor: 88 } as const;

/** Puts messages together that a transport has cut, and reads them. One reader belongs to one tunnel. */
export class FrameReader {
  #pieces: Uint8Array[] = [];
  #held = 0;
  #wanted = 0;

  /** The command that this binary message completes; null when more is to come, or when it means nothing to a viewer. */
  read(frame: Uint8Array): DesktopMessage | null {
    if (this.#wanted > 0) return this.#more(frame);
    if (frame.length < HEADER) return null;
    const view = viewOf(frame);
    const command = view.getUint16(0);
    const size = command === Command.Jumbo && frame.length >= JUMBO_HEADER ? JUMBO_HEADER + view.getUint32(4) : view.getUint16(2);
    // Only pictures are ever cut. An alert that is shorter than it says (one Linux error path does that) must not
    // swallow what comes after it.
    if ((command === Command.Picture || command === Command.Jumbo) && frame.length < size) {
      if (size > LARGEST_PICTURE) return null;
      this.#wanted = size;
      return this.#more(frame);
    }
    return parse(frame);
  }

  #more(frame: Uint8Array): DesktopMessage | null {
    this.#pieces.push(frame);
    this.#held += frame.length;
    if (this.#held < this.#wanted) return null;
    const whole = new Uint8Array(this.#held);
    let at = 0;
    for (const piece of this.#pieces) {
      whole.set(piece, at);
      at += piece.length;
    }
    this.#pieces = [];
    this.#held = this.#wanted = 0;
    return parse(whole);
  }
}

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

function parse(frame: Uint8Array): DesktopMessage | null {
  if (frame.length > LARGEST_PICTURE) return null;
  const view = viewOf(frame);
  const u16 = (at: number): number => view.getUint16(at);
  const command = u16(0);
  /** At least this many bytes, or the command says nothing. */
  const has = (bytes: number): boolean => frame.length >= bytes;
  switch (command) {
    case Command.Jumbo:
      // Behind eight bytes lies a command of the usual kind whose size field is of no use.
      return has(JUMBO_HEADER + HEADER) && u16(JUMBO_HEADER) !== Command.Jumbo ? parse(frame.subarray(JUMBO_HEADER)) : null;
    case Command.Picture:
      return has(9) ? { kind: 'picture', x: u16(4), y: u16(6), image: frame.subarray(8) as Uint8Array<ArrayBuffer> } : null;
    case Command.Copy:
      return has(16) ? { kind: 'copy', fromX: u16(4), fromY: u16(6), x: u16(8), y: u16(10), width: u16(12), height: u16(14) } : null;
    case Command.Screen:
      if (has(8) && u16(4) * u16(6) > MOST_PIXELS) return { kind: 'words', words: remote.desktop.tooLarge(u16(4), u16(6)), quiet: false };
      return has(8) && u16(4) > 0 && u16(6) > 0 ? { kind: 'screen', width: u16(4), height: u16(6) } : null;
    case Command.Displays: {
      if (!has(8)) return null;
      const count = u16(4);
      if (!has(8 + 2 * count)) return null;
      return { kind: 'displays', ids: Array.from({ length: count }, (_, n) => u16(6 + 2 * n)), chosen: u16(6 + 2 * count) };
    }
    case Command.SetDisplay:
      return has(6) ? { kind: 'display', id: u16(4) } : has(5) ? { kind: 'display', id: view.getUint8(4) } : null;
    case Command.Layout: {
      const count = Math.floor((frame.length - HEADER) / 10);
      const one = (n: number) => {
        const at = HEADER + 10 * n;
        return { id: u16(at), x: view.getInt16(at + 2), y: view.getInt16(at + 4), width: u16(at + 6), height: u16(at + 8) };
      };
      return { kind: 'layout', displays: Array.from({ length: count }, (_, n) => one(n)) };
    }
    case Command.Touch:
      return has(6) ? { kind: 'touch', ready: u16(4) === 1 } : null;
    case Command.TouchReset:
      return { kind: 'touchReset' };
    case Command.KeyState: {
      if (!has(5)) return null;
      const bits = view.getUint8(4);
      return { kind: 'keyState', num: (bits & 1) !== 0, scroll: (bits & 2) !== 0, caps: (bits & 4) !== 0 };
    }
    case Command.InputLock:
      return has(5) ? { kind: 'inputLock', locked: view.getUint8(4) === 1 } : null;
    case Command.Cursor:
      return has(5) ? { kind: 'cursor', index: view.getUint8(4) } : null;
    case Command.Message:
    case Command.Alert: {
      const words = new TextDecoder().decode(frame.subarray(HEADER)).replace(/\0+$/, '').slice(0, 2000);
      const quiet = words.startsWith('.');
      return words ? { kind: 'words', words: quiet ? words.slice(1) : words, quiet } : null;
    }
    default:
      return null;
  }
}

/** The CSS cursor of each number (tunnel-protocols §4.4). */
const CURSORS = ['default', 'progress', 'crosshair', 'pointer', 'help', 'text', 'no-drop', 'move', 'nesw-resize', 'ns-resize', 'nwse-resize', 'w-resize', 'alias', 'wait', 'none', 'not-allowed', 'col-resize', 'row-resize', 'copy', 'zoom-in', 'zoom-out'] as const;

export const cursorName = (index: number): string => CURSORS[index] ?? 'default';
