/** Sessions that show nothing by themselves: files become a list of what was done, others one of how much passed. */
import { recordingText } from '../text.recordings';
import type { Block } from './file';
import type { Stage } from './player';

export interface Line {
  /** Milliseconds after the start. */
  at: number;
  words: string;
}

/** Lines kept; the oldest go. */
const MOST_LINES = 5000;
const LONGEST = 300;

export class LogStage implements Stage {
  /** Enough for a request; contents are not needed. */
  readonly most = 8192;
  lines: Line[] = [];
  #up = 0;
  #down = 0;

  constructor(
    private readonly files: boolean,
    private readonly onLines: (lines: Line[], up: number, down: number) => void,
  ) {}

  clear(): void {
    this.lines = [];
    this.#up = this.#down = 0;
    this.onLines(this.lines, 0, 0);
  }

  show(block: Block, position: number): void {
    if (block.fromViewer) this.#up += block.size;
    else this.#down += block.size;
    const words = this.files && block.fromViewer && block.data.length === block.size ? said(new TextDecoder().decode(block.data)) : '';
    if (words) this.lines = [...this.lines.slice(1 - MOST_LINES), { at: position, words: words.slice(0, LONGEST) }];
    this.onLines(this.lines, this.#up, this.#down);
  }
}

/** What a request to a device's files asks for, in words; empty when it asks for nothing worth telling. */
export function said(request: string): string {
  if (!request.startsWith('{')) return '';
  let read: Record<string, unknown>;
  try {
    read = JSON.parse(request) as Record<string, unknown>;
  } catch {
    return '';
  }
  if (typeof read.action !== 'string' || read.ctrlChannel !== undefined) return '';
  // Each piece of a download is acknowledged; its beginning is enough.
  if (read.action === 'download' && read.sub !== 'start') return '';
  if (/^(upload(hash|ack|done|cancel)|reqid|pong|ping)$/.test(read.action)) return '';
  const text = (value: unknown): string => (typeof value === 'string' ? value : '');
  const join = (folder: string, name: string): string => (folder && name ? `${folder.replace(/[/\\]$/, '')}/${name}` : folder || name);
  const names = Array.isArray(read.delfiles) ? read.delfiles : Array.isArray(read.names) ? read.names : Array.isArray(read.files) ? read.files : [];
  const name = text(read.name) || text(read.oldname) || names.map(text).filter(Boolean).join(', ');
  const place = join(text(read.path) || text(read.dspath) || text(read.scpath), name) || '/';
  const newer = text(read.newname) ? ` → ${text(read.newname)}` : '';
  return (recordingText.actions[read.action] ?? ((path: string) => recordingText.other(String(read.action), path)))(place + newer);
}
