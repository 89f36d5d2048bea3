/** Looking for names below a folder: by the agent, or folder by folder where the agent's own search does not work. */
import { remote } from '../text.remote';
import { join } from './paths';
import { FilesError, LinkLost, MOST_HITS, type FileSession } from './session';

/** Folders looked through at most, and how deep: MeshAgents follow links, so that there may be no end. */
const MOST_FOLDERS = 5000;
const DEEPEST = 24;

/** A pattern as people type it: without `*` and `?` it is any part of a name. */
export const patternOf = (typed: string): string => (/[*?]/.test(typed) ? typed : `*${typed}*`);

/** Whether a name fits a pattern of `*` and `?`, letters of either case. */
export function fits(pattern: string, name: string): boolean {
  const rules = [...pattern.toLowerCase()];
  const letters = [...name.toLowerCase()];
  let [p, n, star, from] = [0, 0, -1, 0];
  while (n < letters.length) {
    if (rules[p] === '*') [star, from, p] = [p, n, p + 1];
    else if (rules[p] === '?' || rules[p] === letters[n]) [p, n] = [p + 1, n + 1];
    else if (star >= 0) [p, n, from] = [star + 1, from + 1, from + 1];
    else return false;
  }
  return rules.slice(p).every((rule) => rule === '*');
}

/** Resolves with whether there may be more. `windows` agents search by themselves; other MeshAgents cannot (tunnel-protocols §5.2). */
export async function look(session: FileSession, folder: string, typed: string, windows: boolean, onHit: (path: string) => void, signal: AbortSignal): Promise<boolean> {
  const pattern = patternOf(typed);
  if (session.can('progress') || windows) return session.find(folder, pattern, onHit, signal);
  const left: { path: string; below: string; depth: number }[] = [{ path: folder, below: '', depth: 0 }];
  let [seen, hits] = [0, 0];
  for (let next = left.shift(); next; next = left.shift()) {
    if (signal.aborted || ++seen > MOST_FOLDERS || hits >= MOST_HITS) return true;
    try {
      for (const entry of await session.list(next.path)) {
        const below = next.below ? `${next.below}/${entry.name}` : entry.name;
        if (fits(pattern, entry.name)) {
          onHit(below);
          hits += 1;
        }
        if (entry.kind === 'folder' && next.depth < DEEPEST) left.push({ path: join(next.path, entry.name), below, depth: next.depth + 1 });
      }
    } catch (error) {
      // A folder that may not be read is passed over; a broken link is not.
      if (error instanceof LinkLost || (error instanceof FilesError && error.message === remote.files.notConnected)) throw error;
    }
  }
  return false;
}
