import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import * as commands from '../src/desktop/commands';
import { FrameReader, LARGEST_PICTURE, type DesktopMessage } from '../src/desktop/frames';
import { Keyboard, placeCode } from '../src/desktop/keys';
import { imageSize, imageType, MOST_BYTES, PictureQueue } from '../src/desktop/pictures';
import { deviceAt, Mouse, MOVE_MS, TouchGestures } from '../src/desktop/pointer';

const bytes = (hex: string): Uint8Array<ArrayBuffer> => Uint8Array.from(hex.match(/[0-9a-f]{2}/gi) ?? [], (pair) => Number.parseInt(pair, 16));
const hex = (data: Uint8Array): string => Array.from(data, (byte) => byte.toString(16).padStart(2, '0')).join('').toUpperCase();
const read = (text: string): DesktopMessage | null => new FrameReader().read(bytes(text));

describe('what a device sends, as captured (tunnel-protocols §4.9)', () => {
  it('reads the screen, displays, key state and cursor', () => {
    expect(read('0007000803E802BC')).toEqual({ kind: 'screen', width: 1000, height: 700 });
    expect(read('000C000500')).toEqual({ kind: 'display', id: 0 });
    expect(read('000C0006FFFF')).toEqual({ kind: 'display', id: 65535 });
    expect(read('0012000504')).toEqual({ kind: 'keyState', num: false, scroll: false, caps: true });
    expect(read('000B000A000100000000')).toEqual({ kind: 'displays', ids: [0], chosen: 0 });
    expect(read('000B000800000000')).toEqual({ kind: 'displays', ids: [], chosen: 0 });
    expect(read('005800050E')).toEqual({ kind: 'cursor', index: 14 });
    expect(read('00520018 0001 FFF6 0005 0320 0258 0002 0316 0000 0320 0258'.replaceAll(' ', ''))).toMatchObject({ kind: 'layout', displays: [{ id: 1, x: -10, y: 5, width: 800, height: 600 }, { id: 2, x: 790 }] });
  });

  it('reads a picture, and a jumbo one as the same', () => {
    expect(read('0003000E01000080FFD8FFE00102')).toMatchObject({ kind: 'picture', x: 256, y: 128 });
    const image = new Uint8Array(70_000).fill(7);
    image.set([0xff, 0xd8, 0xff]);
    const frame = new Uint8Array(16 + image.length);
    const view = new DataView(frame.buffer);
    view.setUint16(0, 27);
    view.setUint16(2, 8);
    view.setUint32(4, 8 + image.length);
    view.setUint16(8, 3);
    view.setUint16(12, 640);
    view.setUint16(14, 480);
    frame.set(image, 16);
    const whole = new FrameReader().read(frame);
    expect(whole).toMatchObject({ kind: 'picture', x: 640, y: 480 });
    expect(whole?.kind === 'picture' && whole.image.length).toBe(70_000);
    // The same, cut by the transport.
    const reader = new FrameReader();
    expect(reader.read(frame.subarray(0, 20_000))).toBeNull();
    expect(reader.read(frame.subarray(20_000, 60_000))).toBeNull();
    expect(reader.read(frame.subarray(60_000))).toEqual(whole);
    expect(reader.read(bytes('0007000803E802BC'))).toMatchObject({ kind: 'screen' });
  });

  it('is not led astray by broken messages', () => {
    for (const bad of ['', '00', '000300', '00030008', '0007000800000000', '000B000800FF0000', '001B0008FFFFFFFF', '001B00080000000C001B0000', 'FFFFFFFF']) expect(read(bad)).toBeNull();
    // An alert shorter than it says must not swallow the next message.
    const reader = new FrameReader();
    expect(reader.read(bytes('0041000A48656C6C'))).toEqual({ kind: 'words', words: 'Hell', quiet: false });
    expect(reader.read(bytes('0012000500'))).toMatchObject({ kind: 'keyState' });
    // A screen that no canvas could be made for is refused with words, and the picture stays as it is.
    expect(read('00070008FFFFFFFF')).toMatchObject({ kind: 'words', quiet: false, words: expect.stringContaining('65535 × 65535') as string });
    expect(read('000700081E0010E0')).toEqual({ kind: 'screen', width: 7680, height: 4320 });
    // A size beyond any picture is not waited for.
    const huge = bytes('001B00080000000000030000000000');
    new DataView(huge.buffer).setUint32(4, LARGEST_PICTURE + 1);
    expect(reader.read(huge)).toBeNull();
    expect(reader.read(bytes('0012000500'))).toMatchObject({ kind: 'keyState' });
  });
});

