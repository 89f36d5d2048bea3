/** The clipboard between here and a device, through the control socket; the desktop's tunnel has no part in it. */
import { askAgent, tellAgent } from '../devices/asking';

/** The server passes messages of up to 64 KiB on; the rest is room for what surrounds the text. */
export const LONGEST_CLIPBOARD = 60_000;
/** Agents do not answer at all when their clipboard holds no text… */
const EMPTY_MS = 6_000;
/** …and a MeshAgent's look at an X11 clipboard finds nothing every second time: it is asked again. */
const AGAIN_MS = 600;

/** The device's clipboard as text; null when it holds none (or the agent keeps silent about it). */
export async function fetchClipboard(nodeId: string): Promise<string | null> {
  const tag = `clip-${Math.random().toString(36).slice(2)}`;
  const silence = new Promise<null>((settle) => setTimeout(() => settle(null), EMPTY_MS));
  const answer = askAgent(nodeId, 'getclip', { tag }, (message) => message.tag === undefined || message.tag === tag).then((message) => (typeof message.data === 'string' ? message.data : null));
  const again = setInterval(() => void tellAgent(nodeId, 'getclip', { tag }).catch(() => undefined), AGAIN_MS);
  try {
    return await Promise.race([answer, silence]);
  } finally {
    clearInterval(again);
    // The one that lost the race may still fail, and nobody is listening any more.
    answer.catch(() => undefined);
  }
}

export async function sendClipboard(nodeId: string, words: string): Promise<void> {
  await askAgent(nodeId, 'setclip', { data: words });
}
