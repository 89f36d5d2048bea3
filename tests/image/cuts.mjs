/**
 * Power cuts: the emulator of a box is killed at random moments, half of them while it starts, half while accounts and
 * groups are made over the control socket and agents enrol; what its card had not been told to keep is lost at random
 * (card.mjs). It always starts again, everything that was acknowledged is there, and its file system is whole.
 *
 *   make image BOARD=qemu-arm64 && CUTS=50 SEED=… node cuts.mjs
 *
 * After CUTS_SECONDS no further cut is begun, but LEAST are made in any case.
 */
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fetchFrom, openSession } from '../cross/control.mjs';
import { run, start } from '../e2e/processes.mjs';
import { begin, check, expect } from '../e2e/report.mjs';
import { ADMIN, Box, START, makeCard, output, partition, pause, repository, slots, story } from './box.mjs';
import { ForgetfulCard, dice } from './card.mjs';

const CUTS = Number(process.env.CUTS ?? 50);
const SECONDS = Number(process.env.CUTS_SECONDS ?? Infinity);
const LEAST = 10;
const SEED = Number(process.env.SEED ?? Date.now() % 1_000_000);
/** Boxes at a time; each has one processor. */
const LANES = 2;
/** MiB: small, so that its file system is looked at quickly. */
const CARD = 768;
/** Of the cuts while it starts, every fourth is at the first start of a new card. */
const NEW_CARD = 4;
/** Agents that enrol in each round. */
const AGENTS = 6;
const load = ['release', 'debug'].map((kind) => join(repository, 'target', kind, 'examples/load')).find(existsSync);

/** Puts a copy of the data partition in order as the next start does, and looks whether all of it is whole then. */
function fileSystem(card, copy) {
  const { at, length } = partition(card, 4);
  const words = (list) => run(null, list, { milliseconds: 120_000 });
  words(['dd', `if=${card}`, `of=${copy}`, 'bs=1M', `skip=${at >> 20}`, `count=${length >> 20}`, 'conv=sparse', 'status=none']);
  const ordered = words(['e2fsck', '-p', copy]);
  expect(ordered.code < 4, `somebody would have been asked: ${ordered.out}`);
  const looked = words(['e2fsck', '-f', '-n', copy]);
  rmSync(copy);
  expect(looked.code === 0, looked.out.slice(0, 600));
}

/** One box and what it has acknowledged. */
class Lane {
  constructor(number, scratch) {
    Object.assign(this, { number, scratch, chance: dice(SEED + number), names: new Set(), groups: new Set(), agents: new Set(), cuts: 0, totals: { lost: 0, atRisk: 0, written: 0 } });
    this.file = makeCard(join(scratch, `card-${number}.img`), { size: CARD });
    this.card = this.insert(this.file);
    this.box = new Box(this.card.address, { processors: 1 });
  }

  /** Each time at a place of its own: a card that is taken out removes its own. */
  insert(file) {
    this.inserted = (this.inserted ?? 0) + 1;
    return new ForgetfulCard(file, join(this.scratch, `socket-${this.number}-${this.inserted}`), this.chance);
  }

  async cut(card = this.card) {
    await this.box.cut();
    await card.served;
    this.cuts += 1;
  }

  /** Lets a moment come in which the card is written to, for most writes are flushed at once; now and then not. */
  async whileWriting() {
    if (this.chance() < 0.8) await this.card.failAtWrite(1 + Math.floor(this.chance() * 12), 3000);
  }

  async prepare() {
    this.usual = await this.box.start(`cuts-${this.number}`);
    await this.box.makeAdmin();
    this.group = await this.box.makeGroup('Boxes');
    this.groups.add(this.group);
    this.serverId = /^ServerID=(\S+)/m.exec((await fetchFrom(this.box.here, `/meshsettings?id=${encodeURIComponent(this.group.split('/').at(-1))}`)).body)?.[1];
    expect(this.serverId, 'the box does not say its ServerID');
  }

  /** While it starts; now and then of a card that has never been started. */
  async cutAtStart(nth) {
    if (nth % NEW_CARD === NEW_CARD - 1) return this.cutAtFirstStart();
    await this.box.on(`cuts-${this.number}`);
    await pause(this.chance() * this.usual * 1000);
    await this.whileWriting();
    await this.cut();
    this.look();
  }

  async cutAtFirstStart() {
    const file = makeCard(join(this.scratch, `new-${this.number}.img`), { size: CARD });
    const card = this.insert(file);
    const box = this.box;
    this.tally(this.card);
    await this.card.close();
    this.box = new Box(card.address, { processors: 1 });
    await this.box.on(`cuts-${this.number}-new`);
    await pause((0.2 + 0.8 * this.chance()) * this.usual * 1000);
    await this.cut(card);
    await this.box.start(`cuts-${this.number}-new`);
    await this.box.makeAdmin();
    await this.box.cut();
    await card.served;
    this.tally(card);
    await card.close();
    this.card = this.insert(this.file);
    this.box = Object.assign(box, { card: this.card.address });
  }

  look() {
    fileSystem(this.file, join(this.scratch, `copy-${this.number}.img`));
  }