describe('what a viewer sends', () => {
  it('is byte for byte what agents were seen to take', () => {
    expect(hex(commands.encoding({ quality: 50, scale: 100, pause: 100 }))).toBe('0005000A013204000064');
    expect(hex(commands.pause(false))).toBe('0008000500');
    expect(hex(commands.refresh())).toBe('00060004');
    expect(hex(commands.askDisplays())).toBe('000B0004');
    expect(hex(commands.askTouch())).toBe('000E0004');
    expect(hex(commands.inputLock('ask'))).toBe('0057000502');
    expect(hex(commands.mouse(200, 200))).toBe('0002000A000000C800C8');
    expect(hex(commands.mouse(200, 200, commands.Button.Left))).toBe('0002000A000200C800C8');
    expect(hex(commands.mouse(200, 200, commands.Button.Left * 2))).toBe('0002000A000400C800C8');
    expect(hex(commands.wheel(200, 200, 120))).toBe('0002000C000000C800C80078');
    expect(hex(commands.wheel(200, 200, -120))).toBe('0002000C000000C800C8FF88');
    expect(hex(commands.key('down', 20))).toBe('000100060014');
    expect(hex(commands.key('up', 20))).toBe('000100060114');
    expect(hex(commands.key('down', 39, true))).toBe('000100060427');
    expect(hex(commands.key('up', 39, true))).toBe('000100060327');
    expect(hex(commands.unicode('down', 65))).toBe('00550007000041');
    expect(hex(commands.setDisplay(65535))).toBe('000C0006FFFF');
  });
});

const jpeg = (width: number, height: number, length = 64): Uint8Array<ArrayBuffer> => {
  const image = new Uint8Array(length);
  image.set([0xff, 0xd8, 0xff, 0xe0, 0, 4, 1, 2, 0xff, 0xc0, 0, 17, 8, height >> 8, height & 255, width >> 8, width & 255]);
  return image;
};

