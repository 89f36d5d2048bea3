/**
 * The pointer from the page to the device: places scaled from the shown picture to the device's pixels, moves spared,
 * and buttons that are let go whatever happens. `TouchGestures` makes the same out of fingers.
 */
import { Button } from './commands';

export interface PointerSink {
  mouse(x: number, y: number, buttons: number): void;
  wheel(x: number, y: number, delta: number): void;
}

/** The picture on the page, in CSS pixels, and the device's pixels that it shows. */
export interface Picture {
  left: number;
  top: number;
  width: number;
  height: number;
  pixelsWide: number;
  pixelsHigh: number;
}

/** A move waits this long for a later one (tunnel-protocols §12: 20 to 50 ms). */
export const MOVE_MS = 25;
/** A notch of the wheel, as Windows counts it. */
const NOTCH = 120;
/** CSS pixels of a notch where the wheel counts in pixels. */
const NOTCH_PIXELS = 100;

export interface Point {
  x: number;
  y: number;
}

/** The device's pixel under a point of the page, kept inside the screen. */
export function deviceAt(picture: Picture, clientX: number, clientY: number): Point {
  const along = (at: number, size: number, pixels: number): number => Math.max(0, Math.min(pixels - 1, Math.floor((at * pixels) / Math.max(1, size))));
  return { x: along(clientX - picture.left, picture.width, picture.pixelsWide), y: along(clientY - picture.top, picture.height, picture.pixelsHigh) };
}

export class Mouse {
  #at: Point = { x: 0, y: 0 };
  #told: Point = { x: -1, y: -1 };
  #timer: ReturnType<typeof setTimeout> | undefined;
  #down = new Set<number>();
  #turned = 0;

  constructor(
    private readonly sink: PointerSink,
    /** Left and right change places. */
    public swapped = false,
    public reversedWheel = false,
  ) {}

  get at(): Point {
    return this.#at;
  }

  move(to: Point): void {
    this.#at = to;
    this.#timer ??= setTimeout(() => this.#flush(), MOVE_MS);
  }

  /** `button` as the browser counts: 0 left, 1 middle, 2 right. Others do not exist on the wire. */
  press(to: Point, button: number): void {
    const bit = this.#bit(button);
    if (!bit) return;
    this.#at = to;
    this.#flush();
    this.#down.add(bit);
    this.sink.mouse(to.x, to.y, bit);
  }

