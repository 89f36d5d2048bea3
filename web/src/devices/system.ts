/** What the kind of an agent tells about its device. */
import type { Device } from '../wire/protocol';

/** Agents' architecture numbers that mean Windows (agent-protocol §2.6). */
const WINDOWS: ReadonlySet<number> = new Set([1, 2, 3, 4, 21, 22, 34, 42, 43, 10003, 10004, 10006]);

export const isWindows = (device: Device): boolean => WINDOWS.has(device.agent?.id ?? 0);

/** What an agent can do: the capability bits it reports. */
export const Capability = { Desktop: 1, Terminal: 2, Files: 4, Console: 8 } as const;

/** Whether the agent offers a thing; agents that have reported nothing yet are taken at their best. */
export const offers = (device: Device, capability: number): boolean => device.agent?.caps === undefined || (device.agent.caps & capability) !== 0;