describe('pictures', () => {
  let drawn: string[];
  let released: string[];
  let decodes: { name: string; done: (name: string) => void; fail: () => void }[];
  let lost: number;
  let queue: PictureQueue<string>;
  beforeEach(() => {
    drawn = [];
    released = [];
    decodes = [];
    lost = 0;
    queue = new PictureQueue<string>({
      surface: {
        resize: (width, height) => drawn.push(`size ${width}x${height}`),
        draw: (picture, x, y) => drawn.push(`${picture}@${x},${y}`),
        copy: (fromX, fromY, width, height, x, y) => drawn.push(`copy ${fromX},${fromY} ${width}x${height} to ${x},${y}`),
      },
      decode: (image) => new Promise((done, fail) => decodes.push({ name: String(image.at(-1)), done, fail: () => fail(new Error('broken')) })),
      release: (picture) => released.push(picture),
      onLost: () => (lost += 1),
      onDrawn: () => undefined,
    });
  });
  const named = (name: number, width = 32, height = 32, length = 64): Uint8Array<ArrayBuffer> => {
    const image = jpeg(width, height, length);
    image[length - 1] = name;
    return image;
  };
  const settle = () => new Promise((done) => setTimeout(done));

  it('finds type and size of a picture by its own first bytes', () => {
    expect(imageType(jpeg(100, 50))).toBe('image/jpeg');
    expect(imageSize(jpeg(1000, 700), 'image/jpeg')).toEqual({ width: 1000, height: 700 });
    expect(imageType(bytes('89504E470D0A1A0A'))).toBe('image/png');
    expect(imageType(bytes('524946460000000057454250'))).toBe('image/webp');
    expect(imageType(bytes('3C68746D6C3E'))).toBe('');
    expect(imageSize(bytes('FFD8FFE0FFFF'), 'image/jpeg')).toBeNull();
  });

  it('decodes no tile that would unpack to more than a screen', () => {
    queue.resize(100, 100);
    queue.add(0, 0, jpeg(65535, 65535));
    expect([decodes.length, queue.dropped]).toEqual([0, 1]);
    queue.add(0, 0, jpeg(7680, 4320));
    expect(decodes.length).toBe(1);
  });

  it('draws in order of arrival, whatever the order of decoding, copies in between', async () => {
    queue.resize(100, 100);
    queue.add(0, 0, named(1));
    queue.copy(0, 0, 32, 32, 64, 64);
    queue.add(32, 0, named(2));
    decodes[1]?.done('two');
    await settle();
    expect(drawn).toEqual(['size 100x100']);
    decodes[0]?.done('one');
    await settle();
    expect(drawn).toEqual(['size 100x100', 'one@0,0', 'copy 0,0 32x32 to 64,64', 'two@32,0']);
    expect(released).toEqual(['one', 'two']);
  });

  it('leaves a broken picture out and goes on', async () => {
    queue.add(0, 0, named(1));
    queue.add(0, 0, named(2));
    decodes[0]?.fail();
    decodes[1]?.done('two');
    await settle();
    expect(drawn).toEqual(['two@0,0']);
  });

  it('drops what a later picture covers, but nothing that a copy still reads', async () => {
    for (let n = 0; n < 4; n += 1) queue.add(0, 0, named(n, 8, 8));
    queue.add(0, 0, named(10));
    queue.add(64, 0, named(11));
    queue.add(0, 0, named(12, 64, 64));
    expect(queue.dropped).toBe(1);
    queue.copy(0, 0, 8, 8, 8, 8);
    queue.add(0, 0, named(13, 640, 640));
    expect(queue.dropped).toBe(1);
  });

  it('forgets pictures of the old size', async () => {
    queue.add(0, 0, named(1));
    queue.resize(10, 10);
    decodes[0]?.done('old');
    await settle();
    expect(drawn).toEqual(['size 10x10']);
    expect(released).toEqual(['old']);
  });

  it('drops everything when too much waits, and asks for the screen again once', async () => {
    for (let n = 0; n < 5; n += 1) queue.add(n * 32, 0, named(n, 32, 32, MOST_BYTES / 5));
    queue.add(500, 0, named(9));
    expect(lost).toBe(0);
    queue.add(600, 0, named(10));
    for (const one of decodes.slice()) one.done(one.name);
    await settle();
    expect(lost).toBe(1);
    expect(drawn).toEqual([]);
    queue.add(0, 0, named(11));
    decodes.at(-1)?.done('fresh');
    await settle();
    expect(drawn).toEqual(['fresh@0,0']);
  });
});

