/** What stands on an agent's console: lines bounded in number and length, and the commands typed before. */

export interface Line {
  id: number;
  kind: 'sent' | 'answer' | 'error';
  text: string;
}

export const MOST_LINES = 1000;
/** Longest text of one answer that is kept. */
export const LONGEST = 64 * 1024;
const MOST_COMMANDS = 100;

/** Adds a line and drops the oldest beyond the limit. */
export function append(lines: readonly Line[], kind: Line['kind'], text: string): Line[] {
  const line = { id: (lines.at(-1)?.id ?? 0) + 1, kind, text: text.replace(/\r\n?/g, '\n').slice(0, LONGEST) };
  return [...lines.slice(1 - MOST_LINES), line];
}

/** The commands typed so far, walked with the arrows; what was being typed is kept below the newest. */
export class History {
  #commands: string[] = [];
  #at = 0;
  #draft = '';

  add(command: string): void {
    if (this.#commands.at(-1) !== command) this.#commands = [...this.#commands, command].slice(-MOST_COMMANDS);
    this.#at = this.#commands.length;
    this.#draft = '';
  }

  older(now: string): string {
    if (this.#at === this.#commands.length) this.#draft = now;
    this.#at = Math.max(0, this.#at - 1);
    return this.#commands[this.#at] ?? now;
  }

  newer(now: string): string {
    if (this.#at >= this.#commands.length) return now;
    this.#at += 1;
    return this.#commands[this.#at] ?? this.#draft;
  }
}
