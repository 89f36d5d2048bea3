import { describe, expect, it } from 'vitest';
import { after, count, csv, firstLine, tone, type Run } from '../src/jobs/jobs';

const run: Run = { nodeid: 'node//a', name: 'Pi', state: 'sent', changed: 1 };

describe('a run', () => {
  it('follows the events about it', () => {
    expect(after(run, { action: 'jobrun', nodeid: 'node//b', state: 'done' })).toBeNull();
    expect(after(run, { action: 'jobrun', nodeid: 'node//a', state: 'nonsense' })).toBeNull();
    const heard = after(run, { action: 'joboutput', nodeid: 'node//a', text: 'one\n' });
    expect(heard?.output).toBe('one\n');
    const done = after(heard as Run, { action: 'jobrun', nodeid: 'node//a', state: 'done', changed: 9, exit: 3, output: 'one\ntwo\n' });
    expect(done).toMatchObject({ name: 'Pi', state: 'done', changed: 9, exit: 3, output: 'one\ntwo\n' });
  });

  it('keeps the end of what is written without end', () => {
    let now = run;
    for (let n = 0; n < 100; n += 1) now = after(now, { action: 'joboutput', nodeid: 'node//a', text: 'x'.repeat(1000) }) as Run;
    expect(now.output?.length).toBe(8192);
    expect(now.cut).toBe(true);
    // Its end comes whole, and says itself whether there is more.
    expect(after(now, { action: 'jobrun', nodeid: 'node//a', state: 'done', output: 'x' })?.cut).toBeUndefined();
  });

  it('is in trouble when it ended with anything but 0', () => {
    expect(tone({ ...run, state: 'done', exit: 0 })).toBe('good');
    expect(tone({ ...run, state: 'done' })).toBe('good');
    expect(tone({ ...run, state: 'done', exit: 1 })).toBe('bad');
    expect(tone({ ...run, state: 'expired' })).toBe('bad');
    expect(tone({ ...run, state: 'waiting' })).toBe('quiet');
    expect(count([run, { ...run, state: 'done' }])).toMatchObject({ sent: 1, done: 1, waiting: 0 });
  });
});

describe('a table of runs', () => {
  it('quotes what has to be, and lets no spreadsheet compute', () => {
    const table = csv([{ ...run, name: '=cmd()', state: 'done', exit: -1, output: 'a "b",\nc' }]);
    expect(table).toBe('\uFEFFdevice,id,state,time,exit,reason,output\r\n\'=cmd(),node//a,done,1970-01-01T00:00:00.001Z,-1,,"a ""b"",\nc"\r\n');
  });
});

describe('a script', () => {
  it('is known by its first line that says something', () => {
    expect(firstLine('#!/bin/sh\n\n# why\nuptime\ndf')).toBe('uptime');
    expect(firstLine('# only this')).toBe('# only this');
    expect(firstLine('')).toBe('');
  });
});
