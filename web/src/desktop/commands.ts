/** What a viewer sends to a desktop agent (tunnel-protocols §4.3), one command a message. Numbers are big endian. */

function command(number: number, size: number, fill: (view: DataView) => void = () => undefined): Uint8Array {
  const view = new DataView(new ArrayBuffer(size));
  view.setUint16(0, number);
  view.setUint16(2, size);
  fill(view);
  return new Uint8Array(view.buffer);
}

export type KeyAction = 'down' | 'up';
const PLAIN = { down: 0, up: 1 } as const;
const EXTENDED = { down: 4, up: 3 } as const;

/** A key by its Windows virtual key code; `extended` is for the second set of a Windows keyboard. */
export const key = (action: KeyAction, code: number, extended = false): Uint8Array =>
  command(1, 6, (view) => {
    view.setUint8(4, (extended ? EXTENDED : PLAIN)[action]);
    view.setUint8(5, code);
  });

/** One UTF-16 unit as a key. */
export const unicode = (action: KeyAction, unit: number): Uint8Array =>
  command(85, 7, (view) => {
    view.setUint8(4, PLAIN[action]);
    view.setUint16(5, unit);
  });

/** The button bits of a mouse message; going up is the same bit shifted by one. */
export const Button = { Left: 0x02, Right: 0x08, Middle: 0x20 } as const;

/** Moves the pointer, and presses or releases a button there. `x` and `y` are pixels of the device. */
export const mouse = (x: number, y: number, buttons = 0): Uint8Array =>
  command(2, 10, (view) => {
    view.setUint8(5, buttons);
    view.setUint16(6, x);
    view.setUint16(8, y);
  });

/** Turns the wheel: positive is away from the user, 120 is one notch. */
export const wheel = (x: number, y: number, delta: number): Uint8Array =>
  command(2, 12, (view) => {
    view.setUint16(6, x);
    view.setUint16(8, y);
    view.setInt16(10, Math.max(-32768, Math.min(32767, Math.round(delta))));
  });

export interface Encoding {
  /** 1 to 100. */
  quality: number;
  /** Percent of the device's pixels. */
  scale: number;
  /** The least milliseconds between two pictures: 20 to 5000. */
  pause: number;
}
const Image = { Jpeg: 1, WebP: 4 } as const;

export const encoding = ({ quality, scale, pause }: Encoding, webp = false): Uint8Array =>
  command(5, 10, (view) => {
    view.setUint8(4, webp ? Image.WebP : Image.Jpeg);
    view.setUint8(5, Math.max(1, Math.min(100, Math.round(quality))));
    view.setUint16(6, Math.max(64, Math.min(4096, Math.round((scale * 1024) / 100))));
    view.setUint16(8, Math.max(20, Math.min(5000, Math.round(pause))));
  });

/** Everything again, from the size of the screen on. */
export const refresh = (): Uint8Array => command(6, 4);
export const pause = (paused: boolean): Uint8Array => command(8, 5, (view) => view.setUint8(4, paused ? 1 : 0));
export const ctrlAltDel = (): Uint8Array => command(10, 4);
export const askDisplays = (): Uint8Array => command(11, 4);
export const setDisplay = (id: number): Uint8Array => command(12, 6, (view) => view.setUint16(4, id));
export const askTouch = (): Uint8Array => command(14, 4);
/** The device's own keyboard and mouse: locked, unlocked, or just asked. */
export const inputLock = (what: 'unlock' | 'lock' | 'ask'): Uint8Array => command(87, 5, (view) => view.setUint8(4, { unlock: 0, lock: 1, ask: 2 }[what]));
