/**
 * All devices and groups this account may see, kept current by events. The map is plain; `version` moves on an
 * animation frame and at most ten times a second, so a thousand events in a burst cost one redraw.
 */
import type { Device, DeviceGroup, DeviceSessions, Link, LoggedEvent } from '../wire/protocol';

export type DeviceState = 'online' | 'sleeping' | 'offline';

/** Online when an agent (or Intel AMT) is connected, sleeping when the last known power state says so. */
export function stateOf(device: Device): DeviceState {
  if ((device.conn ?? 0) !== 0) return 'online';
  const power = device.pwr ?? 0;
  return power >= 2 && power <= 5 ? 'sleeping' : 'offline';
}

/** A text under which "pc-2" sorts before "pc-10", whatever the case. */
export function sortKey(name: string): string {
  return name.toLowerCase().replace(/\d+/g, (digits) => digits.padStart(10, '0'));
}

interface Entry {
  device: Device;
  /** Everything the filter looks at, in lower case; the sort key of the name. */
  haystack: string;
  key: string;
}

function describe(device: Device): Entry {
  const parts = [device.name, device.rname, device.host, device.ip, device.osdesc, device.desc, ...(device.tags ?? []), ...(device.users ?? [])];
  return { device, haystack: parts.filter(Boolean).join('\n').toLowerCase(), key: sortKey(device.name) };
}

/** The least time between two redraws: sorting 10,000 devices costs more than one frame can spare. */
const REDRAW_MS = 100;

export class Fleet {
  #entries = new Map<string, Entry>();
  #byKey = new Map<string, string>();
  #lastSeen = new Map<string, number>();
  #scheduled = false;

  version = $state(0);
  loaded = $state(false);
  groups = $state.raw<ReadonlyMap<string, DeviceGroup>>(new Map());

  /** Asked for when an event shows that what we may see has changed. */
  onStale: () => void = () => {};

  constructor(private readonly nextFrame: (run: () => void) => void = browserFrame) {}

