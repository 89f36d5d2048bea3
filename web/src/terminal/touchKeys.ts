/** Keys that a touch keyboard lacks, for the terminal: what stands on them, what they are called, what they send. */
import { text } from '../text';

export const MODIFIERS = [['Ctrl', 'ctrl']] as const;
export const KEYS: [string, string, string][] = [
  ['Esc', 'Esc', '\x1b'],
  ['Tab', 'Tab', '\t'],
  ['←', text.terminal.left, '\x1b[D'],
  ['↓', text.terminal.down, '\x1b[B'],
  ['↑', text.terminal.up, '\x1b[A'],
  ['→', text.terminal.right, '\x1b[C'],
  ['|', '|', '|'],
  ['/', '/', '/'],
  ['~', '~', '~'],
];
