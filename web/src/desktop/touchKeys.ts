/** Keys that a touch keyboard lacks, for the desktop: what stands on them, what they are called, their codes. */
import { remote } from '../text.remote';

const words = remote.desktop;
export const MODIFIERS = [
  ['Ctrl', 'ControlLeft'],
  ['Alt', 'AltLeft'],
  ['Shift', 'ShiftLeft'],
  ['Win', 'MetaLeft'],
] as const;
export const KEYS: [string, string, string][] = [
  ['Esc', 'Esc', 'Escape'],
  ['Tab', 'Tab', 'Tab'],
  ['←', words.left, 'ArrowLeft'],
  ['↓', words.down, 'ArrowDown'],
  ['↑', words.up, 'ArrowUp'],
  ['→', words.right, 'ArrowRight'],
  ['Del', 'Del', 'Delete'],
  ['Home', 'Home', 'Home'],
  ['End', 'End', 'End'],
  ['PgUp', 'PgUp', 'PageUp'],
  ['PgDn', 'PgDn', 'PageDown'],
  ...Array.from({ length: 12 }, (_, n): [string, string, string] => [`F${n + 1}`, `F${n + 1}`, `F${n + 1}`]),
];
