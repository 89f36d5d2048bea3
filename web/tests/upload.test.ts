import { describe, expect, it } from 'vitest';
import { Pace } from '../src/wire/upload';

describe('the pace of a transfer', () => {
  it('is not told before it is known', () => {
    const pace = new Pace(1000);
    expect(pace.at(0, 0)).toEqual({ sent: 0, total: 1000, rate: 0, left: null });
    expect(pace.at(100, 400).left).toBeNull();
  });

  it('follows what happened lately', () => {
    const pace = new Pace(10_000);
    pace.at(0, 0);
    expect(pace.at(1000, 1000)).toEqual({ sent: 1000, total: 10_000, rate: 1000, left: 9 });
    for (let at = 2; at <= 20; at += 1) pace.at(1000 + (at - 1) * 100, at * 1000);
    const slow = pace.at(3000, 21_000);
    expect(slow.rate).toBeCloseTo(100, 0);
    expect(slow.left).toBeCloseTo(70, 0);
  });

  it('stands still with its transfer', () => {
    const pace = new Pace(100);
    pace.at(50, 0);
    expect(pace.at(50, 10_000)).toEqual({ sent: 50, total: 100, rate: 0, left: null });
  });
});