  get size(): number {
    return (this.version, this.#entries.size);
  }

  get devices(): Device[] {
    return (this.version, [...this.#entries.values()].map((entry) => entry.device));
  }

  device(id: string): Device | undefined {
    return (this.version, this.#entries.get(id)?.device);
  }

  /** By the last part of the id, as it stands in the URL. */
  byKey(key: string): Device | undefined {
    return (this.version, this.#entries.get(this.#byKey.get(key) ?? '')?.device);
  }

  byName(name: string): Device | undefined {
    const wanted = name.toLowerCase();
    for (const { device } of this.#entries.values()) if (device.name.toLowerCase() === wanted) return device;
    return undefined;
  }

  groupByKey(key: string): DeviceGroup | undefined {
    for (const group of this.groups.values()) if (group._id.endsWith(`/${key}`)) return group;
    return undefined;
  }

  lastSeen(id: string): number | undefined {
    return (this.version, this.#lastSeen.get(id));
  }

  counts(): { total: number; online: number; byGroup: Map<string, { total: number; online: number }> } {
    void this.version;
    const byGroup = new Map<string, { total: number; online: number }>();
    let online = 0;
    for (const { device } of this.#entries.values()) {
      const count = byGroup.get(device.meshid) ?? { total: 0, online: 0 };
      byGroup.set(device.meshid, count);
      count.total += 1;
      if (stateOf(device) === 'online') {
        count.online += 1;
        online += 1;
      }
    }
    return { total: this.#entries.size, online, byGroup };
  }

  /** Devices whose texts contain every word of `words`, in no particular order. */
  matching(words: string): { device: Device; key: string }[] {
    void this.version;
    const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
    const found: Entry[] = [];
    for (const entry of this.#entries.values()) {
      if (wanted.every((word) => entry.haystack.includes(word))) found.push(entry);
    }
    return found;
  }

  // --- what the server says -------------------------------------------------------------------------------

  setGroups(groups: DeviceGroup[]): void {
    this.groups = new Map(groups.map((group) => [group._id, group]));
    this.#touch();
  }

  setDevices(byGroup: Record<string, Omit<Device, 'meshid'>[]>): void {
    this.#entries.clear();
    this.#byKey.clear();
    for (const [meshid, devices] of Object.entries(byGroup)) for (const device of devices) this.#put({ ...device, meshid } as Device);
    this.loaded = true;
    this.#touch();
  }

  setLastSeen(times: Record<string, number>): void {
    for (const [id, time] of Object.entries(times)) this.#lastSeen.set(id, time);
    this.#touch();
  }

  clear(): void {
    this.#entries.clear();
    this.#byKey.clear();
    this.#lastSeen.clear();
    this.groups = new Map();
    this.loaded = false;
    this.#touch();
  }

  /** Applies one event of the control socket; unknown ones change nothing. */
  apply(event: LoggedEvent): void {
    const node = event.node as Device | undefined;
    const id = (event.nodeid as string | undefined) ?? node?._id;
    switch (event.action) {
      case 'nodeconnect':
        if (id) this.#connected(id, event);
        break;
      case 'addnode':
      case 'changenode':
        if (node) this.#merge(node);
        break;
      case 'nodemeshchange': {
        const meshid = event.newMeshId as string;
        if (!id) break;
        if (!this.groups.has(meshid)) this.#drop(id);
        else if (node) this.#merge({ ...node, meshid });
        else this.#change(id, { meshid });
        break;
      }
      case 'removenode':
        if (id) this.#drop(id);
        break;
      case 'devicesessions':
        if (id) this.#change(id, { sessions: (event.sessions as DeviceSessions | undefined) ?? {} });
        break;
      case 'createmesh':
        if (event.mesh) this.#putGroup(event.mesh as DeviceGroup);
        break;
      case 'meshchange': {
        const group = this.groups.get(event.meshid as string);
        if (!group) {
          this.onStale();
          break;
        }
        const changed: DeviceGroup = { ...group };
        for (const field of ['name', 'desc', 'flags', 'consent', 'expireDevs'] as const) {
          if (event[field] !== undefined) Object.assign(changed, { [field]: event[field] });
        }
        if (event.links) changed.links = event.links as Record<string, Link>;
        this.#putGroup(changed);
        break;
      }
      case 'deletemesh': {
        const meshid = event.meshid as string;
        for (const [key, { device }] of this.#entries) if (device.meshid === meshid) this.#drop(key);
        const groups = new Map(this.groups);
        if (groups.delete(meshid)) this.groups = groups;
        break;
      }
    }
  }

  #connected(id: string, event: LoggedEvent): void {
    const known = this.#entries.get(id)?.device;
    const conn = Number(event.conn ?? 0);
    if (!known) {
      if (conn !== 0 && this.groups.has(event.meshid as string)) this.onStale();
      return;
    }
    const at = typeof event.ct === 'number' ? event.ct : Date.now();
    // A device that goes was alive a moment ago; one that comes is alive now.
    if (conn !== 0 || (known.conn ?? 0) !== 0) this.#lastSeen.set(id, conn !== 0 ? at : Date.now());
    this.#change(id, conn !== 0 ? { conn, pwr: Number(event.pwr ?? 1), agct: at } : { conn: 0, pwr: Number(event.pwr ?? 0) });
  }

  /** An event's device has no live state of its own; what we know of it stays. */
  #merge(device: Device): void {
    const known = this.#entries.get(device._id)?.device;
    const meshid = device.meshid ?? known?.meshid;
    if (!meshid || (!known && !this.groups.has(meshid) && Object.keys(device.links ?? {}).length === 0)) return;
    const live: Partial<Device> = {};
    for (const field of ['conn', 'pwr', 'agct', 'sessions'] as const) {
      if (device[field] === undefined && known?.[field] !== undefined) Object.assign(live, { [field]: known[field] });
    }
    this.#put({ ...device, ...live, meshid });
    this.#touch();
  }

  #change(id: string, change: Partial<Device>): void {
    const known = this.#entries.get(id)?.device;
    if (!known) return;
    this.#put({ ...known, ...change });
    this.#touch();
  }

  #put(device: Device): void {
    // Names come from hosts; one that is not text at all must not break sorting for all others.
    if (typeof device.name !== 'string') device.name = String(device.name ?? '');
    if (device.tags && !Array.isArray(device.tags)) delete device.tags;
    this.#entries.set(device._id, describe(device));
    this.#byKey.set(device._id.slice(device._id.lastIndexOf('/') + 1), device._id);
  }

  #drop(id: string): void {
    if (!this.#entries.delete(id)) return;
    this.#byKey.delete(id.slice(id.lastIndexOf('/') + 1));
    this.#touch();
  }

  #putGroup(group: DeviceGroup): void {
    this.groups = new Map(this.groups).set(group._id, group);
    this.#touch();
  }

  #touch(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    this.nextFrame(() => {
      this.#scheduled = false;
      this.version += 1;
    });
  }
}

/** Animation frames stop in a hidden page; a slow timer keeps the lists right there. */
function browserFrame(run: () => void): void {
  const wait = lastRedraw + REDRAW_MS - performance.now();
  if (document.hidden) setTimeout(run, 250);
  else if (wait > 0) setTimeout(() => browserFrame(run), wait);
  else
    requestAnimationFrame((time) => {
      lastRedraw = time;
      run();
    });
}
let lastRedraw = -REDRAW_MS;

export const fleet = new Fleet();