describe('keys', () => {
  let sent: string[];
  const sink = {
    key: (action: string, code: number, extended: boolean) => sent.push(`${action} ${code}${extended ? 'x' : ''}`),
    unicode: (action: string, unit: number) => sent.push(`${action} '${String.fromCharCode(unit)}'`),
  };
  const press = (code: string, key: string, more: Partial<Parameters<Keyboard['press']>[0]> = {}) => ({ code, key, ctrlKey: false, altKey: false, metaKey: false, altGraph: false, ...more });
  beforeEach(() => (sent = []));

  it('knows places', () => {
    expect([placeCode('KeyA'), placeCode('Digit7'), placeCode('F12'), placeCode('Numpad3'), placeCode('Semicolon'), placeCode('Fn')]).toEqual([65, 55, 123, 99, 186, 0]);
  });

  it('sends characters as characters, the rest and shortcuts as keys', () => {
    const keyboard = new Keyboard(sink, true);
    keyboard.press(press('KeyQ', 'é'));
    keyboard.release({ code: 'KeyQ' });
    keyboard.press(press('Enter', 'Enter'));
    keyboard.release({ code: 'Enter' });
    keyboard.press(press('ArrowLeft', 'ArrowLeft'));
    keyboard.release({ code: 'ArrowLeft' });
    // Ctrl+A on a keyboard that has A where Q is elsewhere.
    keyboard.press(press('KeyQ', 'a', { ctrlKey: true }));
    keyboard.release({ code: 'KeyQ' });
    expect(sent).toEqual(["down 'é'", "up 'é'", 'down 13', 'up 13', 'down 37x', 'up 37x', 'down 65', 'up 65']);
  });

  it('sends places in the other mode, and no second set to others than Windows', () => {
    const keyboard = new Keyboard(sink, false, 'keys');
    keyboard.press(press('KeyQ', 'a'));
    keyboard.release({ code: 'KeyQ' });
    keyboard.press(press('ArrowLeft', 'ArrowLeft'));
    expect(sent).toEqual(['down 81', 'up 81', 'down 37']);
  });

  it('types what AltGr makes', () => {
    const keyboard = new Keyboard(sink, true);
    keyboard.press(press('AltRight', 'AltGraph', { ctrlKey: true, altKey: true, altGraph: true }));
    keyboard.press(press('KeyE', '€', { ctrlKey: true, altKey: true, altGraph: true }));
    keyboard.release({ code: 'KeyE' });
    keyboard.release({ code: 'AltRight' });
    expect(sent).toEqual(["down '€'", "up '€'"]);
  });

  it('lets go of everything when the page loses the keyboard, and once only', () => {
    const keyboard = new Keyboard(sink, true);
    keyboard.press(press('ShiftLeft', 'Shift'));
    keyboard.press(press('KeyA', 'A'));
    keyboard.releaseAll();
    expect(sent).toEqual(['down 16', "down 'A'", "up 'A'", 'up 16']);
    keyboard.releaseAll();
    expect(keyboard.release({ code: 'KeyA' })).toBe(false);
    expect(sent).toHaveLength(4);
  });

  it('ends the old character when a held key changes its meaning', () => {
    const keyboard = new Keyboard(sink, true);
    keyboard.press(press('KeyA', 'A'));
    keyboard.press(press('KeyA', 'a'));
    keyboard.release({ code: 'KeyA' });
    expect(sent).toEqual(["down 'A'", "up 'A'", "down 'a'", "up 'a'"]);
  });

  it('leaves dead keys and composing to the browser', () => {
    const keyboard = new Keyboard(sink, true);
    expect(keyboard.press(press('BracketLeft', 'Dead'))).toBe(false);
    expect(keyboard.press(press('KeyA', 'a', { isComposing: true }))).toBe(false);
    expect(sent).toEqual([]);
  });

  it('keeps to letters when more is not allowed', () => {
    const keyboard = new Keyboard(sink, true, 'text', true);
    keyboard.press(press('KeyA', 'a'));
    keyboard.press(press('KeyR', 'r', { ctrlKey: true }));
    keyboard.press(press('F5', 'F5'));
    keyboard.chord(['AltLeft', 'F4']);
    expect(sent).toEqual(["down 'a'"]);
  });

  it('presses chords in order and lets go in reverse; types texts with their line ends', () => {
    const keyboard = new Keyboard(sink, true);
    keyboard.chord(['AltLeft', 'Tab']);
    keyboard.type('a\r\nü');
    expect(sent).toEqual(['down 18', 'down 9', 'up 9', 'up 18', "down 'a'", "up 'a'", 'down 13', 'up 13', "down 'ü'", "up 'ü'"]);
  });
});

