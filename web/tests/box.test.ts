import { afterEach, describe, expect, it, vi } from 'vitest';
import { calls, clockOff, isBusy, lendTime, nearlyFull, timeSource, type About } from '../src/box/box';
import { parsePath, pathOf } from '../src/router.svelte';
import { words } from '../src/text.box';

const NOW = 1_795_454_143_007;

function about(more: { box?: Partial<NonNullable<About['box']>> | null; now?: number; synchronised?: boolean; battery?: boolean; work?: About['work'] } = {}): About {
  return {
    version: '0.1.0', serverUptime: 10, illness: null, problem: null, work: more.work ?? { state: 'idle' },
    facts: {
      name: 'outpost', model: null, uptime: 20, memory: { total: 1, available: 1, own: 1 }, storage: null, temperature: null, network: [],
      time: { now: more.now ?? NOW, synchronised: more.synchronised ?? false, battery: more.battery ?? false },
    },
    box: more.box === null ? null : { compatible: 'outpost-rpi-arm64', booted: 'A', confirmed: true, slots: [], outcome: null, incidents: [], installing: false, synchronised: more.synchronised ?? false, ...more.box },
  };
}

describe('the clock of a box', () => {
  it('is off when it differs from the browser by more than two minutes and no time server has set it', () => {
    expect(clockOff(about(), NOW + 60_000)).toBeNull();
    expect(clockOff(about(), NOW + 180_000)).toBe(180_000);
    expect(clockOff(about(), NOW - 180_000)).toBe(-180_000);
    expect(clockOff(about({ synchronised: true }), NOW + 180_000)).toBeNull();
  });

  it('is nobody’s business on a system of its own', () => {
    expect(clockOff(about({ box: null }), NOW + 10 * 86_400_000)).toBeNull();
  });

  it('says where its time comes from', () => {
    expect(timeSource(about({ synchronised: true, battery: true }))).toBe('synchronised');
    expect(timeSource(about({ battery: true }))).toBe('battery');
    expect(timeSource(about())).toBe('unset');
  });
});

describe('a new box', () => {
  afterEach(() => vi.restoreAllMocks());

  it('is lent the browser’s time only when it has none', async () => {
    const set = vi.spyOn(calls, 'setTime').mockResolvedValue({ now: 0 });
    vi.spyOn(calls, 'about').mockResolvedValueOnce(about({ now: Date.now() })).mockResolvedValueOnce(about({ now: 0, synchronised: true })).mockResolvedValueOnce(about({ now: 0 }));
    expect(await lendTime()).toBe(false);
    expect(await lendTime()).toBe(false);
    expect(set).not.toHaveBeenCalled();
    expect(await lendTime()).toBe(true);
    expect(Math.abs(set.mock.calls[0]![0] - Date.now())).toBeLessThan(5000);
  });
});

describe('a box that goes', () => {
  afterEach(() => vi.unstubAllGlobals());

  it('may be gone before it answers, and says no otherwise', async () => {
    vi.stubGlobal('document', { baseURI: 'https://outpost.local/' });
    vi.stubGlobal('fetch', () => Promise.reject(new TypeError('the connection is gone')));
    await expect(calls.restart()).resolves.toBeUndefined();
    await expect(calls.about()).rejects.toMatchObject({ code: 'unreachable' });
    vi.stubGlobal('fetch', async () => new Response(JSON.stringify({ error: { code: 'no-box', message: 'No box' } }), { status: 409 }));
    await expect(calls.restart()).rejects.toMatchObject({ code: 'no-box' });
  });
});

describe('the page', () => {
  it('looks often while an update is on its way, whoever began it', () => {
    expect(isBusy(about())).toBe(false);
    expect(isBusy(about({ work: { state: 'receiving', received: 1, total: null } }))).toBe(true);
    expect(isBusy(about({ work: { state: 'installing', percent: 5, step: '' } }))).toBe(true);
    expect(isBusy(about({ work: { state: 'failed', code: 'x', message: 'y', at: 0 } }))).toBe(false);
    expect(isBusy(about({ box: { installing: true } }))).toBe(true);
  });

  it('warns before the storage is full', () => {
    expect(nearlyFull({ total: 100, free: 6 })).toBe(false);
    expect(nearlyFull({ total: 100, free: 4 })).toBe(true);
  });

  it('has an address', () => {
    expect(parsePath(pathOf({ page: 'box' }))).toEqual({ page: 'box' });
  });

  it('says how long in words', () => {
    expect(words.lasting(93_784)).toBe('1 day, 2 h');
    expect(words.lasting(7260)).toBe('2 h 1 min');
    expect(words.lasting(59)).toBe('0 min');
    expect(words.speed(1000)).toBe('1 Gbit/s');
    expect(words.outcome.why(null)).toBe('Why: it did not start.');
  });
});
