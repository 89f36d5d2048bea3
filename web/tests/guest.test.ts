import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { fieldTime, linkRequest, linksOf, partsWords, shareable, timeWords, type LinkForm } from '../src/devices/guestLinks';
import { desktopAllowed, whyNot } from '../src/devices/tabs';
import { shareOf } from '../src/guest/address';
import { deviceOf, guestRights, GuestShare, refusalOf } from '../src/guest/share.svelte';
import { mayShare } from '../src/rights';
import { HttpError, type SharedDevice } from '../src/wire/http';
import { FULL_RIGHTS } from '../src/wire/protocol';

const shared = (change: Partial<SharedDevice> = {}): SharedDevice => ({
  guestName: 'Eve', host: 'Ada', nodeid: 'node//a', deviceName: 'bench', connected: true, protocols: [1, 2, 5], viewOnly: false,
  until: null, serverTime: 5_000, serverTitle: 'Box', auth: 'A1', ...change,
});
const refusal = (code: string, start?: number, status = 404): HttpError => new HttpError('no', status, code, undefined, undefined, start);

describe('a share’s address', () => {
  it('is the page below the base, and no other', () => {
    expect(shareOf('/', { pathname: '/sharing', search: '?c=ab%40c$' })).toBe('ab@c$');
    expect(shareOf('/acme/', { pathname: '/acme/sharing', search: '?c=x' })).toBe('x');
    expect(shareOf('/', { pathname: '/sharing', search: '' })).toBe('');
    expect(shareOf('/acme/', { pathname: '/sharing', search: '?c=x' })).toBeNull();
    expect(shareOf('/', { pathname: '/app/sharing', search: '?c=x' })).toBeNull();
  });
});

describe('what a guest is shown', () => {
  it('is what is shared, and nothing else of the device', () => {
    const device = deviceOf(shared());
    const rights = guestRights(shared({ protocols: [1] }));
    expect(whyNot('terminal', rights, device)).toBe('');
    for (const tab of ['desktop', 'files', 'console'] as const) expect(whyNot(tab, rights, device), tab).not.toBe('');
  });
  it('is a desktop to look at where no more is shared', () => {
    expect(desktopAllowed(guestRights(shared({ protocols: [2], viewOnly: true })))).toBe('view');
    expect(desktopAllowed(guestRights(shared({ protocols: [2] })))).toBe('control');
  });
  it('knows whether the device is there, and what its agent can do', () => {
    expect(deviceOf(shared({ connected: false })).conn).toBe(0);
    const device = deviceOf(shared({ agent: { id: 6, caps: 2 } }));
    expect(whyNot('desktop', guestRights(shared()), device)).toMatch(/offers no desktop/);
  });
});

describe('a link that is refused', () => {
  it('says why, and when it opens if that is still to come', () => {
    expect(refusalOf(refusal('not-yet', 9_000), 1_000)).toEqual({ kind: 'refused', why: 'not-yet', start: 9_000 });
    expect(refusalOf(refusal('not-yet', 900), 1_000)).toEqual({ kind: 'refused', why: 'not-yet', start: null });
    expect(refusalOf(refusal('over', 9_000), 1_000)).toEqual({ kind: 'refused', why: 'over', start: null });
    expect(refusalOf(refusal('what?'), 1_000)).toMatchObject({ why: 'unknown' });
  });
  it('is told from a server in trouble', () => {
    expect(refusalOf(refusal('over', undefined, 500), 0)).toBeNull();
    expect(refusalOf(new Error('down'), 0)).toBeNull();
  });
});

