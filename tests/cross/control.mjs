/** A server asked over its own protocol, without a library: pages, and one question over the control socket. */
import { randomBytes } from 'node:crypto';
import { request } from 'node:https';
import { brotliDecompressSync } from 'node:zlib';

/** Milliseconds without a word after which a page is given up. */
const PATIENCE = 20_000;

/** A page. `how` may have a method, headers and a body. */
export const fetchFrom = ({ host, port }, path, { body, ...how } = {}) =>
  new Promise((done, failed) => {
    const asked = request({ host, port, path, rejectUnauthorized: false, timeout: PATIENCE, ...how }, (answer) => {
      const parts = [];
      answer.on('data', (part) => parts.push(part)).on('error', failed);
      answer.on('end', () => {
        const sent = Buffer.concat(parts);
        const text = (answer.headers['content-encoding'] === 'br' ? brotliDecompressSync(sent) : sent).toString();
        done({ status: answer.statusCode, headers: answer.headers, body: text, bytes: sent });
      });
    });
    asked.on('timeout', () => asked.destroy(new Error(`no answer in ${(how.timeout ?? PATIENCE) / 1000} s`))).on('error', failed).end(body);
  });

/** A text as one masked frame (RFC 6455 §5.2). */
function frame(text) {
  const [data, mask] = [Buffer.from(text), randomBytes(4)];
  const head = data.length < 126 ? Buffer.from([0x81, 0x80 | data.length]) : Buffer.from([0x81, 0xfe, data.length >> 8, data.length & 255]);
  return Buffer.concat([head, mask, data.map((byte, at) => byte ^ mask[at % 4])]);
}

/** Takes whole frames off the front of `held`; gives their texts and what is left. */
function texts(held) {
  const found = [];
  while (held.length >= 2) {
    let [length, at] = [held[1] & 127, 2];
    if (length === 126) [length, at] = [held.length >= 4 ? held.readUInt16BE(2) : Infinity, 4];
    else if (length === 127) [length, at] = [held.length >= 10 ? Number(held.readBigUInt64BE(2)) : Infinity, 10];
    if (held.length < at + length) break;
    if ((held[0] & 15) === 1) found.push(held.subarray(at, at + length).toString());
    held = held.subarray(at + length);
  }
  return [found, held];
}

/**
 * A control session of an account with a name and a password. `ask` gives the answer to a message; `ended` is resolved when
 * the connection is gone, and whoever waits for an answer then hears so.
 */
export const openSession = ({ host, port }, account) =>
  new Promise((done, failed) => {
    const words = [account.name, account.password].map((word) => Buffer.from(word).toString('base64')).join(',');
    const headers = { 'x-meshauth': words, connection: 'Upgrade', upgrade: 'websocket', 'sec-websocket-version': 13, 'sec-websocket-key': randomBytes(16).toString('base64') };
    const asked = request({ host, port, path: '/control.ashx', headers, rejectUnauthorized: false, timeout: 60_000 });
    asked.on('timeout', () => asked.destroy(new Error('the control socket does not open')));
    asked.on('error', failed);
    asked.on('response', ({ statusCode }) => (asked.destroy(), failed(new Error(`the control socket answered ${statusCode}`))));
    asked.on('upgrade', (_, socket, first) => {
      socket.setTimeout(0);
      let held = first;
      let count = 0;
      const waiting = new Map();
      const take = () => {
        let found;
        [found, held] = texts(held);
        for (const text of found) {
          const reply = JSON.parse(text);
          for (const [id, { action, settle }] of waiting) {
            // Some answers do not carry the question's number.
            if (reply.action !== action || (reply.responseid ?? id) !== id) continue;
            waiting.delete(id);
            settle(null, reply);
            break;
          }
        }
      };
      const ended = new Promise((over) =>
        socket.on('close', () => {
          for (const { action, settle } of waiting.values()) settle(new Error(`the socket closed without an answer to ${action}`));
          over();
        }),
      );
      socket.on('data', (data) => ((held = Buffer.concat([held, data])), take())).on('error', () => undefined);
      take();
      const ask = (message) =>
        new Promise((answered, refused) => {
          const id = `ask${(count += 1)}`;
          const timer = setTimeout(() => (waiting.delete(id), refused(new Error(`no answer to ${message.action}`))), 60_000);
          const settle = (error, reply) => (clearTimeout(timer), error ? refused(error) : answered(reply));
          if (socket.destroyed) return settle(new Error('the socket is closed'));
          waiting.set(id, { action: message.action, settle });
          socket.write(frame(JSON.stringify({ ...message, responseid: id })));
        });
      done({ ask, ended, close: () => socket.destroy() });
    });
    asked.end();
  });

/** The answer to one message. */
export async function ask(here, account, message) {
  const session = await openSession(here, account);
  try {
    return await session.ask(message);
  } finally {
    session.close();
  }
}
