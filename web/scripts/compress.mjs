// Writes a brotli copy (quality 11) beside every compressible file of dist/, and reports the budgets:
// the server sends these bytes as they are, so a small box never compresses anything itself.
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { extname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { brotliCompressSync, constants } from 'node:zlib';

const dist = fileURLToPath(new URL('../dist', import.meta.url));
const compressible = new Set(['.html', '.js', '.css', '.svg', '.json', '.txt', '.webmanifest']);

function filesUnder(folder) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) =>
    entry.isDirectory() ? filesUnder(join(folder, entry.name)) : [join(folder, entry.name)],
  );
}

const sizes = new Map();
for (const file of filesUnder(dist)) {
  if (!compressible.has(extname(file))) continue;
  const plain = readFileSync(file);
  const small = brotliCompressSync(plain, {
    params: {
      [constants.BROTLI_PARAM_QUALITY]: 11,
      [constants.BROTLI_PARAM_MODE]: constants.BROTLI_MODE_TEXT,
      [constants.BROTLI_PARAM_SIZE_HINT]: plain.length,
    },
  });
  writeFileSync(`${file}.br`, small);
  sizes.set(relative(dist, file), small.length);
}

const html = readFileSync(join(dist, 'index.html'), 'utf8');
const first = [...sizes].filter(([name]) => name === 'index.html' || html.includes(name));
/** Sessions load when they are opened. */
const sessions = [...sizes].filter(([name]) => /assets\/(terminal|Terminal|Desktop|Files|AgentConsole|Processes|Player|Recordings|policy)[^/]*$/.test(name));
const total = (list) => list.reduce((sum, [, size]) => sum + size, 0);
const all = total([...sizes]) - total(sessions);
const kib = (bytes) => `${(bytes / 1024).toFixed(1)} KiB`;
console.log(`first page ${kib(total(first))} of 60 KiB; whole app ${kib(all)} of 300 KiB; sessions, when opened, ${kib(total(sessions))}`);
if (total(first) > 60 * 1024 || all > 300 * 1024) {
  console.error('The app is over its size budget.');
  process.exitCode = 1;
}
if (statSync(dist).isDirectory() && sizes.size === 0) process.exitCode = 1;