describe('a guest’s share', () => {
  let answers: (SharedDevice | Error)[];
  let asked: number;
  let share: GuestShare;
  let stop: () => void;
  beforeEach(() => {
    vi.useFakeTimers({ now: 100_000 });
    answers = [];
    asked = 0;
    share = new GuestShare('L', (link) => {
      asked += 1;
      const answer = answers.length > 1 ? answers.shift() : answers[0];
      return link === 'L' && answer && !(answer instanceof Error) ? Promise.resolve(answer) : Promise.reject(answer ?? new Error('none'));
    });
    stop = () => undefined;
  });
  afterEach(() => {
    stop();
    vi.useRealTimers();
  });
  const begin = async (...all: (SharedDevice | Error)[]): Promise<void> => {
    answers = all;
    stop = share.start();
    await vi.advanceTimersByTimeAsync(0);
  };

  it('counts the end on this browser’s clock, whatever the server’s says', async () => {
    await begin(shared({ serverTime: 5_000, until: 65_000 }));
    expect(share.state).toMatchObject({ kind: 'open', until: 160_000 });
  });
  it('looks again when its time is over, not a quarter of a minute later', async () => {
    await begin(shared({ serverTime: 5_000, until: 8_000 }), refusal('over'));
    await vi.advanceTimersByTimeAsync(2_900);
    expect(share.state.kind).toBe('open');
    await vi.advanceTimersByTimeAsync(600);
    expect(share.state).toMatchObject({ kind: 'refused', why: 'over' });
    const before = asked;
    await vi.advanceTimersByTimeAsync(120_000);
    expect(asked).toBe(before);
  });
  it('opens by itself when its time comes', async () => {
    await begin(refusal('not-yet', 104_000), shared());
    expect(share.state).toMatchObject({ kind: 'refused', start: 104_000 });
    await vi.advanceTimersByTimeAsync(4_500);
    expect(share.state.kind).toBe('open');
  });
  it('stays in sight while the server does not answer', async () => {
    await begin(shared(), new Error('down'));
    await vi.advanceTimersByTimeAsync(15_000);
    expect([share.state.kind, share.reachable]).toEqual(['open', false]);
    answers = [shared()];
    await vi.advanceTimersByTimeAsync(5_000);
    expect(share.reachable).toBe(true);
  });
  it('asks for a fresh cookie for each session, and for nothing else', async () => {
    await begin(shared(), shared({ auth: 'A2' }), refusal('over'));
    const link = share.line.tunnel('node//a');
    expect(await link.cookies()).toEqual({ cookie: 'A2', rcookie: '' });
    expect(await link.ask({ type: 'tunnel' })).toBe('OK');
    await expect(link.cookies()).rejects.toThrow('This link has ended');
    expect(share.state.kind).toBe('refused');
  });
  it('looks soon after a session ended, even while an answer is on its way', async () => {
    await begin(shared(), shared(), refusal('over'));
    const looking = share.look();
    share.lookSoon();
    await looking;
    expect(share.state.kind).toBe('open');
    await vi.advanceTimersByTimeAsync(500);
    expect(share.state.kind).toBe('refused');
  });
  it('asks once for several who want to know at once', async () => {
    await begin(shared());
    await Promise.all([share.look(), share.line.cookie(), share.line.cookie()]);
    expect(asked).toBe(2);
  });
});

