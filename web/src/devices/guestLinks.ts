/** Links by which guests get at parts of a device: what is asked of the server (control-protocol §4.9), and what it lists. */
import { exact } from '../format';
import { sharing as words } from '../text.guest';
import type { Device, Message } from '../wire/protocol';
import { whyNot } from './tabs';

/** Bits of what is shared, and of the consent flags that go with each: told at the device, or asked there first. */
const PARTS = {
  desktop: { bit: 2, tell: 1, ask: 8 },
  terminal: { bit: 1, tell: 2, ask: 16 },
  files: { bit: 4, tell: 4, ask: 32 },
} as const;
export type Part = keyof typeof PARTS;
const ORDER = Object.keys(PARTS) as Part[];

/** The longest name that the server takes, in characters. */
export const LONGEST_NAME = 128;

/** A link as the server lists it; times are milliseconds since 1970. */
export interface GuestLink {
  publicid: string;
  /** Bits of what is shared. */
  p: number;
  guestName: string;
  /** Only the own links come with their addresses. */
  url?: string;
  startTime?: number;
  /** Absent without an end. */
  expireTime?: number;
  /** 1 every day, 2 every week; `duration` is then in minutes. */
  recurring?: number;
  duration?: number;
  viewOnly?: boolean;
  tcp?: { port: number; host?: string };
}

export interface LinkForm {
  guest: string;
  parts: readonly Part[];
  /** A TCP port beside them, as `22` or `10.0.0.5:80`; empty for none. */
  port?: string;
  viewOnly: boolean;
  tell: boolean;
  ask: boolean;
  /** Minutes as text, `0` for no end, `until`, `window`, `daily` or `weekly`. */
  time: string;
  /** Where `window`, `daily` and `weekly` begin; as `until`. */
  from: string;
  /** Minutes that `daily` and `weekly` last each time, as text. */
  each: string;
  /** What a field for date and time holds, in this browser's time zone. */
  until: string;
}
export interface LinkErrors {
  guest?: 'required';
  parts?: 'required';
  port?: 'bad';
  from?: 'required';
  until?: 'past' | 'order';
}

/** The parts that someone with these rights can share: nobody shares what they do not have. */
export const shareable = (rights: number, device: Device): Part[] => ORDER.filter((part) => whyNot(part, rights, device) === '');

/** A port as people write it: undefined for none, null for what is none. */
export function portOf(words: string): { port: number; host?: string } | undefined | null {
  const written = words.trim();
  if (!written) return undefined;
  const found = /^(?:([A-Za-z0-9._[\]%:-]+):)?(\d{1,5})$/.exec(written);
  const port = Number(found?.[2]);
  if (!found || port < 1 || port > 65535) return null;
  return found[1] ? { port, host: found[1] } : { port };
}

/** The request for a form, or what is wrong with it. `now` is the server's clock, in milliseconds. */
export function linkRequest(form: LinkForm, now: number): { fields: Record<string, unknown> } | { errors: LinkErrors } {
  const guestname = form.guest.trim();
  const errors: LinkErrors = {};
  if (!guestname) errors.guest = 'required';
  const tcp = portOf(form.port ?? '');
  if (tcp === null) errors.port = 'bad';
  else if (form.parts.length === 0 && !tcp) errors.parts = 'required';
  const recurring = form.time === 'daily' ? 1 : form.time === 'weekly' ? 2 : null;
  const end = form.time === 'until' || form.time === 'window' ? new Date(form.until).getTime() : null;
  const start = form.time === 'window' || recurring ? new Date(form.from).getTime() : now;
  if (Number.isNaN(start)) errors.from = 'required';
  if (end !== null && !(end > now)) errors.until = 'past';
  else if (end !== null && end <= start) errors.until = 'order';
  if (Object.keys(errors).length > 0) return { errors };
  let p = 0;
  let consent = 0;
  for (const part of form.parts) {
    const { bit, tell, ask } = PARTS[part];
    p |= bit;
    consent |= (form.tell ? tell : 0) | (form.ask ? ask : 0);
  }
  const seconds = Math.floor(start / 1000);
  const times =
    recurring ? { recurring, start: seconds, expire: Number(form.each) }
    : end === null ? { expire: Number(form.time) }
    : { start: seconds, end: Math.ceil(end / 1000) };
  return { fields: { guestname, p, consent, ...times, ...(tcp ? { tcp } : {}), ...(form.viewOnly && form.parts.includes('desktop') ? { viewOnly: true } : {}) } };
}

/** The links in an answer, the first to end first. What is no link is left out. */
export function linksOf(reply: Message): GuestLink[] {
  const list: unknown[] = Array.isArray(reply.deviceShares) ? reply.deviceShares : [];
  const links = list.filter((one): one is GuestLink => {
    const link = one as Partial<GuestLink> | null;
    return typeof link === 'object' && link !== null && typeof link.publicid === 'string' && typeof link.p === 'number' && typeof link.guestName === 'string';
  });
  return links.sort((a, b) => (a.expireTime ?? Infinity) - (b.expireTime ?? Infinity) || a.guestName.localeCompare(b.guestName));
}

/** What a link opens, in words. */
export function partsWords(link: GuestLink): string {
  const shared = ORDER.filter((part) => (link.p & PARTS[part].bit) !== 0);
  const names = shared.map((part) => (part === 'desktop' && link.viewOnly ? words.watching : words.parts[part]));
  return [...names, ...(link.tcp ? [words.tcp(link.tcp)] : [])].join(', ');
}

/** When it does. */
export function timeWords(link: GuestLink, now: number): string {
  const { startTime, expireTime, recurring, duration } = link;
  if (recurring && startTime !== undefined) return (recurring === 1 ? words.daily : words.weekly)(exact(startTime), duration ?? 0);
  if (!expireTime) return words.endless;
  return startTime !== undefined && startTime > now ? words.window(exact(startTime), exact(expireTime)) : words.ends(exact(expireTime));
}

/** A moment as a field for date and time holds it: local, to the minute. */
export function fieldTime(moment: number): string {
  const local = new Date(moment - new Date(moment).getTimezoneOffset() * 60_000);
  return local.toISOString().slice(0, 16);
}
