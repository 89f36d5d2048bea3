import { describe, expect, it } from 'vitest';
import { addressKey, arrange, type Arrangement } from '../src/devices/order';
import { rowWindow, scrollToRow } from '../src/ui/window';
import { stretches } from '../src/devices/timeline';
import type { Device } from '../src/wire/protocol';
import { sortKey } from '../src/stores/fleet.svelte';

const found = (name: string, more: Partial<Device> = {}) => ({ device: { _id: `node//${name}`, meshid: 'mesh//a', name, ...more } as Device, key: sortKey(name) });
const groups = new Map([
  ['mesh//a', { _id: 'mesh//a', name: 'Attic', mtype: 2, domain: '' }],
  ['mesh//b', { _id: 'mesh//b', name: 'basement', mtype: 2, domain: '' }],
]);
const plan = (more: Partial<Arrangement> = {}): Arrangement => ({ grouped: false, sort: { column: 'name', down: false }, folded: new Set(), groups, noGroup: 'Shared', lastSeen: () => undefined, ...more });
const ids = (lines: ReturnType<typeof arrange>) => lines.map((line) => (line.kind === 'group' ? `[${line.name} ${line.online}/${line.total}]` : line.device.name));

describe('the order of devices', () => {
  it('sorts both ways', () => {
    const list = [found('b'), found('a10'), found('a2')];
    expect(ids(arrange(list, plan()))).toEqual(['a2', 'a10', 'b']);
    expect(ids(arrange(list, plan({ sort: { column: 'name', down: true } })))).toEqual(['b', 'a10', 'a2']);
  });

  it('puts what has no value last whichever way', () => {
    const list = [found('x'), found('y', { ip: '10.0.0.10' }), found('z', { ip: '10.0.0.9' })];
    expect(ids(arrange(list, plan({ sort: { column: 'address', down: false } })))).toEqual(['z', 'y', 'x']);
    expect(ids(arrange(list, plan({ sort: { column: 'address', down: true } })))).toEqual(['y', 'z', 'x']);
    expect(addressKey('10.0.0.9') as string < (addressKey('10.0.0.10') as string)).toBe(true);
  });

  it('shows groups by name, folded ones without their devices, and strangers at the end', () => {
    const list = [found('s', { meshid: 'mesh//gone' }), found('b1', { meshid: 'mesh//b', conn: 1 }), found('a1')];
    expect(ids(arrange(list, plan({ grouped: true, folded: new Set(['mesh//b']) })))).toEqual(['[Attic 0/1]', 'a1', '[basement 1/1]', '[Shared 0/1]', 's']);
  });
});

describe('rows in sight', () => {
  it('covers the viewport and no more than a margin', () => {
    const range = rowWindow(36_000, 900, 36, 10_000, 8);
    expect(range.start).toBeLessThanOrEqual(1000);
    expect(range.end).toBeGreaterThanOrEqual(1025);
    expect(range.end - range.start).toBeLessThan(60);
  });

  it('holds at both ends and for an empty list', () => {
    expect(rowWindow(0, 900, 36, 3, 8)).toEqual({ start: 0, end: 3 });
    expect(rowWindow(-50, 900, 36, 0, 8)).toEqual({ start: 0, end: 0 });
    const past = rowWindow(1e9, 900, 36, 100, 8);
    expect(past.end).toBe(100);
    expect(past.start).toBeLessThanOrEqual(past.end);
  });

  it('scrolls no further than needed', () => {
    expect(scrollToRow(5, 0, 360, 36)).toBe(0);
    expect(scrollToRow(10, 0, 360, 36)).toBe(36);
    expect(scrollToRow(2, 360, 360, 36)).toBe(72);
  });
});

describe('the power history', () => {
  const second = 1_700_000_000;
  it('reads the wire’s deltas', () => {
    const now = (second + 1000) * 1000;
    expect(stretches([0, second, 1, 100, 3, 200, 0], 0, now)).toEqual([
      { from: second * 1000, to: (second + 100) * 1000, state: 1 },
      { from: (second + 100) * 1000, to: (second + 300) * 1000, state: 3 },
      { from: (second + 300) * 1000, to: now, state: 0 },
    ]);
  });

  it('cuts to the time shown, takes milliseconds, and refuses what is no timeline', () => {
    const now = (second + 1000) * 1000;
    expect(stretches([1, second * 1000, 1], (second + 500) * 1000, now)).toEqual([{ from: (second + 500) * 1000, to: now, state: 1 }]);
    expect(stretches('nonsense', 0, now)).toEqual([]);
    expect(stretches([1, 'x', 2], 0, now)).toEqual([]);
  });
});
