/** What the server says of the box around it, and what follows from that. Times are milliseconds since 1970, sizes bytes. */
import { HttpError, call } from '../wire/http';

export type Slot = 'A' | 'B';

export type Outcome =
  | { kind: 'waiting'; version: string }
  | { kind: 'updated'; version: string; from: string; at: number }
  | { kind: 'rolled-back'; version: string; to: string; reason: string | null; at: number };

export interface BoxState {
  compatible: string;
  booted: Slot;
  confirmed: boolean;
  slots: { slot: Slot; version: string | null; tries_left: number | null }[];
  outcome: Outcome | null;
  incidents: { kind: string; sentence: string }[];
  installing: boolean;
  synchronised: boolean;
}

export type Work =
  | { state: 'idle' }
  | { state: 'receiving'; received: number; total: number | null }
  | { state: 'installing'; percent: number; step: string }
  | { state: 'failed'; code: string; message: string; at: number }
  | { state: 'installed'; version: string };

export interface Interface {
  name: string;
  wireless: boolean;
  link: boolean;
  /** Megabits a second. */
  speed: number | null;
  hardware: string | null;
  addresses: string[];
}

export interface Facts {
  name: string;
  model: string | null;
  /** Seconds. */
  uptime: number;
  memory: { total: number; available: number; own: number };
  storage: { total: number; free: number; store: number } | null;
  /** Degrees Celsius. */
  temperature: number | null;
  network: Interface[];
  time: { now: number; synchronised: boolean; battery: boolean };
}

export interface About {
  version: string;
  /** Seconds. */
  serverUptime: number;
  facts: Facts;
  illness: string | null;
  /** Null where the server runs on a system of its own. */
  box: BoxState | null;
  problem: string | null;
  work: Work;
}

export interface StickBundle {
  stick: string;
  title: string;
  file: string;
  size: number;
}

/** A box that goes may be gone before its answer is here; whether it comes back is seen by looking. */
async function leaving(asked: Promise<unknown>): Promise<void> {
  try {
    await asked;
  } catch (problem) {
    if (!(problem instanceof HttpError && problem.code === 'unreachable')) throw problem;
  }
}

export const calls = {
  about: () => call<About>('GET', 'api/box'),
  sticks: () => call<{ bundles: StickBundle[] }>('GET', 'api/box/sticks'),
  updateFromUrl: (url: string) => call<unknown>('POST', 'api/box/update/url', { url }),
  updateFromStick: (stick: string, file: string) => call<unknown>('POST', 'api/box/update/stick', { stick, file }),
  stopUpdate: () => call<unknown>('DELETE', 'api/box/update'),
  restart: () => leaving(call<unknown>('POST', 'api/box/restart', {})),
  off: () => leaving(call<unknown>('POST', 'api/box/off', {})),
  reset: (name: string) => leaving(call<unknown>('POST', 'api/box/reset', { name })),
  setTime: (ms: number) => call<{ now: number }>('POST', 'api/box/time', { ms }),
  /** A ticket for one download of everything. */
  exportTicket: (password: string, recordings: boolean) => call<{ ticket: string }>('POST', 'api/export', { password, recordings }),
};

/** Above this difference a clock without a time server is wrong, not merely late. */
export const CLOCK_OFF_MS = 120_000;
/** Degrees from which the Raspberry Pi slows itself down. */
export const HOT = 80;
/** Of the storage; below it a box that goes on recording and logging will be full soon. */
const NEARLY_FULL = 0.05;

export const isBusy = (about: About): boolean => about.work.state === 'receiving' || about.work.state === 'installing' || (about.box?.installing ?? false);

export const nearlyFull = (storage: { total: number; free: number }): boolean => storage.free < storage.total * NEARLY_FULL;

/** How far the box's clock is from the browser's, when the browser is the better one: on a box that no time server has set. */
export function clockOff(about: About, browser: number): number | null {
  if (!about.box || about.box.synchronised) return null;
  const off = browser - about.facts.time.now;
  return Math.abs(off) > CLOCK_OFF_MS ? off : null;
}

/** Where its time comes from. */
export function timeSource(about: About): 'synchronised' | 'battery' | 'unset' {
  if (about.facts.time.synchronised) return 'synchronised';
  return about.facts.time.battery ? 'battery' : 'unset';
}

/** Gives a new box the browser's time, when it has no better one: certificates and logs are to begin with the right day. */
export async function lendTime(): Promise<boolean> {
  const about = await calls.about();
  if (clockOff(about, Date.now()) === null) return false;
  await calls.setTime(Date.now());
  return true;
}
