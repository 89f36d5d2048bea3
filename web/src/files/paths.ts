/** Paths on a device, written as its agent wants them: `/` between the parts, also on Windows. */

/** The top: the root, or on Windows the list of drives. */
export const topOf = (windows: boolean): string => (windows ? '' : '/');

export function join(folder: string, name: string): string {
  if (folder === '') return `${name}/`;
  return folder.endsWith('/') ? folder + name : `${folder}/${name}`;
}

export function parentOf(path: string, windows: boolean): string | null {
  const crumbs = crumbsOf(path, windows);
  return crumbs.length > 1 ? (crumbs.at(-2)?.path ?? null) : null;
}

export interface Crumb {
  name: string;
  path: string;
}

/** A path's parts, each with the path up to it; the first is the top with an empty name. */
export function crumbsOf(path: string, windows: boolean): Crumb[] {
  const crumbs: Crumb[] = [{ name: '', path: topOf(windows) }];
  let at = topOf(windows);
  for (const part of path.split('/').filter(Boolean)) {
    at = join(at, part);
    crumbs.push({ name: part, path: at });
  }
  return crumbs;
}

/** A path a person typed, in the device's form: backslashes turned, no doubled or trailing slashes, a root where one belongs. */
export function typedPath(typed: string, windows: boolean): string {
  const parts = (windows ? typed.replaceAll('\\', '/') : typed).split('/').filter(Boolean);
  return parts.reduce((path, part) => join(path, part), topOf(windows));
}

/** Why a name cannot be given to a file; null when it can. */
export function badName(name: string, windows: boolean): 'empty' | 'dots' | 'slash' | 'windows' | 'long' | null {
  if (name === '') return 'empty';
  if (name === '.' || name === '..') return 'dots';
  if (name.includes('/') || name.includes('\0')) return 'slash';
  if (windows && /[\\:*?"<>|]|[. ]$/.test(name)) return 'windows';
  if (new TextEncoder().encode(name).length > 255) return 'long';
  return null;
}

/** Permissions as `ls` shows them: `rwxr-x---`. */
export const modeText = (mode: number): string => Array.from({ length: 9 }, (_, n) => ((mode >> (8 - n)) & 1 ? 'rwx'[n % 3] : '-')).join('');

/**
 * A name as one line of visible text: control characters as their pictures, direction marks as what they are, and bytes
 * that are no UTF-8, which our agent sends as characters of the last private plane, as their numbers.
 */
export const visible = (name: string): string =>
  name.replace(/[\u{10fe80}-\u{10feff}]/gu, (c) => `\\x${((c.codePointAt(0) ?? 0) & 255).toString(16)}`).replace(/[\u0000-\u001f]/g, (c) => String.fromCharCode(0x2400 + c.charCodeAt(0))).replace(/\u007f/g, '\u2421').replace(/[\u0080-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g, '\ufffd');
