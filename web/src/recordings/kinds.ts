/** The kinds of sessions, by protocol number (tunnel-protocols §2). */
export type Kind = 'terminal' | 'desktop' | 'files' | 'other';

export function kindOf(protocol: number | null | undefined): Kind {
  if (protocol === 2) return 'desktop';
  if (protocol === 1 || protocol === 6 || protocol === 8 || protocol === 9) return 'terminal';
  return protocol === 4 || protocol === 5 || protocol === 10 ? 'files' : 'other';
}
