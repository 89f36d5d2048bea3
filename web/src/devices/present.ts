/** Who is connected to a device now, out of what its agent reports: kind of session → key of a person → how many. */
import { text } from '../text';
import type { DeviceSessions } from '../wire/protocol';

export interface Present {
  /** The key: a user's id, for a guest with `/guest:` and the name in base64 behind it. */
  key: string;
  user: string;
  guest: string | null;
  /** What they are called. */
  who: string;
  /** `kvm`, `terminal`, … with how many of each. */
  kinds: { kind: string; count: number }[];
}

const GUEST = '/guest:';
/** Kinds that are sessions of somebody; agents report messages and programs in the same place. */
const KINDS: readonly string[] = ['kvm', 'terminal', 'files', 'tcp', 'udp'];

function guestName(encoded: string): string {
  try {
    return new TextDecoder().decode(Uint8Array.from(atob(encoded), (character) => character.charCodeAt(0))).slice(0, 128);
  } catch {
    return '';
  }
}

export function presentOn(sessions: DeviceSessions | undefined, nameOf: (user: string) => string | undefined): Present[] {
  const found = new Map<string, Present>();
  for (const kind of KINDS) {
    const people: unknown = sessions?.[kind];
    if (typeof people !== 'object' || people === null) continue;
    for (const [key, number] of Object.entries(people)) {
      const count = Number(number);
      if (!(count > 0)) continue;
      const at = key.indexOf(GUEST);
      const user = at < 0 ? key : key.slice(0, at);
      const guest = at < 0 ? null : guestName(key.slice(at + GUEST.length));
      const called = nameOf(user) ?? user.split('/')[2] ?? user;
      const one = found.get(key) ?? { key, user, guest, who: guest === null ? called : text.device.guestOf(guest, called), kinds: [] };
      one.kinds.push({ kind, count });
      found.set(key, one);
    }
  }
  return [...found.values()].sort((a, b) => a.who.localeCompare(b.who));
}

/** `desktop, 2 terminals`. */
export const kindsWords = (one: Present): string => one.kinds.map(({ kind, count }) => text.device.kindOfSession(kind, count)).join(', ');

/** `Ann: desktop. Bob: terminal.` */
export const presentWords = (all: readonly Present[]): string => all.map((one) => `${one.who}: ${kindsWords(one)}`).join(' · ');
