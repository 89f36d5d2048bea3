/** What a client printed without what differs from run to run: ids, times, ports, secrets. */

import { hostname } from 'node:os';

const escape = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');

/** The text with the ids that a run knows by their names, the others by their kind. */
export function plain(text, server) {
  let out = text.replace(/\r/g, '');
  for (const [name, id] of Object.entries(server.ids)) {
    const key = id.split('/').at(-1);
    if (key.length >= 8) out = out.replaceAll(encodeURIComponent(key), `{${name}}`).replace(new RegExp(`(?<![\\w@$])${escape(key)}(?![\\w@$])`, 'g'), `{${name}}`);
  }
  out = out.replaceAll(`"${hostname()}"`, '"{HOST}"');
  return out
    .replace(/\b(c|cookie|auth)=[\w@$=%-]{40,}/g, '$1={cookie}')
    .replace(/"(cookie|rcookie)": ?"[^"]+"/g, '"$1":"{cookie}"')
    .replace(/(?<![\w@$])[\w@$]{64}(?![\w@$])/g, '{id}')
    .replace(/(user\/\/[\w-]+\/)[0-9a-f]{40}/g, '$1{session}')
    .replace(/~t:[\w]{16}/g, '{token}')
    .replace(/\b[0-9A-Fa-f]{96}\b/g, '{hash}')
    .replace(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z/g, '{time}')
    .replace(/\d{1,2}\/\d{1,2}\/20\d\d, \d{1,2}:\d\d:\d\d [AP]M/g, '{time}')
    .replace(/(?<!\d)1[789]\d{11}(?!\d)/g, '{time}')
    .replace(/(?<!\d)1[789]\d{8}(?!\d)/g, '{time}')
    .replaceAll(`127.0.0.1:${server.port}`, '127.0.0.1:{port}')
    .replaceAll(String(server.port), '{port}')
    .replace(/127\.0\.0\.1:\d{4,5}/g, '127.0.0.1:{port}')
    .replace(/[ \t]+$/gm, '')
    .trim();
}

/** The kinds of value in a JSON answer, to compare shapes: `{a:1,b:[{c:"x"}]}` becomes `{a:number,b:[{c:string}]}`. */
export function shape(value) {
  if (Array.isArray(value)) return value.length ? `[${[...new Set(value.map(shape))].sort().join('|')}]` : '[]';
  if (value === null) return 'null';
  if (typeof value !== 'object') return typeof value;
  return `{${Object.keys(value).sort().map((key) => `${key}:${shape(value[key])}`).join(',')}}`;
}

/** JSON with its fields in the order of their names. */
export function canonical(value) {
  const ordered = (one) =>
    Array.isArray(one) ? one.map(ordered) : one && typeof one === 'object' ? Object.fromEntries(Object.keys(one).sort().filter((key) => one[key] !== undefined).map((key) => [key, ordered(one[key])])) : one;
  return JSON.stringify(ordered(value));
}
