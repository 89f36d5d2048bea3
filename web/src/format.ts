/** Numbers and times as people read them. Times are milliseconds since 1970 unless said otherwise. */
import { text } from './text';

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const;

/** `1536` → `1.5 KiB`. */
export function bytes(amount: number): string {
  let size = amount;
  let unit = 0;
  while (size >= 1024 && unit < UNITS.length - 1) {
    size /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || size >= 100 ? 0 : 1;
  return `${size.toFixed(digits).replace(/\.0$/, '')} ${UNITS[unit]}`;
}

/** `now − then` in words, coarse on purpose; the exact time belongs in a title. */
export function ago(then: number, now: number): string {
  const seconds = Math.round((now - then) / 1000);
  if (seconds < -90) return text.time.ahead;
  if (seconds < 10) return text.time.now;
  if (seconds < 60) return text.time.seconds(seconds);
  if (seconds < 3600) return text.time.minutes(Math.floor(seconds / 60));
  if (seconds < 48 * 3600) return text.time.hours(Math.floor(seconds / 3600));
  return text.time.days(Math.floor(seconds / 86400));
}

const dateTime = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'medium' });
const shortTime = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const shortDate = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit' });
const weekday = new Intl.DateTimeFormat(undefined, { weekday: 'short', day: 'numeric' });

export const exact = (time: number): string => dateTime.format(time);
export const dayName = (time: number): string => weekday.format(time);

/** A log's time: the hour for today, with the day before that. */
export function stamp(time: number, now: number): string {
  return new Date(time).toDateString() === new Date(now).toDateString() ? shortTime.format(time) : shortDate.format(time);
}

/** `3725` → `1:02:05`. */
export function clock(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  const two = (n: number) => String(n).padStart(2, '0');
  const hours = Math.floor(whole / 3600);
  const rest = `${two(Math.floor((whole % 3600) / 60))}:${two(whole % 60)}`;
  return hours > 0 ? `${hours}:${rest}` : rest.replace(/^0/, '');
}

/** An operating system's long description cut to what tells machines apart at a glance. */
export function shortSystem(description: string | undefined): string {
  if (!description) return '';
  return description
    .replace(/\((.*?)\)/g, '')
    .replace(/Microsoft |GNU\/Linux ?|Professional|, .*$| - .*$/g, (part) => (part === 'Professional' ? 'Pro' : part.startsWith('GNU') ? '' : ''))
    .replace(/\s+/g, ' ')
    .trim();
}

/** Browser and system out of a user-agent line, for the list of sessions. */
export function browserName(userAgent: string): string {
  const browser =
    /Edg\//.test(userAgent) ? 'Edge'
    : /Firefox\//.test(userAgent) ? 'Firefox'
    : /Chrome\//.test(userAgent) ? 'Chrome'
    : /Safari\//.test(userAgent) ? 'Safari'
    : '';
  const system =
    /Android/.test(userAgent) ? 'Android'
    : /iPhone|iPad/.test(userAgent) ? 'iOS'
    : /Windows/.test(userAgent) ? 'Windows'
    : /Mac OS X/.test(userAgent) ? 'macOS'
    : /Linux/.test(userAgent) ? 'Linux'
    : '';
  return [browser, system].filter(Boolean).join(', ') || userAgent.slice(0, 60);
}
