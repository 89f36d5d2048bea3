/**
 * The box as its owner drives it, in an emulator and with the very image that is shipped: settings on the card before the
 * first start; in the app's own words over HTTP what runs, an update uploaded, the restart into it, and a factory reset.
 *
 *   make image BOARD=qemu-arm64 && node app.mjs
 */
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fetchFrom } from '../cross/control.mjs';
import { run } from '../e2e/processes.mjs';
import { begin, check, expect } from '../e2e/report.mjs';
import { ADMIN, Box, START, bootPartition, makeCard, putOnBoot, slots, story, until } from './box.mjs';
import { bundle, shippedSlot, versioned } from './slots.mjs';

const NAME = 'attic';
/** The last section is wrong on purpose. The emulator forwards to the address. */
const SETTINGS = `hostname = "${NAME}"

[network]
address = "10.0.2.15/24"
gateway = "10.0.2.2"

[admin]
name = "${ADMIN.name}"
password = "${ADMIN.password}"

[config.domains.""]
title = "Attic box"

[ssh]
keys = ["not a key"]
`;

/** Milliseconds that a box may be silent: beside two others it took more than two minutes to write an update. */
const WRITING = 300_000;

await story('app', async (scratch) => {
  const card = makeCard(join(scratch, 'card.img'));
  const onCard = (name) => run(null, ['mtype', '-i', bootPartition(card), `::${name}`]).out;
  const box = new Box(card);
  let cookie;
  const call = async (method, path, content, headers = {}) => {
    const body = content === undefined || Buffer.isBuffer(content) ? content : JSON.stringify(content);
    const origin = `https://${box.here.host}:${box.here.port}`;
    const type = Buffer.isBuffer(content) ? 'application/octet-stream' : 'application/json';
    const answer = await fetchFrom(box.here, path, { method, body, timeout: WRITING, headers: { origin, 'content-type': type, ...(cookie && { cookie }), ...headers } });
    const json = answer.body.startsWith('{') ? JSON.parse(answer.body) : null;
    return { ...answer, json };
  };
  /** A box that goes may be gone before its answer is here. */
  const leaving = async (asked) => {
    const answer = await asked.catch(() => null);
    expect(!answer || answer.status === 202, `${answer?.status}: ${answer?.body}`);
  };
  const login = async () => {
    cookie = undefined;
    const answer = await call('POST', '/api/login', { username: ADMIN.name, password: ADMIN.password });
    expect(answer.status === 200, `${answer.status}: ${answer.body}`);
    cookie = [answer.headers['set-cookie']].flat().map((one) => one.split(';')[0]).join('; ');
  };
  const state = async () => {
    const answer = await call('GET', '/api/box');
    expect(answer.status === 200, `${answer.status}: ${answer.body}`);
    return answer.json;
  };

  begin('Settings on the card');
  putOnBoot(card, 'outpost.toml', SETTINGS);
  await check('the box starts, and their account administers it', async () => {
    const seconds = await box.start('app');
    await login();
    const { isroot, siteadmin } = (await box.ask({ action: 'userinfo' })).userinfo ?? {};
    expect(siteadmin === 0xffffffff, `siteadmin is ${siteadmin}, ${isroot}`);
    return `${seconds.toFixed(1)} s after power-on`;
  }, { seconds: START });
  await check('nothing failed', () => box.settles(), { seconds: START });
  await check('its screen has its name', async () => (await box.line(new RegExp(`https://${NAME}\\.local/`))).text.trim(), { seconds: START });
  await check('its page has name, address, title and slot', async () => {
    const { box: seen, facts, illness } = await state();
    const text = JSON.stringify(facts);
    expect(text.includes(`"${NAME}"`), `no name in ${text}`);
    expect(text.includes('10.0.2.15'), `no address in ${text}`);
    expect(illness === null, illness);
    expect(seen.booted === 'A' && seen.compatible === 'outpost-qemu-arm64', JSON.stringify(seen));
    const page = (await call('GET', '/api/bootstrap')).body;
    expect(page.includes('Attic box'), page);
    const { total, available, own } = facts.memory;
    const mebibytes = (bytes) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
    expect(own > 1 << 20 && total - available > own, JSON.stringify(facts.memory));
    return `memory: the server has ${mebibytes(own)}, the whole box ${mebibytes(total - available)} of ${mebibytes(total)}`;
  });
  await check('what was wrong is said beside them, and secrets are gone from the card', async () => {
    const problems = onCard('outpost.toml.problems.txt');
    expect(/ssh/i.test(problems), `problems: ${problems}`);
    const left = onCard('outpost.toml');
    expect(left.includes(NAME) && !/^\[(admin|config)/m.test(left) && !left.includes(ADMIN.password), `left: ${left}`);
    const { incidents } = (await state()).box;
    expect(incidents.some(({ kind, sentence }) => kind === 'settings' && /ssh/i.test(sentence)), `the page says ${JSON.stringify(incidents)}`);
    expect(!readFileSync(card).includes(ADMIN.password), 'the password is still somewhere on the card');
    return problems.trim().split('\n').at(-1);
  });

  begin('An update through the app');
  const slot = versioned(shippedSlot(join(scratch, 'slot.ext4')), '99.1');
  mkdirSync(join(scratch, 'bundles'));
  const good = readFileSync(bundle(slot, join(scratch, 'bundles/good.raucb')));
  await check('one that is not whole is refused with the reason', async () => {
    const answer = await call('POST', '/api/box/update', good.subarray(0, good.length >> 1));
    expect(answer.status === 422, `${answer.status}: ${answer.body}`);
    expect((await state()).work.state === 'failed' && slots(card).BOOT_ORDER === 'A B', JSON.stringify((await state()).work));
    return answer.body;
  }, { seconds: START });
  await check('without a login nobody may', async () => {
    const kept = cookie;
    cookie = undefined;
    const answer = await call('POST', '/api/box/restart', {});
    cookie = kept;
    expect(answer.status === 401, `${answer.status}: ${answer.body}`);
  });
  await check('a good one is installed, and everybody sees how far it is', async () => {
    const seen = new Set();
    let over = false;
    const looking = (async () => {
      for (; !over; await new Promise((done) => setTimeout(done, 300))) seen.add((await state().catch(() => null))?.work?.state);
    })();
    const answer = await call('POST', '/api/box/update', good).finally(() => (over = true));
    await looking;
    expect(answer.status === 200 && answer.json.version === '99.1', `${answer.status}: ${answer.body}`);
    const { box: now, work } = await state();
    expect(work.state === 'installed' && now.outcome?.kind === 'waiting', JSON.stringify({ work, now }));
    expect(seen.has('installing'), `it was seen ${[...seen]}`);
    return `${(good.length / 2 ** 20).toFixed(1)} MiB`;
  }, { seconds: START });
  await check('restarted, the new one runs, is confirmed, and says so', async () => {
    const since = await box.restart(async () => {
      await leaving(call('POST', '/api/box/restart', {}));
    });
    await box.line(/Outpost: slot B/, { since });
    await box.answers();
    await box.settles('B', { since });
    await login();
    await until('it is not confirmed', async () => (await state()).box.confirmed);
    const { outcome, booted } = (await state()).box;
    expect(booted === 'B' && outcome.kind === 'updated' && outcome.version === '99.1', JSON.stringify(outcome));
    const { events } = await box.ask({ action: 'events', limit: 50 });
    expect(events.some((event) => /99\.1/.test(event.msg ?? '')), 'the update is not in the log');
  }, { seconds: START * 2 });

  begin('A factory reset through the app');
  await check('not without its name', async () => {
    const answer = await call('POST', '/api/box/reset', { name: 'cellar' });
    expect(answer.status >= 400 && answer.status < 500, `${answer.status}: ${answer.body}`);
  });
  await check('with it the box forgets everybody, and keeps the slot', async () => {
    const since = await box.restart(async () => {
      await leaving(call('POST', '/api/box/reset', { name: NAME }));
    });
    await box.answers();
    await box.settles('B', { since });
    await box.makeAdmin();
    await login();
    const { incidents } = (await state()).box;
    expect(incidents.some(({ kind }) => kind === 'reset'), JSON.stringify(incidents));
    return incidents.map(({ sentence }) => sentence).join(' ');
  }, { seconds: START * 2 });
});
