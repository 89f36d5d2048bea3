/** The few things the app asks over HTTP, before and beside the control socket. */
import { text } from '../text';
import type { Device } from './protocol';

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
  /** MeshCentral's agents, where they were imported. */
  official: OfficialAgents | null;
}

/** What Add device offers of MeshCentral's agents for a group. */
export interface OfficialAgents {
  version: string;
  /** The line to paste on Linux. */
  command: string;
  agents: { id: number; name: string; family: string; size: number; url: string }[];
}

/** MeshCentral's agents as they lie on the server. Times are milliseconds. */
export interface AgentBundle {
  version: string;
  imported: number;
  size: number;
  files: number;
  modules: number;
  agents: { id: number; name: string; family: string; size: number; sha256: string; built: number | null }[];
}

/** A device that is shared with a guest. Times are milliseconds since 1970 on the server's clock. */
export interface SharedDevice {
  guestName: string;
  /** Who shares it; null when they have gone. */
  host: string | null;
  nodeid: string;
  deviceName: string;
  connected: boolean;
  agent?: Device['agent'] | null;
  /** Protocols of tunnels that will be let through: 1 terminal, 2 desktop, 5 files. */
  protocols: number[];
  viewOnly: boolean;
  /** A TCP port of the device, or of a machine that it reaches. */
  tcp?: { port: number; host?: string } | null;
  /** SHA-384 of the server's certificate, for programs that come with the link. */
  certificate?: string;
  /** Null without an end. */
  until: number | null;
  serverTime: number;
  serverTitle: string;
  /** The cookie of the guest's tunnels and downloads, good for an hour. */
  auth: string;
}

/** Who wants to talk, for the page at the device. */
export interface ChatAbout {
  person: string | null;
  device: string | null;
  serverTitle: string;
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
    /** When a share that is not open yet opens, in milliseconds since 1970. */
    readonly start?: number,
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

/** One call: JSON there, JSON back, and an `HttpError` for everything else. */
export async function call<T>(method: 'GET' | 'POST' | 'DELETE', path: string, body?: unknown): Promise<T> {
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
  const error = (content as { error?: { code?: string; message?: string; field?: string; retryAfter?: number; start?: number | null } } | null)?.error;
  throw new HttpError(
    error?.message ?? text.net.status(answer.status),
    answer.status,
    error?.code ?? 'unknown',
    error?.field,
    error?.retryAfter ?? (Number(answer.headers.get('retry-after')) || undefined),
    error?.start ?? undefined,
  );
}

export const http = {
  bootstrap: () => call<Bootstrap>('GET', 'api/bootstrap'),
  /**
   * `newPassword` goes along when the server has asked for one (error code `password-change`), `token` when it wants a
   * second factor (`token-required`, `bad-token`); `remember` spares this browser the next question for it.
   */
  login: (username: string, password: string, more: { newPassword?: string; token?: string; remember?: boolean } = {}) =>
    call<{ user: { _id: string; name: string } }>('POST', 'api/login', { username, password, ...more }),
  logout: () => call<unknown>('POST', 'api/logout', {}),
  createAccount: (account: { username: string; email?: string; password: string }) =>
    call<{ user: { _id: string; name: string } }>('POST', 'api/account', account),
  strength: (password: string, context: string[]) => call<Strength>('POST', 'api/password-strength', { password, context }),
  agents: () => call<{ bundle: AgentBundle | null }>('GET', 'api/agents'),
  removeAgents: () => call<{ bundle: AgentBundle | null }>('DELETE', 'api/agents'),
  share: (link: string) => call<SharedDevice>('GET', `api/share?c=${encodeURIComponent(link)}`),
  chat: (id: string) => call<ChatAbout>('GET', `api/chat?id=${encodeURIComponent(id)}`),
  installation: (groupId: string) => call<Installation>('GET', `api/install?meshid=${encodeURIComponent(groupId)}`),
};
