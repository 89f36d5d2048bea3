/** Processes and services as agents tell them: JSON in a text, its fields different from system to system. */

export interface Process {
  pid: number;
  /** The program, without its path and arguments where they can be told apart. */
  name: string;
  command: string;
  user: string;
}

export interface Service {
  /** What the system calls it; this is what commands take. */
  name: string;
  /** What people call it. */
  title: string;
  /** In small letters: `running`, `stopped`, …; empty when the agent does not say. */
  state: string;
  start: string;
}

/** More than any machine runs; a hostile device could name them for ever. */
export const MOST = 20_000;

const object = (value: unknown): Record<string, unknown> => (typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {});
const words = (value: unknown): string => (typeof value === 'string' ? value.slice(0, 4000) : typeof value === 'number' ? String(value) : '');

function parsed(value: unknown): unknown {
  if (typeof value !== 'string') return value;
  try {
    return JSON.parse(value) as unknown;
  } catch {
    return null;
  }
}

/** The answer to `ps`: a map from process id to what is known. */
export function processesOf(value: unknown): Process[] {
  const processes: Process[] = [];
  for (const [key, one] of Object.entries(object(parsed(value))).slice(0, MOST)) {
    const process = object(one);
    const pid = Number(process.pid ?? key);
    if (!Number.isInteger(pid) || pid < 0) continue;
    const command = words(process.cmd) || words(process.path);
    processes.push({ pid, command, name: programName(command), user: words(process.user).replace(/\0.*$/, '') });
  }
  return processes;
}

/** The program in a command line: its last path part, up to the first space that is not inside quotes. */
export function programName(command: string): string {
  const kernel = /^\[.*\]$/.test(command);
  const program = kernel ? command : /^"([^"]+)"/.exec(command)?.[1] ?? command.split(/\s/)[0] ?? '';
  return (kernel ? program : program.split(/[\\/]/).filter(Boolean).at(-1) ?? program) || command;
}

/** The answer to `services`: a list. Windows and Linux agents call the fields differently. */
export function servicesOf(value: unknown): Service[] {
  const list = parsed(value);
  if (!Array.isArray(list)) return [];
  const services: Service[] = [];
  for (const one of list.slice(0, MOST)) {
    const service = object(one);
    const name = words(service.name);
    if (!name) continue;
    const status = service.status;
    const state = typeof status === 'object' ? words(object(status).state) : words(status ?? service.state);
    services.push({ name, title: words(service.displayName) || words(service.description), state: state.toLowerCase().replaceAll('_', ' '), start: words(service.startType ?? service.start).toLowerCase().replaceAll('_', ' ') });
  }
  return services;
}
