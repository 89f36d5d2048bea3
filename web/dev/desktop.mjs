// The far end of the mock's desktop: a picture with windows, drawn as PNG tiles, that shows where it was clicked and what was typed.
import { crc32, deflateSync } from 'node:zlib';

const WIDTH = 1280, HEIGHT = 800, TILE = 320;

function chunk(type, data) {
  const body = Buffer.concat([Buffer.from(type), data]);
  const length = Buffer.alloc(4), sum = Buffer.alloc(4);
  length.writeUInt32BE(data.length);
  sum.writeUInt32BE(crc32(body));
  return Buffer.concat([length, body, sum]);
}

function png(pixels, stride, x, y, width, height) {
  const head = Buffer.alloc(13);
  head.writeUInt32BE(width, 0);
  head.writeUInt32BE(height, 4);
  head.set([8, 2, 0, 0, 0], 8);
  const rows = Buffer.alloc((width * 3 + 1) * height);
  for (let row = 0; row < height; row += 1) pixels.copy(rows, row * (width * 3 + 1) + 1, ((y + row) * stride + x) * 3, ((y + row) * stride + x + width) * 3);
  return Buffer.concat([Buffer.from([0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10]), chunk('IHDR', head), chunk('IDAT', deflateSync(rows, { level: 1 })), chunk('IEND', Buffer.alloc(0))]);
}

/** @param {{consent?: 'grant' | 'deny', received?: Buffer[]}} options `received` keeps every command the viewer sent. */
export function desktop(socket, { consent, received = [] } = {}) {
  const pixels = Buffer.alloc(WIDTH * HEIGHT * 3);
  const say = (message) => socket.send(JSON.stringify({ ctrlChannel: '102938', ...message }));
  const send = (number, ...payload) => {
    const body = Buffer.concat(payload);
    const frame = Buffer.alloc(4 + body.length);
    frame.writeUInt16BE(number, 0);
    frame.writeUInt16BE(frame.length & 0xffff, 2);
    body.copy(frame, 4);
    socket.send(frame);
  };
  const u16 = (...values) => {
    const data = Buffer.alloc(values.length * 2);
    values.forEach((value, n) => data.writeUInt16BE(value, n * 2));
    return data;
  };
  function fill(x, y, width, height, [r, g, b]) {
    for (let row = Math.max(0, y); row < Math.min(HEIGHT, y + height); row += 1)
      for (let column = Math.max(0, x); column < Math.min(WIDTH, x + width); column += 1) pixels.set([r, g, b], (row * WIDTH + column) * 3);
  }
  function picture(x, y, width, height) {
    const image = png(pixels, WIDTH, x, y, Math.min(width, WIDTH - x), Math.min(height, HEIGHT - y));
    if (image.length <= 65500) return send(3, u16(x, y), image);
    const head = Buffer.alloc(16);
    head.writeUInt16BE(27, 0);
    head.writeUInt16BE(8, 2);
    head.writeUInt32BE(8 + image.length, 4);
    head.writeUInt16BE(3, 8);
    head.writeUInt16BE(x, 12);
    head.writeUInt16BE(y, 14);
    socket.send(Buffer.concat([head, image]));
  }
  function draw() {
    for (let y = 0; y < HEIGHT; y += 1) for (let x = 0; x < WIDTH; x += 1) pixels.set([18 + (y >> 5), 52 + (y >> 4), 84 + (x >> 5)], (y * WIDTH + x) * 3);
    fill(0, HEIGHT - 44, WIDTH, 44, [24, 28, 36]);
    for (let n = 0; n < 5; n += 1) fill(16 + n * 52, HEIGHT - 36, 28, 28, [90 + n * 30, 150 - n * 12, 200 - n * 24]);
    fill(160, 90, 620, 420, [236, 238, 241]);
    fill(160, 90, 620, 32, [58, 110, 165]);
    for (let n = 0; n < 14; n += 1) fill(184, 146 + n * 24, 180 + ((n * 97) % 360), 10, [150, 160, 170]);
    fill(700, 300, 420, 300, [20, 22, 26]);
    fill(700, 300, 420, 28, [70, 74, 82]);
    for (let n = 0; n < 8; n += 1) fill(716, 346 + n * 22, 90 + ((n * 61) % 240), 8, [90, 200, 130]);
  }
  const whole = () => {
    for (let y = 0; y < HEIGHT; y += TILE) for (let x = 0; x < WIDTH; x += TILE) picture(x, y, TILE, TILE);
  };
  function screen() {
    send(7, u16(WIDTH, HEIGHT));
  }
  let typed = 0, timer;
  function begin() {
    draw();
    say({ type: 'metadata', users: { 'user//admin': 1 } });
    screen();
    send(12, Buffer.from([0]));
    send(18, Buffer.from([1]));
    send(11, u16(3, 1, 2, 65535, 1));
    screen();
    send(88, Buffer.from([0]));
    whole();
    let turn = 0;
    timer = setInterval(() => {
      turn += 1;
      fill(WIDTH - 120, HEIGHT - 34, 100, 24, [40 + ((turn * 7) % 120), 90, 120]);
      picture(WIDTH - 128, HEIGHT - 40, 128, 40);
    }, 250);
  }
  socket.on('close', () => clearInterval(timer));
  socket.on('message', (data, binary) => {
    if (!binary) {
      const text = data.toString();
      if (text === '2') {
        if (!consent) return begin();
        say({ type: 'console', msg: 'Waiting for user to grant access...', msgid: 1 });
        setTimeout(() => {
          if (consent === 'grant') {
            say({ type: 'console', msg: null, msgid: 0 });
            begin();
          } else {
            say({ type: 'console', msg: 'Denied', msgid: 2 });
            socket.close();
          }
        }, 800);
      } else if (text.includes('"rtt"')) socket.send(text);
      return;
    }
    const frame = Buffer.from(data);
    received.push(frame);
    const command = frame.readUInt16BE(0);
    if (command === 6) {
      screen();
      whole();
    } else if (command === 12) send(11, u16(3, 1, 2, 65535, frame.readUInt16BE(4)));
    else if (command === 2 && [2, 8].includes(frame[5])) {
      const x = frame.readUInt16BE(6), y = frame.readUInt16BE(8);
      fill(x - 6, y - 6, 12, 12, frame[5] === 2 ? [230, 70, 60] : [240, 190, 60]);
      picture(Math.max(0, x - 8), Math.max(0, y - 8), 16, 16);
    } else if ((command === 85 || command === 1) && frame[4] === 0) {
      fill(184 + (typed % 40) * 14, 486, 10, 14, [30, 60, 200]);
      typed += 1;
      picture(160, 480, 640, 24);
    }
  });
}