describe('pointer', () => {
  let sent: string[];
  let mouse: Mouse;
  beforeEach(() => {
    vi.useFakeTimers();
    sent = [];
    mouse = new Mouse({ mouse: (x, y, buttons) => sent.push(`${x},${y} ${buttons}`), wheel: (x, y, delta) => sent.push(`${x},${y} wheel ${delta}`) });
  });
  afterEach(() => vi.useRealTimers());

  it('finds the device’s pixel under a point, never outside', () => {
    const picture = { left: 10, top: 20, width: 500, height: 350, pixelsWide: 1000, pixelsHigh: 700 };
    expect(deviceAt(picture, 10, 20)).toEqual({ x: 0, y: 0 });
    expect(deviceAt(picture, 260, 195)).toEqual({ x: 500, y: 350 });
    expect(deviceAt(picture, 510, 370)).toEqual({ x: 999, y: 699 });
    expect(deviceAt(picture, -50, 9999)).toEqual({ x: 0, y: 699 });
  });

  it('spares moves, but sends the last one before a button', () => {
    for (let x = 0; x < 50; x += 1) mouse.move({ x, y: 1 });
    expect(sent).toEqual([]);
    vi.advanceTimersByTime(MOVE_MS);
    expect(sent).toEqual(['49,1 0']);
    mouse.move({ x: 60, y: 2 });
    mouse.press({ x: 61, y: 2 }, 0);
    mouse.release({ x: 61, y: 2 }, 0);
    expect(sent.slice(1)).toEqual(['61,2 0', '61,2 2', '61,2 4']);
  });

  it('lets go of held buttons, and of none twice', () => {
    mouse.press({ x: 5, y: 5 }, 2);
    mouse.releaseAll();
    mouse.release({ x: 5, y: 5 }, 2);
    expect(sent).toEqual(['5,5 0', '5,5 8', '5,5 16']);
  });

  it('adds small turns up to notches', () => {
    for (let n = 0; n < 4; n += 1) mouse.turn({ x: 0, y: 0 }, 30, 0);
    mouse.turn({ x: 0, y: 0 }, -100, 0);
    expect(sent).toEqual(['0,0 0', '0,0 wheel -120', '0,0 wheel 120']);
  });

  describe('by touch', () => {
    let larger = false;
    let view: string[];
    let touch: TouchGestures;
    beforeEach(() => {
      view = [];
      larger = false;
      touch = new TouchGestures({ toDevice: ({ x, y }) => ({ x, y }), mouse, larger: () => larger, pan: (dx, dy) => view.push(`pan ${dx},${dy}`), zoom: (factor) => view.push(`zoom ${factor.toFixed(2)}`) });
    });
    it('clicks on a tap', () => {
      touch.down({ id: 1, x: 40, y: 50 });
      touch.up({ id: 1, x: 41, y: 50 });
      expect(sent).toEqual(['40,50 0', '40,50 2', '40,50 4']);
    });
    it('clicks right on a long press, drags when it moves then', () => {
      touch.down({ id: 1, x: 40, y: 50 });
      vi.advanceTimersByTime(600);
      touch.up({ id: 1, x: 40, y: 50 });
      expect(sent).toEqual(['40,50 0', '40,50 8', '40,50 16']);
      sent = [];
      touch.down({ id: 2, x: 40, y: 50 });
      vi.advanceTimersByTime(600);
      touch.move({ id: 2, x: 90, y: 50 });
      touch.up({ id: 2, x: 95, y: 50 });
      expect(sent).toEqual(['40,50 2', '95,50 0', '95,50 4']);
    });
    it('moves the view where it is larger than its frame, else the pointer', () => {
      larger = true;
      touch.down({ id: 1, x: 0, y: 0 });
      touch.move({ id: 1, x: 20, y: 5 });
      touch.up({ id: 1, x: 20, y: 5 });
      expect(view).toEqual(['pan 20,5']);
      expect(sent).toEqual([]);
    });
    it('zooms and scrolls with two fingers', () => {
      touch.down({ id: 1, x: 0, y: 0 });
      touch.down({ id: 2, x: 100, y: 0 });
      touch.move({ id: 2, x: 200, y: 0 });
      expect(view[0]).toBe('zoom 2.00');
      touch.up({ id: 1, x: 0, y: 0 });
      touch.up({ id: 2, x: 200, y: 0 });
      expect(sent).toEqual([]);
      touch.down({ id: 1, x: 0, y: 0 });
      touch.down({ id: 2, x: 100, y: 0 });
      for (let y = 10; y <= 60; y += 10) {
        touch.move({ id: 1, x: 0, y });
        touch.move({ id: 2, x: 100, y });
      }
      expect(sent.filter((one) => one.includes('wheel'))).toEqual(['50,0 wheel 120', '50,0 wheel 120']);
    });
  });
});
