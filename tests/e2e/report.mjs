/** Named checks with their times, and the summary. A failed check does not end the story unless a later part needs it. */
const results = [];
let part = '';

export function begin(name) {
  part = name;
  console.log(`\n${name}`);
}

let witness = async () => undefined;
/** `look` is called with a name after each failure, to keep what can be seen then. */
export function onFailure(look) {
  witness = look;
}

/** Runs one check. `body` throws when it fails, and may return words to print behind its name. */
export async function check(name, body, { seconds = 30 } = {}) {
  const started = Date.now();
  let timer;
  try {
    const late = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error(`not done within ${seconds} s`)), seconds * 1000)));
    const words = await Promise.race([body(), late]);
    results.push({ part, name, good: true });
    console.log(`  ok    ${name}${words ? `: ${words}` : ''} (${Date.now() - started} ms)`);
    return true;
  } catch (error) {
    const reason = String(error?.message ?? error).split('\n').slice(0, 12).join('\n        ');
    results.push({ part, name, good: false, reason });
    console.log(`  FAIL  ${name} (${Date.now() - started} ms)\n        ${reason}`);
    await witness(name);
    return false;
  } finally {
    clearTimeout(timer);
  }
}

/** Something that broke outside of a check. */
export async function broken(error) {
  results.push({ part, name: 'the part as a whole', good: false, reason: String(error?.stack ?? error) });
  console.log(`  FAIL  the part as a whole\n        ${error?.stack ?? error}`);
  await witness(part);
}

/** How many checks have failed. */
export const failures = () => results.filter((result) => !result.good).length;

/** Prints the summary, its last line the plain counts. */
export function summarise(seconds) {
  const failed = results.filter((result) => !result.good);
  console.log(`\nEnd-to-end story, ${seconds.toFixed(0)} s`);
  for (const { part: where, name, reason } of failed) console.log(`  failed: ${where} / ${name}: ${reason.split('\n')[0]}`);
  console.log(`${results.length - failed.length} passed, ${failed.length} failed`);
}

export function expect(condition, words) {
  if (!condition) throw new Error(words);
}
