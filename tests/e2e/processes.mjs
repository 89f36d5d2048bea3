/** Programs in namespaces: started with a log file, ended by their id, and none left behind. */
import { spawn, spawnSync } from 'node:child_process';
import { createWriteStream, readFileSync } from 'node:fs';
import { namespace } from './network.mjs';

const running = new Set();
let over = false;

/** A program in a machine's namespace. `command` is a list of words; `input` gives it a standard input to write to. */
export function start(name, machine, command, { log, env = {}, cwd, input = false } = {}) {
  if (over) throw new Error(`${name} is not started any more: the run is ending`);
  const words = machine ? ['ip', 'netns', 'exec', namespace(machine), ...command] : command;
  const child = spawn(words[0], words.slice(1), { stdio: [input ? 'pipe' : 'ignore', 'pipe', 'pipe'], env: { ...process.env, ...env }, cwd });
  const file = createWriteStream(log, { flags: 'a' });
  const lines = [];
  const waiting = new Set();
  let rest = '';
  const take = (data) => {
    file.write(data);
    rest += data;
    const parts = rest.split('\n');
    rest = parts.pop() ?? '';
    for (const text of parts) {
      const line = { text, at: Date.now() };
      lines.push(line);
      for (const one of waiting) one(line);
    }
    if (lines.length > 5000) lines.splice(0, 1000);
  };
  child.stdout.setEncoding('utf8').on('data', take);
  child.stderr.setEncoding('utf8').on('data', take);
  const program = { name, log, lines, child, pid: child.pid, ended: false };
  program.exit = new Promise((resolve) => {
    child.on('error', (error) => take(`${name} could not be started: ${error.message}\n`));
    child.on('close', (code, signal) => {
      program.ended = true;
      running.delete(program);
      file.end();
      resolve({ code, signal });
    });
  });
  /** The first line that matches, already written or still to come, with the time it was written. */
  program.line = (pattern, milliseconds = 10_000) =>
    new Promise((resolve, reject) => {
      const found = lines.find((line) => pattern.test(line.text));
      if (found) return resolve(found);
      const timer = setTimeout(() => done(reject, new Error(`${name} did not write ${pattern} within ${milliseconds} ms; last: ${lines.at(-1)?.text}`)), milliseconds);
      const look = (line) => pattern.test(line.text) && done(resolve, line);
      const done = (end, value) => (clearTimeout(timer), waiting.delete(look), end(value));
      waiting.add(look);
      void program.exit.then(() => done(reject, new Error(`${name} ended before it wrote ${pattern}; last: ${lines.at(-1)?.text}`)));
    });
  program.stop = async (signal = 'SIGTERM', milliseconds = 5000) => {
    if (program.ended) return;
    child.kill(signal);
    const late = setTimeout(() => child.kill('SIGKILL'), milliseconds);
    await program.exit;
    clearTimeout(late);
  };
  running.add(program);
  return program;
}

/** Runs a program to its end and returns what it said. */
export function run(machine, command, { input, env = {}, milliseconds = 20_000, cwd } = {}) {
  const words = machine ? ['ip', 'netns', 'exec', namespace(machine), ...command] : command;
  const result = spawnSync(words[0], words.slice(1), { input, env: { ...process.env, ...env }, timeout: milliseconds, cwd, maxBuffer: 64 << 20 });
  return { code: result.status, out: result.stdout?.toString() ?? '', err: result.stderr?.toString() ?? String(result.error) };
}

/** Ends everything that was started; nothing can be started afterwards. */
export async function stopAll() {
  over = true;
  await Promise.all([...running].reverse().map((program) => program.stop()));
}

/** A line of `/proc/<pid>/status` in KiB, for example `VmRSS`. */
export function memory(pid, line = 'VmRSS') {
  const text = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(new RegExp(`^${line}:\\s+(\\d+) kB`, 'm').exec(text)?.[1] ?? Number.NaN);
}

export function tail(file, lines = 25) {
  try {
    return readFileSync(file, 'utf8').trimEnd().split('\n').slice(-lines).join('\n');
  } catch {
    return '(no such log)';
  }
}
