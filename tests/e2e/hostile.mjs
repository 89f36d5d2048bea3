/**
 * An agent that means harm: `hostile.mjs <kind> <server>`. Every loop is bounded; it says `working` when it has begun and
 * `result …` when it is done, then holds what the server still lets it hold until it is ended or a minute is over.
 */
import { randomBytes } from 'node:crypto';
import WebSocket from 'ws';

const [kind, server] = process.argv.slice(2);
const sockets = new Set();
const tally = new Map();
const count = (what) => tally.set(what, (tally.get(what) ?? 0) + 1);

/** A connection to the agents' door. `speak` is called when it is open. Resolves when it has opened or failed. */
function connect(speak) {
  return new Promise((resolve) => {
    const socket = new WebSocket(`wss://${server}/agent.ashx`, { rejectUnauthorized: false, handshakeTimeout: 3000, perMessageDeflate: false });
    sockets.add(socket);
    socket.on('open', () => {
      count('opened');
      speak?.(socket);
      resolve(socket);
    });
    socket.on('close', () => (sockets.delete(socket), count('closed'), resolve(socket)));
    socket.on('error', (error) => {
      count(`error ${error.code ?? error.message.slice(0, 40)}`);
      resolve(socket);
    });
  });
}

const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
/** Command 1 of an agent's handshake with a wrong TLS hash. */
const firstCommand = () => Buffer.concat([Buffer.from([0, 1]), randomBytes(96)]);

const kinds = {
  async oversized() {
    for (let n = 0; n < 20; n += 1) {
      await connect((socket) => {
        socket.send(Buffer.concat([Buffer.from([0, 2]), Buffer.alloc(2 << 20, 65)]));
        socket.send(JSON.stringify({ action: 'coreinfo', value: '<script>alert(1)</script>'.repeat(80_000) }));
      });
    }
    await pause(1000);
  },
  async malformed() {
    const messages = [
      Buffer.alloc(0), Buffer.from([0]), Buffer.from([0, 1]), firstCommand(), Buffer.concat([Buffer.from([0, 2, 255, 255]), randomBytes(40)]),
      Buffer.concat([Buffer.from([0, 3]), Buffer.alloc(200, 255)]), randomBytes(1000), '{', '{"action":', `${'['.repeat(20_000)}`, '{"action":"agentName","value":{"a":[]}}', Buffer.from([255, 255, 0, 0]),
    ];
    for (let n = 0; n < 100; n += 1) {
      const message = messages[n % messages.length];
      void connect((socket) => {
        socket.send(message);
        setTimeout(() => socket.terminate(), 1500 + (n % 10) * 100);
      });
      await pause(15);
    }
    await pause(2000);
  },
  async reconnects() {
    for (let n = 0; n < 200; n += 1) {
      const socket = await connect((open) => open.send(firstCommand()));
      socket.terminate();
    }
  },
  /** Opens and says nothing, or a byte now and then. */
  async endless() {
    const drip = setInterval(() => {
      for (const socket of sockets) if (socket.readyState === WebSocket.OPEN) socket.send(Buffer.from([0, 30, 65]));
    }, 500);
    for (let n = 0; n < 100; n += 1) {
      void connect();
      await pause(10);
    }
    await pause(3000);
    clearInterval(drip);
  },
};

setTimeout(() => process.exit(0), 60_000).unref();
console.log('working');
await kinds[kind]();
console.log(`result ${[...tally].map(([what, n]) => `${n} ${what}`).join(', ')}, ${[...sockets].filter((socket) => socket.readyState === WebSocket.OPEN).length} held`);
await pause(10_000);
process.exit(0);
