import { describe, expect, it } from 'vitest';
import { ago, browserName, bytes, clock, shortSystem } from '../src/format';
import { deviceRights, groupRights, has, OPERATE, rightsWords, siteLimited, siteWords } from '../src/rights';
import { parsePath, parseQuery, pathOf, type Route } from '../src/router.svelte';
import { text } from '../src/text';
import { passphrase } from '../src/wire/passphrase';
import { FULL_RIGHTS, type Device, type DeviceGroup, type User } from '../src/wire/protocol';

describe('numbers and times', () => {
  it('reads as people do', () => {
    expect(bytes(0)).toBe('0 B');
    expect(bytes(1536)).toBe('1.5 KiB');
    expect(bytes(100 * 1024 * 1024)).toBe('100 MiB');
    expect(clock(3725)).toBe('1:02:05');
    expect(clock(65)).toBe('1:05');
    const now = 1_700_000_000_000;
    expect(ago(now - 4 * 60_000, now)).toBe('4 min ago');
    expect(ago(now - 3 * 86_400_000, now)).toBe('3 days ago');
  });

  it('shortens systems without losing the version', () => {
    expect(shortSystem('Debian GNU/Linux 13 (trixie)')).toBe('Debian 13');
    expect(shortSystem('Microsoft Windows 11 Pro - 23H2/22631.4317')).toBe('Windows 11 Pro');
    expect(shortSystem(undefined)).toBe('');
    expect(browserName('Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0')).toBe('Firefox, Linux');
  });
});

describe('addresses of pages', () => {
  it('come back as what they were', () => {
    const key = `${'aB3@$'.repeat(12)}wxyz`;
    const routes: Route[] = [
      { page: 'devices' }, { page: 'device', key, tab: 'general' }, { page: 'device', key, tab: 'terminal' }, { page: 'groups' }, { page: 'group', key },
      { page: 'events' }, { page: 'users' }, { page: 'user', key: 'ännä/b' }, { page: 'ugroups' }, { page: 'ugroup', key }, { page: 'account' }, { page: 'server' }, { page: 'welcome' },
    ];
    for (const route of routes) expect(parsePath(pathOf(route))).toEqual(route);
  });

  it('fall back to the devices', () => {
    for (const path of ['', 'nonsense', 'app', 'app/none', 'app/devices/%E0%A4%A']) expect(parsePath(path)).toEqual({ page: 'devices' });
  });

  it('honour MeshCentral’s query', () => {
    const key = 'k'.repeat(64);
    expect(parseQuery(new URLSearchParams(`viewmode=12&gotonode=${key}&hide=31`))).toMatchObject({ route: { page: 'device', key, tab: 'terminal' }, hide: 31 });
    expect(parseQuery(new URLSearchParams(`viewmode=10&node=node//${key}`)).route).toEqual({ page: 'device', key, tab: 'general' });
    expect(parseQuery(new URLSearchParams('viewmode=2')).route).toEqual({ page: 'account' });
    expect(parseQuery(new URLSearchParams('gotodevicename=web-1')).deviceName).toBe('web-1');
    expect(parseQuery(new URLSearchParams('')).route).toBeNull();
  });
});

describe('rights', () => {
  const user: User = { _id: 'user//bo', name: 'bo', links: { 'ugrp//ops': { rights: 1 } } };
  const group: DeviceGroup = { _id: 'mesh//a', name: 'a', mtype: 2, domain: '', links: { 'user//bo': { rights: 8 }, 'ugrp//ops': { rights: 64 } } };
  const device: Device = { _id: 'node//d', meshid: 'mesh//a', name: 'd', links: { 'user//bo': { rights: 128 } } };

  it('add up over the own link, user groups and the device', () => {
    expect(groupRights(user, group)).toBe(72);
    expect(deviceRights(user, device, group)).toBe(200);
    expect(groupRights(null, group)).toBe(0);
  });

  it('treat the full value as one', () => {
    const full = { ...group, links: { 'user//bo': { rights: FULL_RIGHTS } } };
    expect(deviceRights(user, device, full)).toBe(FULL_RIGHTS);
    expect(has(FULL_RIGHTS, 32768)).toBe(true);
    expect(siteLimited({ ...user, siteadmin: FULL_RIGHTS }, 64)).toBe(false);
    expect(siteLimited({ ...user, siteadmin: 64 }, 64)).toBe(true);
  });

  it('are told in words', () => {
    expect(rightsWords(FULL_RIGHTS)).toBe(text.rights.full);
    expect(rightsWords(OPERATE)).toBe(text.rights.operate);
    expect(rightsWords(0)).toBe(text.rights.none);
    expect(siteWords({ ...user, siteadmin: FULL_RIGHTS })).toBe(text.users.siteAdmin);
  });
});

describe('pass-phrases', () => {
  it('satisfy the policy and say their entropy honestly', () => {
    const { phrase, bits } = passphrase({ upper: 2, numeric: 3 });
    expect(phrase).toMatch(/^([A-Za-z]{6}-){4}\d{3}$/);
    expect(phrase.match(/[A-Z]/g)).toHaveLength(2);
    // 12 syllables of 16 × 5: 12 · log2(80) = 75.86.
    expect(bits).toBe(75);
  });

  it('use every syllable about equally often', () => {
    const counts = new Map<string, number>();
    for (let n = 0; n < 2000; n += 1) for (const word of passphrase({}).phrase.split('-')) for (const syllable of word.match(/../g) ?? []) counts.set(syllable, (counts.get(syllable) ?? 0) + 1);
    expect(counts.size).toBe(80);
    // 24,000 draws over 80 syllables: 300 each, σ ≈ 17; eight σ never fail by chance.
    for (const count of counts.values()) expect(Math.abs(count - 300)).toBeLessThan(140);
  });
});
