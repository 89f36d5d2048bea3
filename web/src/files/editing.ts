/** A text file as it is edited: what of its bytes is not text (byte order mark, line ends) is kept as it was. */
import { remote } from '../text.remote';
import { FilesError } from './session';

/** Larger files are not edited in a page. */
export const MOST_EDITED = 2 * 1024 * 1024;

export interface Text {
  /** With `\n` between lines, as a page's text fields have it. */
  words: string;
  bom: boolean;
  end: '\n' | '\r\n';
  /** Line ends were of both kinds: saving makes them one. */
  mixed: boolean;
}

const BOM = '\ufeff';

/** Reads a file; fails with words when it would not come back as it was. */
export function textOf(bytes: Uint8Array): Text {
  if (bytes.includes(0)) throw new FilesError(remote.files.editBinary);
  let words: string;
  try {
    words = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new FilesError(remote.files.editEncoding);
  }
  const bom = words.startsWith(BOM);
  if (bom) words = words.slice(1);
  const pairs = words.split('\r\n').length - 1;
  const lines = words.split('\n').length - 1;
  // A carriage return of its own would become a line end in a text field.
  if (words.split('\r').length - 1 !== pairs) throw new FilesError(remote.files.editBinary);
  const end = pairs * 2 > lines ? '\r\n' : '\n';
  return { words: words.replaceAll('\r\n', '\n'), bom, end, mixed: pairs > 0 && pairs < lines };
}

/** The bytes of an edited file. */
export function bytesOf(text: Pick<Text, 'bom' | 'end'>, words: string): Uint8Array<ArrayBuffer> {
  const lines = words.replaceAll('\r\n', '\n');
  return new TextEncoder().encode((text.bom ? BOM : '') + (text.end === '\n' ? lines : lines.replaceAll('\n', text.end)));
}
