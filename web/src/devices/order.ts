/** The lines of the device list out of the devices: sorted, and under their groups when wished. */
import { stateOf } from '../stores/fleet.svelte';
import type { Device, DeviceGroup } from '../wire/protocol';

export type Column = 'name' | 'group' | 'system' | 'address' | 'seen' | 'tags' | 'agent' | 'users';

export type Line =
  | { kind: 'group'; id: string; name: string; total: number; online: number; folded: boolean }
  | { kind: 'device'; id: string; device: Device };

export interface Arrangement {
  grouped: boolean;
  sort: { column: string; down: boolean };
  /** Ids of the groups whose devices are folded away. */
  folded: ReadonlySet<string>;
  groups: ReadonlyMap<string, DeviceGroup>;
  /** What stands over devices whose group we may not see. */
  noGroup: string;
  lastSeen(id: string): number | undefined;
}

interface Found {
  device: Device;
  /** The name as it sorts. */
  key: string;
}

/** What a device sorts by in a column; `null` sorts last whichever way. */
function value(found: Found, { sort, groups, lastSeen }: Arrangement): string | number | null {
  const { device } = found;
  switch (sort.column) {
    case 'group':
      return groups.get(device.meshid)?.name.toLowerCase() ?? null;
    case 'system':
      return device.osdesc?.toLowerCase() ?? null;
    case 'address':
      return addressKey(device.ip ?? device.host ?? undefined);
    case 'seen':
      return stateOf(device) === 'online' ? -Infinity : -(lastSeen(device._id) ?? device.agct ?? 0) || null;
    case 'tags':
      return device.tags?.join(' ').toLowerCase() || null;
    case 'agent':
      return device.agent?.core?.toLowerCase() ?? null;
    case 'users':
      return device.users?.join(' ').toLowerCase() || null;
    default:
      return found.key;
  }
}

/** IPv4 addresses sort by number, so .9 comes before .10. */
export function addressKey(address: string | undefined): string | null {
  if (!address) return null;
  const bare = address.replace(/:\d+$/, '');
  return /^\d+\.\d+\.\d+\.\d+$/.test(bare) ? bare.replace(/\d+/g, (part) => part.padStart(3, '0')) : address;
}

function sorted(found: Found[], arrangement: Arrangement): Found[] {
  const byName = arrangement.sort.column === 'name';
  const rows = found.map((one) => ({ one, by: byName ? one.key : value(one, arrangement) }));
  const turn = arrangement.sort.down ? -1 : 1;
  rows.sort((a, b) => {
    if (a.by !== b.by) {
      if (a.by === null) return 1;
      if (b.by === null) return -1;
      return a.by < b.by ? -turn : turn;
    }
    return a.one.key < b.one.key ? -1 : a.one.key > b.one.key ? 1 : a.one.device._id < b.one.device._id ? -1 : 1;
  });
  return rows.map((row) => row.one);
}

export function arrange(found: Found[], arrangement: Arrangement): Line[] {
  const rows = sorted(found, arrangement);
  if (!arrangement.grouped) return rows.map(({ device }) => ({ kind: 'device', id: device._id, device }));
  const buckets = new Map<string, Device[]>();
  for (const { device } of rows) {
    const id = arrangement.groups.has(device.meshid) ? device.meshid : '';
    const bucket = buckets.get(id);
    if (bucket) bucket.push(device);
    else buckets.set(id, [device]);
  }
  const order = [...buckets.keys()].sort((a, b) => {
    if (!a || !b) return a ? -1 : 1;
    const left = arrangement.groups.get(a)?.name.toLowerCase() ?? '';
    const right = arrangement.groups.get(b)?.name.toLowerCase() ?? '';
    return left < right ? -1 : left > right ? 1 : 0;
  });
  const lines: Line[] = [];
  for (const id of order) {
    const devices = buckets.get(id) ?? [];
    const folded = arrangement.folded.has(id);
    let online = 0;
    for (const device of devices) if (stateOf(device) === 'online') online += 1;
    lines.push({ kind: 'group', id, name: arrangement.groups.get(id)?.name ?? arrangement.noGroup, total: devices.length, online, folded });
    if (!folded) for (const device of devices) lines.push({ kind: 'device', id: device._id, device });
  }
  return lines;
}
