import { describe, expect, it } from 'vitest';
import { hardwareFacts, interfaces, memorySize } from '../src/devices/hardware';

describe('hardware facts', () => {
  it('sum the memory, name the parts and leave out what vendors forgot to fill in', () => {
    const facts = hardwareFacts({
      identifiers: { product_name: 'To be filled by O.E.M.', cpu_name: 'Some CPU', board_vendor: 'Maker', board_name: 'B1', board_serial: 'Default string', gpu_name: ['G1', ''], storage_devices: [{ Caption: 'Disk', Size: 1024 ** 3 }] },
      linux: { memory: { Memory_Device: [{ Size: '8 GB', Type: 'DDR4' }, { Size: '8192 MB', Type: 'DDR4' }, { Size: 'No Module Installed' }] } },
    });
    const shown = facts.map((fact) => `${fact.label}: ${fact.value}`);
    expect(shown).toEqual(['Processor: Some CPU', 'Memory: 16 GiB DDR4 (8 GiB + 8 GiB)', 'Graphics: G1', 'Storage: Disk (1 GiB)', 'Board: Maker B1']);
  });

  it('survive anything an agent may send instead', () => {
    for (const odd of [null, 7, 'x', [], { identifiers: 3 }, { identifiers: { gpu_name: 'x', storage_devices: [null, 5] }, linux: { memory: [] } }]) {
      expect(hardwareFacts(odd)).toEqual([]);
    }
  });

  it('read sizes with their units', () => {
    expect(memorySize('16 GB')).toBe(16 * 1024 ** 3);
    expect(memorySize('512MiB')).toBe(512 * 1024 ** 2);
    expect(memorySize(4096)).toBe(4096);
    expect(memorySize('No Module Installed')).toBe(0);
  });
});

describe('interfaces', () => {
  it('leave out loopback and put those that are up first', () => {
    const found = interfaces({
      lo: [{ address: '127.0.0.1', type: 'loopback', status: 'up' }],
      wlan0: [{ mac: 'aa:bb:cc:dd:ee:ff', type: 'wireless', status: 'down' }],
      zeth: [{ address: '192.0.2.2', gateway: '192.0.2.1', mac: '00:00:00:00:00:00', status: 'up' }],
    });
    expect(found.map((one) => [one.name, one.up, one.mac])).toEqual([
      ['zeth', true, ''],
      ['wlan0', false, 'aa:bb:cc:dd:ee:ff'],
    ]);
    expect(found[0]?.addresses).toEqual([{ address: '192.0.2.2', gateway: '192.0.2.1' }]);
  });

  it('survive anything else', () => {
    for (const odd of [null, 'x', { eth0: null }, { eth0: [null, 3] }]) expect(() => interfaces(odd)).not.toThrow();
  });
});
