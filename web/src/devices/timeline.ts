/** The power history: `powertimeline`'s numbers as stretches of time. */

export interface Stretch {
  /** Milliseconds since 1970. */
  from: number;
  to: number;
  /** MeshCentral's power state, 0 unknown or off … 8 off. */
  state: number;
}

/** `[state, start, state, seconds, state, …]`, start in seconds (milliseconds when nothing was recorded). */
export function stretches(timeline: unknown, since: number, now: number): Stretch[] {
  if (!Array.isArray(timeline) || timeline.length < 3 || !timeline.every((one) => typeof one === 'number' && Number.isFinite(one))) return [];
  const numbers = timeline as number[];
  const start = numbers[1] ?? 0;
  let at = start > 1e11 ? start : start * 1000;
  const found: Stretch[] = [];
  for (let index = 2; index < numbers.length; index += 2) {
    const state = numbers[index] ?? 0;
    const seconds = numbers[index + 1];
    const to = seconds === undefined ? now : at + seconds * 1000;
    const last = found.at(-1);
    if (last && last.state === state && last.to === at) last.to = to;
    else found.push({ from: at, to, state });
    at = to;
  }
  return found
    .filter((stretch) => stretch.to > since && stretch.from < now)
    .map((stretch) => ({ ...stretch, from: Math.max(since, stretch.from), to: Math.min(now, stretch.to) }));
}

/** How a power state is drawn: on, sleeping (2–5), or off; 0 is off, for nothing is connected then. */
export function shade(state: number): 'on' | 'sleep' | 'off' {
  if (state === 1 || state === 7) return 'on';
  return state >= 2 && state <= 5 ? 'sleep' : 'off';
}
