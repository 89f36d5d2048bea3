/** What agents report about hardware and network, read with care: any part may be missing or of another type. */
import { bytes } from '../format';
import { text } from '../text';

type Loose = Record<string, unknown>;
const object = (value: unknown): Loose => (typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Loose) : {});
const list = (value: unknown): unknown[] => (Array.isArray(value) ? value : []);
/** Boards ship with these where a vendor forgot to fill something in. */
const FILLER = /^(default string|to be filled by o\.?e\.?m\.?|system (product name|manufacturer|serial number|version)|not specified|none|n\/a|unknown|0+|\.)$/i;
const words = (...values: unknown[]): string =>
  values
    .filter((value): value is string | number => typeof value === 'string' || typeof value === 'number')
    .map((value) => String(value).trim())
    .filter((value) => value !== '' && !FILLER.test(value))
    .join(' ');

export interface Fact {
  label: string;
  value: string;
}

/** The `hardware` of `getsysinfo` as lines to show, the most telling first. */
export function hardwareFacts(hardware: unknown): Fact[] {
  const all = object(hardware);
  const ids = object(all.identifiers);
  const facts: Fact[] = [];
  const add = (label: string, value: string): void => {
    if (value) facts.push({ label, value });
  };
  add(text.device.product, words(ids.product_name));
  add(text.device.cpu, words(ids.cpu_name) || words(object(list(object(all.windows).cpu)[0]).Name));
  const memory = memoryModules(all);
  if (memory.length > 0) {
    const total = memory.reduce((sum, module) => sum + module.bytes, 0);
    const kinds = [...new Set(memory.map((module) => module.kind).filter(Boolean))].join(', ');
    add(text.device.memory, words(total > 0 ? bytes(total) : '', kinds, memory.length > 1 ? `(${memory.map((module) => bytes(module.bytes)).join(' + ')})` : ''));
  }
  const total = Number(object(object(all.linux).memory).total);
  if (memory.length === 0 && total > 0) add(text.device.memory, bytes(total));
  for (const name of list(ids.gpu_name)) add(text.device.gpu, words(name));
  for (const drive of list(ids.storage_devices)) {
    const { Caption, Model, Size } = object(drive);
    const size = Number(Size);
    add(text.device.storage, words(Caption ?? Model, size > 0 ? `(${bytes(size)})` : ''));
  }
  add(text.device.board, words(ids.board_vendor, ids.board_name, ids.board_version));
  add(text.device.serial, words(ids.board_serial) || words(ids.product_serial) || words(ids.bios_serial));
  const bios = [words(ids.bios_vendor, ids.bios_version), words(ids.bios_date), words(ids.bios_mode)].filter(Boolean);
  add(text.device.bios, bios.join(', '));
  return facts;
}

interface Module {
  bytes: number;
  kind: string;
}

/** "16 GB", "16384 MB" or a plain number of bytes. */
export function memorySize(size: unknown): number {
  if (typeof size === 'number') return size;
  const found = /^\s*([\d.]+)\s*([KMGT]?)i?B?/i.exec(typeof size === 'string' ? size : '');
  if (!found) return 0;
  return Number(found[1]) * 1024 ** ['', 'K', 'M', 'G', 'T'].indexOf((found[2] ?? '').toUpperCase());
}

function memoryModules(hardware: Loose): Module[] {
  const linux = object(object(hardware.linux).memory);
  const devices = [...list(linux.Memory_Device), ...(Array.isArray(linux.Memory_Device) ? [] : Object.values(object(linux.Memory_Device)))];
  const windows = list(object(hardware.windows).memory);
  return [...devices, ...windows]
    .map((module) => object(module))
    .map((module) => ({ bytes: memorySize(module.Size) || Number(module.Capacity) || 0, kind: words(module.Type) }))
    .filter((module) => module.bytes > 0);
}

export interface Interface {
  name: string;
  up: boolean | null;
  kind: string;
  mac: string;
  addresses: { address: string; gateway: string }[];
}

/** The `netif2` of `getnetworkinfo`; loopback is left out, connected interfaces come first. */
export function interfaces(netif2: unknown): Interface[] {
  const found: Interface[] = [];
  for (const [name, entries] of Object.entries(object(netif2))) {
    const all = list(entries).map(object);
    if (name === 'lo' || all.some((entry) => entry.type === 'loopback')) continue;
    const mac = words(all.find((entry) => words(entry.mac))?.mac);
    found.push({
      name,
      up: all.some((entry) => entry.status === 'up') ? true : all.some((entry) => entry.status === 'down') ? false : null,
      kind: words(all[0]?.type),
      mac: /^[0:]*$/.test(mac) ? '' : mac,
      addresses: all.filter((entry) => words(entry.address)).map((entry) => ({ address: words(entry.address), gateway: words(entry.gateway) })),
    });
  }
  return found.sort((a, b) => Number(b.up === true) - Number(a.up === true) || (a.name < b.name ? -1 : 1));
}
