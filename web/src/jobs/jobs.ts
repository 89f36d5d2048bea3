/** Commands for many devices as the server tells of them, and what is made of that for people. */

export type RunState = 'waiting' | 'sent' | 'done' | 'refused' | 'unanswered' | 'expired' | 'cancelled';
export const STATES: readonly RunState[] = ['waiting', 'sent', 'done', 'refused', 'unanswered', 'expired', 'cancelled'];

export type Counts = Record<RunState, number>;

export interface Job {
  jobid: string;
  userid: string;
  username: string;
  shell: string;
  cmds: string;
  runAsUser: number;
  /** Milliseconds since 1970. */
  created: number;
  expires: number;
  counts: Counts;
  own: boolean;
}

export interface Run {
  nodeid: string;
  name: string;
  state: RunState;
  changed: number;
  exit?: number | undefined;
  output?: string | undefined;
  /** There is more output than this. */
  cut?: boolean | undefined;
  leftOut?: number | undefined;
  reason?: string | undefined;
}

/** Output that the page holds of a running script, in characters; the server keeps the whole. */
const LIVE_KEPT = 8192;

/** A run after an event about it; `null` when the event is not about it. */
export function after(run: Run, event: Readonly<Record<string, unknown>>): Run | null {
  if (event.nodeid !== run.nodeid) return null;
  if (event.action === 'joboutput' && typeof event.text === 'string') {
    const output = (run.output ?? '') + event.text;
    return { ...run, output: output.slice(-LIVE_KEPT), cut: run.cut || output.length > LIVE_KEPT };
  }
  if (event.action !== 'jobrun' || !STATES.includes(event.state as RunState)) return null;
  const { name, state, changed, exit, output, cut, leftOut, reason } = { ...run, cut: undefined, ...(event as Partial<Run>) };
  return { nodeid: run.nodeid, name, state, changed, exit, output, cut, leftOut, reason };
}

export const count = (runs: Iterable<Run>): Counts => {
  const counts = Object.fromEntries(STATES.map((state) => [state, 0])) as Counts;
  for (const run of runs) counts[run.state] += 1;
  return counts;
};

export const sum = (counts: Counts): number => STATES.reduce((all, state) => all + counts[state], 0);
export const over = (counts: Counts): number => sum(counts) - counts.waiting - counts.sent;

/** What a row is coloured by: an exit status other than 0 is trouble, like no run at all. */
export function tone(run: Run): 'good' | 'bad' | 'busy' | 'quiet' {
  if (run.state === 'done') return run.exit ? 'bad' : 'good';
  if (run.state === 'sent') return 'busy';
  return run.state === 'waiting' || run.state === 'cancelled' ? 'quiet' : 'bad';
}

/** The first line of a script that says something. */
export const firstLine = (script: string): string => script.split('\n').find((line) => line.trim() && !line.startsWith('#')) ?? script.split('\n')[0] ?? '';

/** One field of a CSV. What a spreadsheet would take for a formula is kept a text by an apostrophe. */
function field(value: string | number | undefined): string {
  const plain = typeof value === 'number' ? String(value) : (value ?? '');
  const safe = typeof value === 'string' && /^[=+\-@\t\r]/.test(plain) ? `'${plain}` : plain;
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/** RFC 4180, with a byte order mark so that spreadsheets read it as UTF-8. */
export function csv(runs: readonly Run[]): string {
  const head = ['device', 'id', 'state', 'time', 'exit', 'reason', 'output'];
  const rows = runs.map((run) => [run.name, run.nodeid, run.state, new Date(run.changed).toISOString(), run.exit, run.reason, run.output]);
  return `\uFEFF${[head, ...rows].map((row) => row.map(field).join(',')).join('\r\n')}\r\n`;
}