  /** Everything that was acknowledged is there. */
  async verify() {
    const session = await openSession(this.box.here, ADMIN);
    const { users } = await session.ask({ action: 'users' });
    const { meshes } = await session.ask({ action: 'meshes' });
    const devices = Object.values((await session.ask({ action: 'nodes' })).nodes).flat();
    session.close();
    const found = new Set([...users, ...meshes, ...devices].map(({ _id }) => _id));
    const lost = [...this.names, ...this.groups, ...this.agents].filter((id) => !found.has(id));
    expect(lost.length === 0, `lost: ${lost.slice(0, 5).join(' ')} (${lost.length})`);
  }

  /** Writes until the power is gone; what is answered counts. */
  async write(stopped) {
    const session = await openSession(this.box.here, ADMIN).catch(() => null);
    const here = `${this.number}-${this.cuts}`;
    const again = async (make) => {
      for (let n = 0; session && !stopped.yes; n += 1) if (!(await make(n).then(() => true, () => false))) return;
    };
    await Promise.all([
      again(async (n) => {
        const name = `person-${here}-${n}`;
        const answer = await session.ask({ action: 'adduser', username: name, pass: `slate harbour ${name}` });
        if (answer.result === 'ok') this.names.add(`user//${name}`);
      }),
      again(async (n) => {
        const { meshid } = await session.ask({ action: 'createmesh', meshname: `Group ${here}-${n}`, meshtype: 2 });
        if (meshid) this.groups.add(meshid);
      }),
      again(async () => {
        const devices = Object.values((await session.ask({ action: 'nodes' })).nodes).flat();
        for (const { _id } of devices) this.agents.add(_id);
        await pause(200);
      }),
    ]);
    session?.close();
  }

  async cutAtWork() {
    const seconds = await this.box.start(`cuts-${this.number}`);
    await this.verify();
    const stopped = { yes: false };
    const agents = start(`load-${this.number}`, null, [load, `127.0.0.1:${this.box.here.port}`, this.group, this.serverId, String(AGENTS)], { log: join(output, `cuts-load-${this.number}.log`), env: { LOAD_HOLD: '60' } });
    const before = this.groups.size;
    const writing = this.write(stopped);
    // On a slow machine the first answer takes a while; without one there is nothing to lose.
    for (let n = 0; n < 100 && this.groups.size === before; n += 1) await pause(200);
    await pause(1000 + this.chance() * 4000);
    await this.whileWriting();
    await this.cut();
    stopped.yes = true;
    await agents.stop('SIGKILL');
    await writing;
    this.look();
    return seconds;
  }

  tally(card) {
    for (const name of Object.keys(this.totals)) this.totals[name] += card[name];
  }
}

await story('cuts', async (scratch) => {
  expect(load, 'there is no target/…/examples/load: cargo build --example load');
  console.log(`seed ${SEED}, ${CUTS} cuts`);
  const began = Date.now();
  const lanes = Array.from({ length: LANES }, (_, number) => new Lane(number, scratch));

  begin('Boxes with an account and a group');
  await check('they start', async () => {
    await Promise.all(lanes.map((lane) => lane.prepare()));
    return lanes.map((lane) => `${lane.usual.toFixed(0)} s`).join(', ');
  }, { seconds: START });
  for (const lane of lanes) await lane.cut();

  begin('Cuts');
  let next = 0;
  const late = () => next >= LEAST && (Date.now() - began) / 1000 >= SECONDS;
  await Promise.all(
    lanes.map(async (lane) => {
      for (let round = 0; next < CUTS && !late(); round += 1) {
        next += 1;
        const nth = next;
        const name = `cut ${nth}, box ${lane.number}, ${round % 2 ? 'at work' : 'while it starts'}`;
        const good = await check(name, async () => {
          if (round % 2 === 0) return void (await lane.cutAtStart(round >> 1));
          const seconds = await lane.cutAtWork();
          return `up after ${seconds.toFixed(0)} s; acknowledged: ${lane.names.size} accounts, ${lane.groups.size} groups, ${lane.agents.size} devices; lost ${lane.card.lost} of ${lane.card.atRisk} unflushed sectors`;
        }, { seconds: START });
        // What does not start any more has been said once.
        if (!good) return;
      }
    }),
  );

  if (next < CUTS && late()) console.log(`  ${next} of ${CUTS} cuts: then the time for them was over`);

  begin('In the end');
  let risked = 0;
  for (const lane of lanes) {
    await check(`box ${lane.number} has everything`, async () => {
      await lane.box.start(`cuts-${lane.number}`);
      await lane.verify();
      await lane.box.settles('A');
      const { BOOT_A_LEFT } = slots(lane.file);
      await lane.cut();
      lane.tally(lane.card);
      const { lost, atRisk, written } = lane.totals;
      risked += atRisk;
      return `${lane.cuts} cuts: ${lost} of ${atRisk} unflushed sectors lost, ${(written / 2 ** 20).toFixed(0)} MiB written; tries left ${BOOT_A_LEFT}`;
    }, { seconds: START });
  }
  await check('the cuts were cuts', () => {
    expect(risked > 0, 'nothing was ever at risk: they prove nothing');
    return `${risked} sectors had not been flushed`;
  });
});