describe('making a link', () => {
  const NOW = 1_700_000_000_500;
  const form = (change: Partial<LinkForm> = {}): LinkForm => ({ guest: ' Eve ', parts: ['terminal'], viewOnly: false, tell: false, ask: false, time: '60', from: '', each: '60', until: '', ...change });

  it('needs remote control and the right to share, and free hands', () => {
    expect([FULL_RIGHTS, 8 | 0x80000].map(mayShare)).toEqual([true, true]);
    expect([8, 0x80000, 8 | 0x80000 | 0x1000, 0].map(mayShare)).toEqual([false, false, false, false]);
  });
  it('offers what one has oneself, where the device has it', () => {
    const device = { _id: 'node//a', meshid: 'mesh//m', name: 'bench', agent: { caps: 2 | 4 } };
    expect(shareable(FULL_RIGHTS, device)).toEqual(['terminal', 'files']);
    expect(shareable(8 | 0x400, device)).toEqual(['terminal']);
  });
  it('asks for what was chosen, with the consent flags of just those parts', () => {
    expect(linkRequest(form(), NOW)).toEqual({ fields: { guestname: 'Eve', p: 1, consent: 0, expire: 60 } });
    expect(linkRequest(form({ parts: ['desktop', 'files'], tell: true, viewOnly: true }), NOW)).toEqual({ fields: { guestname: 'Eve', p: 6, consent: 5, expire: 60, viewOnly: true } });
    expect(linkRequest(form({ parts: ['terminal', 'desktop'], ask: true }), NOW)).toMatchObject({ fields: { p: 3, consent: 24 } });
    expect(linkRequest(form({ parts: [], port: ' 10.0.0.5:80 ' }), NOW)).toEqual({ fields: { guestname: 'Eve', p: 0, consent: 0, expire: 60, tcp: { port: 80, host: '10.0.0.5' } } });
    expect(linkRequest(form({ port: '22' }), NOW)).toMatchObject({ fields: { p: 1, tcp: { port: 22 } } });
    for (const port of ['0', '65536', 'ssh', 'a b:1', ':22', '22:']) expect(linkRequest(form({ port }), NOW), port).toEqual({ errors: { port: 'bad' } });
    expect(linkRequest(form({ viewOnly: true, time: '0' }), NOW)).toEqual({ fields: { guestname: 'Eve', p: 1, consent: 0, expire: 0 } });
  });
  it('ends at a moment in seconds, which lies ahead', () => {
    const request = linkRequest(form({ time: 'until', until: fieldTime(NOW + 7_200_000) }), NOW);
    expect(request).toMatchObject({ fields: { start: 1_700_000_000 } });
    // The field holds no seconds.
    const end = Number('fields' in request ? request.fields.end : Number.NaN);
    expect(end).toBeGreaterThan(1_700_000_000 + 7200 - 60);
    expect(end).toBeLessThanOrEqual(1_700_000_001 + 7200);
    for (const until of ['', 'soon', fieldTime(NOW - 120_000)]) expect(linkRequest(form({ time: 'until', until }), NOW), until).toEqual({ errors: { until: 'past' } });
  });
  it('opens from one moment to another, every day or every week', () => {
    const [from, until] = [fieldTime(NOW + 3_600_000), fieldTime(NOW + 7_200_000)];
    const window = linkRequest(form({ time: 'window', from, until }), NOW);
    const { start, end } = ('fields' in window ? window.fields : {}) as { start: number; end: number };
    expect(end - start).toBe(3600);
    expect(start).toBeGreaterThan(NOW / 1000 + 3600 - 60);
    expect(linkRequest(form({ time: 'window', from: until, until: from }), NOW)).toEqual({ errors: { until: 'order' } });
    expect(linkRequest(form({ time: 'daily', from, each: '120' }), NOW)).toMatchObject({ fields: { recurring: 1, start, expire: 120 } });
    expect(linkRequest(form({ time: 'weekly', from, each: '60' }), NOW)).toMatchObject({ fields: { recurring: 2, start, expire: 60 } });
    expect(linkRequest(form({ time: 'weekly', from: '' }), NOW)).toEqual({ errors: { from: 'required' } });
  });
  it('says all that is missing at once', () => {
    expect(linkRequest(form({ guest: '  ', parts: [], time: 'until' }), NOW)).toEqual({ errors: { guest: 'required', parts: 'required', until: 'past' } });
  });
  it('lists what the server names, the first to end first, and leaves out what is no link', () => {
    const link = (publicid: string, more = {}) => ({ publicid, p: 1, guestName: publicid, ...more });
    const listed = linksOf({ action: 'deviceShares', deviceShares: [link('endless'), link('late', { expireTime: 9 }), null, 'x', { publicid: 'bad' }, link('early', { expireTime: 5 })] });
    expect(listed.map(({ publicid }) => publicid)).toEqual(['early', 'late', 'endless']);
    expect(linksOf({ action: 'deviceShares' })).toEqual([]);
  });
  it('is told in words', () => {
    const link = { publicid: 'a', p: 7, guestName: 'Eve' };
    expect(partsWords(link)).toBe('Desktop, Terminal, Files');
    expect(partsWords({ ...link, p: 2, viewOnly: true })).toBe('Desktop (to watch)');
    expect(timeWords(link, NOW)).toBe('until it is taken back');
    expect(timeWords({ ...link, startTime: NOW - 1, expireTime: NOW + 1 }, NOW)).toMatch(/^until /);
    expect(timeWords({ ...link, startTime: NOW + 1, expireTime: NOW + 2 }, NOW)).toMatch(/^from .* until /);
    expect(timeWords({ ...link, startTime: NOW, recurring: 2, duration: 1 }, NOW)).toMatch(/^every week from .*, for 1 minute$/);
  });
});
