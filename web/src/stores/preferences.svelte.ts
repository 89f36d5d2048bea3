/** This browser's own settings, kept in its storage; a browser that refuses storage just forgets them. */

export type Theme = 'auto' | 'dark' | 'light';

/** How desktops are shown and worked with. */
export interface DesktopSettings {
  quality: number;
  /** Percent of the device's pixels that are sent. */
  scale: number;
  /** The least milliseconds between two pictures. */
  pause: number;
  view: 'fit' | 'actual' | 'stretch';
  keys: 'text' | 'keys';
  swap: boolean;
  reverse: boolean;
}

interface Kept {
  theme: Theme;
  layout: 'grouped' | 'flat';
  columns: string[];
  sort: { column: string; down: boolean };
  folded: string[];
  terminalSize: number;
  terminalUser: string;
  terminalTheme: string;
  /** What is selected in a terminal goes to the clipboard at once. */
  terminalCopies: boolean;
  desktop: DesktopSettings;
}

const KEY = 'outpost';
const defaults: Kept = {
  theme: 'auto',
  layout: 'grouped',
  columns: ['system', 'address', 'seen', 'tags'],
  sort: { column: 'name', down: false },
  folded: [],
  terminalSize: 14,
  terminalUser: '',
  terminalTheme: 'auto',
  terminalCopies: false,
  desktop: { quality: 60, scale: 100, pause: 50, view: 'fit', keys: 'text', swap: false, reverse: false },
};

function read(): Kept {
  try {
    const kept: unknown = JSON.parse(localStorage.getItem(KEY) ?? '{}');
    if (typeof kept !== 'object' || kept === null) return defaults;
    const { desktop } = kept as Partial<Kept>;
    return { ...defaults, ...kept, desktop: { ...defaults.desktop, ...(typeof desktop === 'object' ? desktop : {}) } };
  } catch {
    return defaults;
  }
}

class Preferences {
  #kept = $state.raw<Kept>(read());
  #systemDark = $state(true);

  start(): void {
    const query = matchMedia('(prefers-color-scheme: dark)');
    this.#systemDark = query.matches;
    query.addEventListener('change', () => {
      this.#systemDark = query.matches;
      this.#paint();
    });
    this.#paint();
  }

  get now(): Kept {
    return this.#kept;
  }

  /** The theme in force, `auto` resolved. */
  get dark(): boolean {
    return this.#kept.theme === 'auto' ? this.#systemDark : this.#kept.theme === 'dark';
  }

  set(change: Partial<Kept>): void {
    this.#kept = { ...this.#kept, ...change };
    try {
      localStorage.setItem(KEY, JSON.stringify(this.#kept));
    } catch {
      // Storage is full or refused: the setting holds until the page is closed.
    }
    this.#paint();
  }

  #paint(): void {
    document.documentElement.dataset.theme = this.dark ? 'dark' : 'light';
  }
}

export const preferences = new Preferences();