  release(to: Point, button: number): void {
    const bit = this.#bit(button);
    if (!bit || !this.#down.delete(bit)) return;
    this.#at = to;
    this.#flush();
    this.sink.mouse(to.x, to.y, bit * 2);
  }

  /** A wheel event's `deltaY` and `deltaMode`; small turns add up to whole notches. */
  turn(to: Point, deltaY: number, mode: number): void {
    this.#at = to;
    this.#flush();
    const notches = mode === 0 ? deltaY / NOTCH_PIXELS : mode === 1 ? deltaY / 3 : deltaY;
    // A turn the other way starts afresh: the rest of the old one must not hold it back.
    if (Math.sign(notches) !== Math.sign(this.#turned)) this.#turned = 0;
    this.#turned += notches;
    const whole = Math.trunc(this.#turned);
    if (whole === 0) return;
    this.#turned -= whole;
    // Agents on Linux count messages, not amounts: one message for each notch.
    for (let n = 0; n < Math.min(10, Math.abs(whole)); n += 1) this.sink.wheel(to.x, to.y, (whole < 0 ? NOTCH : -NOTCH) * (this.reversedWheel ? -1 : 1));
  }

  releaseAll(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    for (const bit of this.#down) this.sink.mouse(this.#at.x, this.#at.y, bit * 2);
    this.#down.clear();
  }

  /** A move that still waits goes out before anything else does. */
  #flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const { x, y } = this.#at;
    if (x === this.#told.x && y === this.#told.y) return;
    this.#told = { x, y };
    this.sink.mouse(x, y, 0);
  }

  #bit(button: number): number {
    const wanted = this.swapped && button !== 1 ? 2 - button : button;
    return wanted === 0 ? Button.Left : wanted === 1 ? Button.Middle : wanted === 2 ? Button.Right : 0;
  }
}

/** Where a finger is, in CSS pixels of the page. */
export interface Finger extends Point {
  id: number;
}

export interface GestureSink {
  /** A place of the page as the device's pixel. */
  toDevice(at: Point): Point;
  mouse: Mouse;
  /** True when the picture is larger than its frame, so that a finger moves the view instead of the pointer. */
  larger(): boolean;
  pan(dx: number, dy: number): void;
  /** Grows the picture by `factor` around a place. */
  zoom(factor: number, around: Point): void;
}

const LONG_PRESS_MS = 500;
/** A finger that moved less than this has not moved. */
const SLOP = 10;
/** How far two fingers must move together for one notch of the wheel. */
const SCROLL_STEP = 24;
/** Their distance must change by this share before it counts as zooming. */
const PINCH_SHARE = 0.12;

type Gesture =
  | { kind: 'none' }
  /** One finger is down and has not moved yet. */
  | { kind: 'touching'; start: Point }
  | { kind: 'moving'; last: Point }
  /** Held long: lifting means a right click, moving a drag. */
  | { kind: 'held'; start: Point }
  | { kind: 'dragging' }
  | { kind: 'two'; startMiddle: Point; middle: Point; startSpan: number; span: number; mode: 'open' | 'pinch' | 'scroll'; moved: boolean }
  /** What was meant is done; nothing counts until all fingers are gone. */
  | { kind: 'over' };

/**
 * Tap: click. Long press: right click; long press and move: drag. One finger moves the pointer, or the view where the
 * picture is larger than its frame. Two fingers scroll or zoom; a tap of two is a right click.
 */
export class TouchGestures {
  #fingers = new Map<number, Finger>();
  #gesture: Gesture = { kind: 'none' };
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly sink: GestureSink) {}

  down(finger: Finger): void {
    this.#fingers.set(finger.id, finger);
    clearTimeout(this.#timer);
    const [first, second] = [...this.#fingers.values()];
    if (this.#gesture.kind === 'none' && first) {
      this.#gesture = { kind: 'touching', start: { x: first.x, y: first.y } };
      this.#timer = setTimeout(() => this.#hold(), LONG_PRESS_MS);
    } else if (second && first && this.#fingers.size === 2 && (this.#gesture.kind === 'touching' || this.#gesture.kind === 'moving')) {
      const middle = middleOf(first, second);
      const span = spanOf(first, second);
      this.#gesture = { kind: 'two', startMiddle: middle, middle, startSpan: span, span, mode: 'open', moved: false };
    }
  }

  move(finger: Finger): void {
    if (!this.#fingers.has(finger.id)) return;
    this.#fingers.set(finger.id, finger);
    const { sink } = this;
    const gesture = this.#gesture;
    switch (gesture.kind) {
      case 'touching':
        if (far(gesture.start, finger)) {
          clearTimeout(this.#timer);
          this.#gesture = { kind: 'moving', last: gesture.start };
          this.move(finger);
        }
        break;
      case 'moving':
        if (sink.larger()) sink.pan(finger.x - gesture.last.x, finger.y - gesture.last.y);
        else sink.mouse.move(sink.toDevice(finger));
        gesture.last = { x: finger.x, y: finger.y };
        break;
      case 'held':
        if (far(gesture.start, finger)) {
          sink.mouse.press(sink.toDevice(gesture.start), 0);
          this.#gesture = { kind: 'dragging' };
          this.move(finger);
        }
        break;
      case 'dragging':
        sink.mouse.move(sink.toDevice(finger));
        break;
      case 'two':
        this.#two(gesture);
        break;
    }
  }

  up(finger: Finger): void {
    if (!this.#fingers.delete(finger.id)) return;
    clearTimeout(this.#timer);
    const { sink } = this;
    const gesture = this.#gesture;
    if (gesture.kind === 'touching') this.#click(gesture.start, 0);
    else if (gesture.kind === 'held') this.#click(gesture.start, 2);
    else if (gesture.kind === 'dragging') sink.mouse.release(sink.toDevice(finger), 0);
    else if (gesture.kind === 'two' && !gesture.moved) this.#click(gesture.startMiddle, 2);
    this.#gesture = this.#fingers.size === 0 ? { kind: 'none' } : { kind: 'over' };
  }

  cancel(): void {
    clearTimeout(this.#timer);
    this.#fingers.clear();
    this.#gesture = { kind: 'none' };
    this.sink.mouse.releaseAll();
  }

  #hold(): void {
    if (this.#gesture.kind === 'touching') this.#gesture = { kind: 'held', start: this.#gesture.start };
  }

  #click(at: Point, button: number): void {
    const place = this.sink.toDevice(at);
    this.sink.mouse.press(place, button);
    this.sink.mouse.release(place, button);
  }

  #two(gesture: Extract<Gesture, { kind: 'two' }>): void {
    const [first, second] = [...this.#fingers.values()];
    if (!first || !second) return;
    const middle = middleOf(first, second);
    const span = spanOf(first, second);
    if (gesture.mode === 'open') {
      if (Math.abs(span / gesture.startSpan - 1) > PINCH_SHARE) gesture.mode = 'pinch';
      else if (far(gesture.startMiddle, middle)) gesture.mode = 'scroll';
      else return;
      gesture.moved = true;
    }
    if (gesture.mode === 'pinch') {
      this.sink.zoom(span / gesture.span, middle);
      this.sink.pan(middle.x - gesture.middle.x, middle.y - gesture.middle.y);
      gesture.span = span;
      gesture.middle = middle;
      return;
    }
    const steps = Math.trunc((middle.y - gesture.middle.y) / SCROLL_STEP);
    if (steps === 0) return;
    // Fingers that move down pull the content down, which is the wheel turned up.
    this.sink.mouse.turn(this.sink.toDevice(gesture.startMiddle), -steps, 2);
    gesture.middle = { x: middle.x, y: gesture.middle.y + steps * SCROLL_STEP };
  }
}

const middleOf = (a: Point, b: Point): Point => ({ x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 });
const spanOf = (a: Point, b: Point): number => Math.max(1, Math.hypot(a.x - b.x, a.y - b.y));
const far = (a: Point, b: Point): boolean => Math.hypot(a.x - b.x, a.y - b.y) > SLOP;
