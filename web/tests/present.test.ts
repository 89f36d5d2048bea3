import { describe, expect, it } from 'vitest';
import { presentOn, presentWords } from '../src/devices/present';

describe('who is connected to a device', () => {
  const names: Record<string, string> = { 'user//ann': 'Ann' };
  const words = (sessions: unknown): string => presentWords(presentOn(sessions as never, (id) => names[id]));

  it('names people with what they do, guests with their hosts', () => {
    expect(words({ kvm: { 'user//ann': 1 }, terminal: { 'user//bob': 2, 'user//ann': 1 } })).toBe('Ann: desktop, terminal · bob: 2 terminals');
    const guest = `user//ann/guest:${btoa(String.fromCharCode(...new TextEncoder().encode('Zoë')))}`;
    expect(words({ kvm: { [guest]: 1 } })).toBe('Zoë (guest of Ann): desktop');
  });

  it('is not led astray by what an agent makes up', () => {
    for (const odd of [undefined, {}, { kvm: null }, { kvm: 'x' }, { kvm: { 'user//ann': -1 } }, { app: { x: 1 } }, { msg: { y: {} } }]) expect(words(odd)).toBe('');
    expect(words({ files: { 'user//ann/guest:%%%': 1 } })).toBe('Guest (guest of Ann): files');
  });
});
