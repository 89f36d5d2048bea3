/** What the rights bits mean to the page. The server decides; this only hides what would be refused. */
import { FULL_RIGHTS, type Device, type DeviceGroup, type User, type UserGroup } from './wire/protocol';
import { text } from './text';

export const Right = {
  EditGroup: 1,
  ManageMembers: 2,
  ManageDevices: 4,
  RemoteControl: 8,
  Console: 16,
  Wake: 64,
  Notes: 128,
  ViewOnly: 256,
  NoTerminal: 512,
  NoFiles: 1024,
  LimitedInput: 4096,
  Notify: 16384,
  Uninstall: 32768,
  NoDesktop: 65536,
  RunCommands: 131072,
  Power: 262144,
  GuestSharing: 524288,
  Details: 1048576,
} as const;

export const SiteRight = { ManageUsers: 2, Locked: 32, NoNewGroups: 64, UserGroups: 256, Recordings: 512, NoNewDevices: 4096 } as const;

/** Bits that grant something, in the order the editor shows them. */
export const GRANTS = [8, 131072, 262144, 64, 128, 1048576, 16384, 4, 32768, 1, 2, 524288, 2097152, 16, 32, 256] as const;
/** Bits that take something away. */
export const LIMITS = [512, 1024, 65536, 4096, 8192, 2048] as const;
/** A link on a single device may not carry these. */
export const GROUP_ONLY = [1, 2, 4] as const;
export const SITE_GRANTS = [2, 256, 8, 512, 2048, 16, 1, 4] as const;
export const SITE_LIMITS = [64, 4096, 128, 1024] as const;

export const OPERATE = 8 + 64 + 128 + 16384 + 131072 + 262144 + 1048576;
export const VIEW = 1048576;

export const has = (rights: number, bit: number): boolean => rights === FULL_RIGHTS || (rights & bit) !== 0;

/** A bit that takes something away; it does not bind full rights. */
export const limited = (rights: number, bit: number): boolean => rights !== FULL_RIGHTS && (rights & bit) !== 0;

const union = (a: number, b: number): number => (a === FULL_RIGHTS || b === FULL_RIGHTS ? FULL_RIGHTS : (a | b) >>> 0);

/** A user's rights on a group: the own link and those of the user groups they are in. */
export function groupRights(user: User | null, group: DeviceGroup | undefined): number {
  if (!user || !group) return 0;
  let rights = group.links?.[user._id]?.rights ?? 0;
  for (const id of Object.keys(user.links ?? {})) if (id.startsWith('ugrp/')) rights = union(rights, group.links?.[id]?.rights ?? 0);
  return rights;
}

/** A user's rights on a device: through its group, and by links on the device itself. */
export function deviceRights(user: User | null, device: Device | undefined, group: DeviceGroup | undefined): number {
  if (!user || !device) return 0;
  let rights = union(groupRights(user, group), device.links?.[user._id]?.rights ?? 0);
  for (const id of Object.keys(user.links ?? {})) if (id.startsWith('ugrp/')) rights = union(rights, device.links?.[id]?.rights ?? 0);
  return rights;
}

/** Whether someone with these rights may make links for guests. */
export const mayShare = (rights: number): boolean =>
  has(rights, Right.RemoteControl) && has(rights, Right.GuestSharing) && !limited(rights, Right.LimitedInput);

export function maySite(user: User | null, bit: number): boolean {
  return has(user?.siteadmin ?? 0, bit);
}

/** Negative site bits do not bind a full administrator. */
export function siteLimited(user: User | null, bit: number): boolean {
  const rights = user?.siteadmin ?? 0;
  return rights !== FULL_RIGHTS && (rights & bit) !== 0;
}

/** Rights in words: a preset's name, or the few bits, or how many. */
export function rightsWords(rights: number): string {
  const value = rights >>> 0;
  if (value === FULL_RIGHTS) return text.rights.full;
  if (value === OPERATE) return text.rights.operate;
  if (value === VIEW) return text.rights.view;
  const granted = GRANTS.filter((bit) => (value & bit) !== 0);
  const limits = LIMITS.filter((bit) => (value & bit) !== 0);
  if (granted.length + limits.length === 0) return text.rights.none;
  if (granted.length + limits.length <= 2) return [...granted, ...limits].map((bit) => text.rights.bits[bit]).join(', ');
  return text.rights.summary(granted.length + limits.length);
}

/** All bits of a value as a list of words, for a title or a detail line. */
export function rightsList(rights: number): string[] {
  if (rights >>> 0 === FULL_RIGHTS) return [text.rights.fullHelp];
  return [...GRANTS, ...LIMITS].filter((bit) => (rights & bit) !== 0).map((bit) => text.rights.bits[bit] ?? '');
}

export function siteWords(user: User): string {
  const rights = (user.siteadmin ?? 0) >>> 0;
  if (rights === FULL_RIGHTS) return text.users.siteAdmin;
  const granted = SITE_GRANTS.filter((bit) => (rights & bit) !== 0);
  if (granted.length === 0) return text.users.siteNone;
  if (rights & SiteRight.ManageUsers) return text.users.siteManager;
  return text.users.siteWords(granted.length);
}

export const isLocked = (user: User): boolean => siteLimited(user, SiteRight.Locked);

/** The name behind a link's id, from whatever list knows it. */
export function principalName(id: string, link: { name?: string } | undefined, users: Map<string, User>, groups: Map<string, UserGroup>): string {
  return users.get(id)?.name ?? groups.get(id)?.name ?? link?.name ?? id.split('/').at(-1) ?? id;
}
