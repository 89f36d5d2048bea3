/**
 * A card with a cache that forgets: an NBD server (its fixed newstyle handshake, simple replies; the protocol's doc/proto.md) for
 * one emulator at a time. What has not been flushed when the emulator is gone without a goodbye is lost sector by sector, at
 * random but repeatably. Counts what is written. It can be made ill: then it refuses writes, or swallows them.
 */
import { closeSync, fstatSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { createServer } from 'node:net';

const SECTOR = 512;
const [OPT_EXPORT_NAME, OPT_ABORT, OPT_INFO, OPT_GO] = [1, 2, 6, 7];
const [READ, WRITE, GOODBYE, FLUSH, TRIM, ZEROES] = [0, 1, 2, 3, 4, 6];
/** NBD_FLAG_HAS_FLAGS, SEND_FLUSH, SEND_FUA, SEND_TRIM, SEND_WRITE_ZEROES. */
const FLAGS = 1 | 4 | 8 | 32 | 64;
const FUA = 1;
const [EIO, EINVAL] = [5, 22];
/** How much of what has not been flushed may have arrived all the same: a card writes in an order of its own. */
const KEPT = [0, 0.1, 0.5, 0.9];

/** Numbers between 0 and 1 that are the same for the same seed (mulberry32). */
export function dice(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export class ForgetfulCard {
  /** Serves `file` at the socket `path`; `chance` is `dice(seed)`. */
  constructor(file, path, chance) {
    Object.assign(this, { file: openSync(file, 'r+'), path, chance, pending: new Map(), written: 0, flushes: 0, lost: 0, atRisk: 0, cuts: 0 });
    this.size = fstatSync(this.file).size;
    rmSync(path, { force: true });
    this.server = createServer((socket) => this.#serve(socket)).listen(path);
    /** What becomes of a write: `(at, length)` in bytes to 'refused', 'swallowed' or null. */
    this.illness = () => null;
    /** What QEMU's `file=` takes. */
    this.address = `nbd+unix:///?socket=${path}`;
    this.served = Promise.resolve();
  }

  /**
   * Lets the power fail in the middle of writing: with the `nth` write from now the card hears and says no more. Gives whether
   * there was one within `milliseconds`; the emulator has to be killed then.
   */
  failAtWrite(nth, milliseconds) {
    return new Promise((done) => {
      const end = (blown) => (clearTimeout(timer), (this.fuse = null), done(blown));
      const timer = setTimeout(end, milliseconds, false);
      this.fuse = { left: nth, blow: () => ((this.blown = true), end(true)) };
    });
  }

  async close() {
    this.server.close();
    await this.served;
    closeSync(this.file);
  }

  #serve(socket) {
    let held = Buffer.alloc(0);
    this.blown = false;
    let state = this.#greeted;
    let goodbye = false;
    const reply = (...parts) => socket.write(Buffer.concat(parts));
    const greeting = Buffer.alloc(18);
    greeting.write('NBDMAGICIHAVEOPT', 'latin1');
    greeting.writeUInt16BE(3, 16);
    reply(greeting);
    socket.on('error', () => undefined);
    socket.on('data', (data) => {
      held = held.length ? Buffer.concat([held, data]) : data;
      for (let step; (step = state.call(this, held, reply)); ) {
        held = held.subarray(step.used);
        state = step.next ?? state;
        if (this.blown) return void socket.destroy();
        if (step.goodbye) {
          goodbye = true;
          socket.end();
        }
      }
    });
    this.served = new Promise((done) =>
      socket.on('close', () => {
        if (goodbye) this.#flush();
        else this.#forget();
        done();
      }),
    );
  }

  #greeted(held) {
    return held.length < 4 ? null : { used: 4, next: this.#option };
  }

  #option(held, reply) {
    if (held.length < 16 || held.length < 16 + held.readUInt32BE(12)) return null;
    const [option, used] = [held.readUInt32BE(8), 16 + held.readUInt32BE(12)];
    const answer = (kind, data = Buffer.alloc(0)) => {
      const head = Buffer.alloc(20);
      head.writeBigUInt64BE(0x3e889045565a9n);
      [option, kind, data.length].forEach((number, n) => head.writeUInt32BE(number, 8 + 4 * n));
      reply(head, data);
    };
    const size = Buffer.alloc(10);
    size.writeBigUInt64BE(BigInt(this.size));
    size.writeUInt16BE(FLAGS, 8);
    if (option === OPT_EXPORT_NAME) reply(size);
    else if (option === OPT_INFO || option === OPT_GO) {
      answer(3, Buffer.concat([Buffer.alloc(2), size]));
      answer(1);
    } else answer(option === OPT_ABORT ? 1 : 0x80000001);
    return { used, next: option === OPT_GO || option === OPT_EXPORT_NAME ? this.#request : undefined, goodbye: option === OPT_ABORT };
  }

  #request(held, reply) {
    if (held.length < 28) return null;
    const [flags, type, at, length] = [held.readUInt16BE(4), held.readUInt16BE(6), Number(held.readBigUInt64BE(16)), held.readUInt32BE(24)];
    const used = 28 + (type === WRITE ? length : 0);
    if (held.length < used) return null;
    const head = Buffer.alloc(16);
    head.writeUInt32BE(0x67446698);
    held.copy(head, 8, 8, 16);
    if (type === GOODBYE) return { used, goodbye: true };
    if (type === READ) reply(head, this.#read(at, length));
    else {
      if (type === WRITE || type === ZEROES) {
        const ill = this.illness(at, length);
        if (ill === 'refused') head.writeUInt32BE(EIO, 4);
        if (ill) return reply(head), { used };
        this.#write(at, type === WRITE ? Buffer.from(held.subarray(28, used)) : Buffer.alloc(length));
        if (this.fuse && (this.fuse.left -= 1) <= 0) {
          this.fuse.blow();
          return { used };
        }
        if (flags & FUA) this.#flush(at / SECTOR, (at + length) / SECTOR);
      } else if (type === FLUSH) {
        this.#flush();
        this.flushes += 1;
      } else if (type !== TRIM) head.writeUInt32BE(EINVAL, 4);
      reply(head);
    }
    return { used };
  }

  #read(at, length) {
    const bytes = Buffer.alloc(length);
    readSync(this.file, bytes, 0, length, at);
    if (this.pending.size > 0) {
      for (let sector = at / SECTOR; sector < (at + length) / SECTOR; sector += 1) this.pending.get(sector)?.copy(bytes, sector * SECTOR - at);
    }
    return bytes;
  }

  #write(at, bytes) {
    this.written += bytes.length;
    for (let from = 0; from < bytes.length; from += SECTOR) this.pending.set((at + from) / SECTOR, bytes.subarray(from, from + SECTOR));
  }

  #flush(first = 0, end = Infinity) {
    for (const [sector, bytes] of this.pending) {
      if (sector < first || sector >= end) continue;
      writeSync(this.file, bytes, 0, SECTOR, sector * SECTOR);
      this.pending.delete(sector);
    }
  }

  #forget() {
    const kept = KEPT[Math.floor(this.chance() * KEPT.length)];
    this.cuts += 1;
    this.atRisk += this.pending.size;
    for (const [sector, bytes] of this.pending) {
      if (this.chance() < kept) writeSync(this.file, bytes, 0, SECTOR, sector * SECTOR);
      else this.lost += 1;
    }
    this.pending.clear();
  }
}
