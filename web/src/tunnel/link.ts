/**
 * What sessions with a device need of the page around them, whoever works there: a member with a line to the server
 * (`member.ts`), or a guest who has nothing but a link (`../guest/share.svelte.ts`).
 */
import { socketAddress } from '../wire/http';
import type { Device } from '../wire/protocol';
import type { TunnelLink, TunnelSocket } from './tunnel';

export interface SessionLine {
  /** Guests have no account here: what needs one is not offered to them. */
  readonly guest: boolean;
  /** Whether the server can be reached now, as far as is known. */
  readonly connected: boolean;
  tunnel(nodeId: string): TunnelLink;
  /** A fresh cookie for the server's own downloads from a device. */
  cookie(): Promise<string>;
  /** Who else is connected to a device now and for what, in words; empty when nobody is, or for guests, who are not told. */
  others(device: Device): string;
  /** Calls `hear` with what the device's agent says on its console, where this line hears it. Returns the way to stop. */
  onConsole(nodeId: string, hear: (words: string) => void): () => void;
}

/** The browser's socket to a path of the server, as tunnels want it. */
export const socketTo = (path: string): TunnelSocket & EventTarget => new WebSocket(socketAddress(path)) as unknown as TunnelSocket & EventTarget;
