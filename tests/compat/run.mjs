/**
 * Runs the same commands against MeshCentral and Outpost and compares what comes out:
 * `run.mjs [--write] [--only <word>] [--verbose]`. Unexplained differences fail, and so does a table in
 * docs/compatibility.md that is not what this run found; `--write` renews it.
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { programs } from '../programs.mjs';
import { chapters } from './cases/index.mjs';
import { perform } from './case.mjs';
import { differences } from './differences.mjs';
import { install } from './peer.mjs';
import { compareRecordings } from './recordings.mjs';
import { startServer, stopAll } from './servers.mjs';
import { document, matches } from './table.mjs';
import { furnish } from './world.mjs';

const root = fileURLToPath(new URL('../../', import.meta.url));
const TABLE = join(root, 'docs/compatibility.md');
/** Chapters that run at the same time; each runs its cases in order, on both servers at once. */
const AT_ONCE = 3;

const { values: options } = parseArgs({ options: { write: { type: 'boolean' }, only: { type: 'string' }, verbose: { type: 'boolean' } } });

/** Runs a chapter on both servers and gives its rows. */
async function run(chapter, servers) {
  const rows = [];
  for (const one of chapter.cases) {
    const id = `${one.command}: ${one.what}`;
    const [meshcentral, outpost] = await Promise.all(servers.map((server) => perform(one, server)));
    const known = differences[id];
    const same = meshcentral === outpost;
    const explained = known && matches(known.meshcentral, meshcentral) && matches(known.outpost, outpost);
    const row = { id, command: one.command, what: one.what, chapter: chapter.name, meshcentral, outpost, known: same ? undefined : known };
    row.verdict = same ? (known ? 'no longer differs: strike it from the differences' : 'same') : explained ? 'explained' : known ? 'differs otherwise than written' : 'differs';
    rows.push(row);
    const good = row.verdict === 'same' || row.verdict === 'explained';
    console.log(`${good ? '✓' : '✗'} ${id}${row.verdict === 'same' ? '' : ` (${row.verdict})`}`);
    if (!good || options.verbose) console.log(`--- MeshCentral\n${meshcentral}\n--- Outpost\n${outpost}\n---`);
  }
  return rows;
}

if (!process.env.OUTPOST_COMPAT_INSIDE) {
  install();
  process.exit(await alone());
}

/**
 * Runs this program again in a network namespace of its own, with loopback and one interface that leads nowhere: what
 * agents send to their network (wake packets) reaches nobody.
 */
async function alone() {
  const network = 'ip link set lo up && ip link add lan address 02:00:00:00:00:01 type veth peer name end && ip link set lan up && ip link set end up && ip address add 192.0.2.10/24 dev lan';
  const user = process.getuid() === 0 ? [] : ['--user', '--map-root-user'];
  const words = [...user, '--net', '--', 'sh', '-c', `${network} && exec "$0" "$@"`, process.execPath, fileURLToPath(import.meta.url), ...process.argv.slice(2)];
  const child = spawn('unshare', words, { stdio: 'inherit', env: { ...process.env, OUTPOST_COMPAT_INSIDE: '1' } });
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal));
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => resolve(code ?? 1));
  });
}

const scratch = mkdtempSync(join(tmpdir(), 'outpost-compat-'));
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => void stopAll().then(() => process.exit(1)));
let rows = [];
let whole = false;
let recordings = [];
try {
  const began = Date.now();
  const servers = await Promise.all(['meshcentral', 'outpost'].map((kind) => startServer(kind, scratch, programs)));
  await Promise.all(servers.map(furnish));
  console.log(`Both servers answer, their devices are online after ${((Date.now() - began) / 1000).toFixed(1)} s`);
  const chosen = chapters.filter((chapter) => !options.only || chapter.name.toLowerCase().includes(options.only.toLowerCase()));
  whole = chosen.length === chapters.length;
  const waiting = chosen.filter((chapter) => !chapter.last);
  const done = new Map();
  const work = async () => {
    for (let chapter = waiting.shift(); chapter; chapter = waiting.shift()) done.set(chapter, await run(chapter, servers));
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  for (const chapter of chosen.filter((one) => one.last)) done.set(chapter, await run(chapter, servers));
  rows = chosen.flatMap((chapter) => done.get(chapter));
  for (const server of servers) {
    if (server.program.ended) throw new Error(`${server.name} ended while the commands ran; see ${server.program.log}`);
  }
  if (whole || /recordings/i.test(options.only)) {
    await stopAll();
    const start = Date.now();
    recordings = await compareRecordings(scratch, programs);
    console.log(`${recordings.length ? '✗' : '✓'} Sessions recorded by both servers, compared file by file (${((Date.now() - start) / 1000).toFixed(1)} s)`);
  }
} finally {
  await stopAll();
  if (!process.env.OUTPOST_COMPAT_KEEP) rmSync(scratch, { recursive: true, force: true });
}

const bad = rows.filter((row) => row.verdict !== 'same' && row.verdict !== 'explained');
let failed = bad.length + recordings.length;
if (whole) {
  const seen = new Set(rows.map((row) => row.id));
  for (const id of Object.keys(differences).filter((one) => !seen.has(one))) {
    console.log(`✗ ${id}: a difference is written down for a case that does not exist`);
    failed += 1;
  }
  if (failed === 0) {
    const text = document(rows);
    if (options.write) writeFileSync(TABLE, text);
    else if (!existsSync(TABLE) || readFileSync(TABLE, 'utf8') !== text) {
      console.log('✗ docs/compatibility.md: it is not what this run found; tests/compat/run.mjs --write renews it');
      failed += 1;
    }
  }
}
for (const problem of recordings) console.log(`✗ a recording, ${problem}`);
for (const row of bad) console.log(`✗ ${row.id}: ${row.verdict}`);
console.log(`${rows.length - bad.length} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
