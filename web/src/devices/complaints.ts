/** What a MeshAgent writes on its console when a change of files fails: an exception, wrapped in where it was caught. */

/** The exception's own words, where they can be found; otherwise all of it, cut to what a dialog can hold. */
export function plainWords(said: string): string {
  const inner = /threw an exception: (.*?)(?: in method '[^']*')?$/s.exec(said.trim())?.[1] ?? said.trim();
  const words = inner.replace(/^(?:uncaughtException\d*:\s*)?(?:Error:\s*)?(?:fs\.\w+\(\):\s*)?/i, '').slice(0, 300);
  return /[.!?]$/.test(words) ? words : `${words}.`;
}
