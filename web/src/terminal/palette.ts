/** The terminal's colours: sixteen that keep their meaning, on the page's own background. */
import type { ITheme } from '@xterm/xterm';

export const dark: ITheme = {
  background: '#0b1013',
  foreground: '#dfe7ea',
  cursor: '#56c2dc',
  cursorAccent: '#0b1013',
  selectionBackground: '#2f5f70',
  black: '#1d262b',
  red: '#ff7b72',
  green: '#5fce8f',
  yellow: '#e6b450',
  blue: '#79b8ff',
  magenta: '#d8a1ff',
  cyan: '#56c2dc',
  white: '#c6d0d4',
  brightBlack: '#7d8b92',
  brightRed: '#ffa198',
  brightGreen: '#8ee8b4',
  brightYellow: '#f5cf7f',
  brightBlue: '#a5d0ff',
  brightMagenta: '#e8c6ff',
  brightCyan: '#8fdcef',
  brightWhite: '#ffffff',
};

export const light: ITheme = {
  background: '#fbfcfc',
  foreground: '#172024',
  cursor: '#086a85',
  cursorAccent: '#fbfcfc',
  selectionBackground: '#bfe1ea',
  black: '#172024',
  red: '#b3261e',
  green: '#17703f',
  yellow: '#805300',
  blue: '#0b57b7',
  magenta: '#8230a8',
  cyan: '#086a85',
  white: '#5b6970',
  brightBlack: '#5b6970',
  brightRed: '#c4362d',
  brightGreen: '#1d7d49',
  brightYellow: '#8a5a00',
  brightBlue: '#1f6bd0',
  brightMagenta: '#9440ba',
  brightCyan: '#0d7690',
  brightWhite: '#172024',
};

/** Ethan Schoonover's Solarized, in its dark and its light form. */
const solarized: ITheme = {
  black: '#073642',
  red: '#dc322f',
  green: '#859900',
  yellow: '#b58900',
  blue: '#268bd2',
  magenta: '#d33682',
  cyan: '#2aa198',
  white: '#eee8d5',
  brightBlack: '#586e75',
  brightRed: '#cb4b16',
  brightGreen: '#586e75',
  brightYellow: '#657b83',
  brightBlue: '#839496',
  brightMagenta: '#6c71c4',
  brightCyan: '#93a1a1',
  brightWhite: '#fdf6e3',
};

/** What can be chosen; `auto` follows the page. */
export const THEMES = {
  auto: null,
  dark,
  light,
  contrast: { ...dark, background: '#000000', foreground: '#ffffff', cursor: '#ffff00', cursorAccent: '#000000', selectionBackground: '#005fd7', black: '#000000', brightBlack: '#a8a8a8' },
  solarizedDark: { ...solarized, background: '#002b36', foreground: '#a3b1b1', cursor: '#93a1a1', cursorAccent: '#002b36', selectionBackground: '#0f4b5a' },
  solarizedLight: { ...solarized, background: '#fdf6e3', foreground: '#566b72', cursor: '#586e75', cursorAccent: '#fdf6e3', selectionBackground: '#e3dcc5' },
  amber: { ...dark, background: '#120c00', foreground: '#ffb000', cursor: '#ffcc55', cursorAccent: '#120c00', selectionBackground: '#5c4000' },
} satisfies Record<string, ITheme | null>;

export type ThemeName = keyof typeof THEMES;

/** The colours in force. */
export const themeOf = (name: string, pageIsDark: boolean): ITheme => (Object.hasOwn(THEMES, name) ? THEMES[name as ThemeName] : null) ?? (pageIsDark ? dark : light);
