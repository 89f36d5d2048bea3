/** The few things the app asks over HTTP, before and beside the control socket. */
import { text } from '../text';

export interface PasswordPolicy {
  min?: number | null;
  max?: number | null;
  upper?: number | null;
  lower?: number | null;
  numeric?: number | null;
  nonalpha?: number | null;
}

export interface Bootstrap {
  /** The version and the addresses are told to those who are logged in, and on the first run. */
  server: { name: string | null; title: string; version?: string; mode: 'lan' | 'wan' | 'hybrid'; addresses: string[]; port: number };
  firstRun: boolean;
  newAccounts: boolean;
  passwordPolicy: PasswordPolicy;
  user: { _id: string; name: string } | null;
}

export interface Strength {
  score: 0 | 1 | 2 | 3 | 4;
  crackTime: string;
  warning: string | null;
  suggestions: string[];
  unmet: string[];
  acceptable: boolean;
}

export interface Installation {
  groupName: string;
  linux: { command: string; scriptUrl: string; scriptSha256: string } | null;
  agents: { id: number; name: string; file: string; size: number; url: string; sha256: string }[];
  settingsUrl: string;
}

/** What went wrong, in the server's words or ours; `field` names the form field it belongs to. */
export class HttpError extends Error {
  constructor(
    message: string,
    readonly status: number,
    readonly code: string,
    readonly field: string | undefined,
    /** Seconds to wait before trying again. */
    readonly retryAfter: number | undefined,
  ) {
    super(message);
    this.name = 'HttpError';
  }
}

/** The address of `path` under the document's base, which carries the domain prefix. */
export function address(path: string): string {
  return new URL(path, document.baseURI).href;
}

/** As `address`, with the scheme a WebSocket needs. */
export function socketAddress(path: string): string {
  return address(path).replace(/^http/, 'ws');
}

async function call<T>(method: 'GET' | 'POST', path: string, body?: unknown): Promise<T> {
  let answer: Response;
  try {
    answer = await fetch(address(path), {
      method,
      credentials: 'same-origin',
      cache: 'no-store',
      ...(body === undefined ? {} : { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }),
    });
  } catch {
    throw new HttpError(text.net.unreachable, 0, 'unreachable', undefined, undefined);
  }
  const content: unknown = await answer.json().catch(() => null);
  if (answer.ok) return content as T;
  const error = (content as { error?: { code?: string; message?: string; field?: string; retryAfter?: number } } | null)?.error;
  throw new HttpError(
    error?.message ?? text.net.status(answer.status),
    answer.status,
    error?.code ?? 'unknown',
    error?.field,
    error?.retryAfter ?? (Number(answer.headers.get('retry-after')) || undefined),
  );
}

export const http = {
  bootstrap: () => call<Bootstrap>('GET', 'api/bootstrap'),
  /** `newPassword` goes along when the server has asked for one (error code `password-change`). */
  login: (username: string, password: string, newPassword?: string) =>
    call<{ user: { _id: string; name: string } }>('POST', 'api/login', { username, password, newPassword }),
  logout: () => call<unknown>('POST', 'api/logout', {}),
  createAccount: (account: { username: string; email?: string; password: string }) =>
    call<{ user: { _id: string; name: string } }>('POST', 'api/account', account),
  strength: (password: string, context: string[]) => call<Strength>('POST', 'api/password-strength', { password, context }),
  installation: (groupId: string) => call<Installation>('GET', `api/install?meshid=${encodeURIComponent(groupId)}`),
};
