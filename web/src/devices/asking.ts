/** Questions to a device's agent through the control socket: the request, and the answer that comes on its own. */
import { plainWords } from './complaints';
import { live } from '../stores/live.svelte';
import { remote } from '../text.remote';
import { accepted, ControlError } from '../wire/socket';
import type { Message } from '../wire/protocol';

/** A slow agent lists its processes in a few seconds. */
const ANSWER_MS = 12_000;
/** An agent that cannot do a thing says so on the console; an answer may still follow shortly after. */
const REFUSAL_MS = 400;

/**
 * Sends `msg` of `type` to the device and resolves with the agent's answer of that type.
 *
 * Fails with the server's words when the device cannot be reached, with the agent's when it says on its console that
 * it cannot, and after twelve seconds of silence.
 */
export function askAgent(nodeId: string, type: string, fields: Record<string, unknown> = {}, answers: (message: Message) => boolean = () => true): Promise<Message> {
  return new Promise((settle, fail) => {
    let refusal: ReturnType<typeof setTimeout> | undefined;
    const end = (): void => {
      clearTimeout(timer);
      clearTimeout(refusal);
      stop();
    };
    const refuse = (error: unknown): void => {
      end();
      fail(error instanceof Error ? error : new Error(String(error)));
    };
    const timer = setTimeout(() => refuse(new ControlError(remote.agent.noAnswer, type)), ANSWER_MS);
    const stop = live.control.on('msg', (message) => {
      // The server's own answer to the request has no type.
      if (message.nodeid !== nodeId) return;
      if (message.type === type && answers(message)) {
        end();
        settle(message);
      } else if (message.type === 'console' && typeof message.value === 'string' && refusal === undefined) {
        const words = plainWords(message.value);
        refusal = setTimeout(() => refuse(new ControlError(words, type)), REFUSAL_MS);
      }
    });
    live.control.request('msg', { ...fields, type, nodeid: nodeId }).then(accepted).catch(refuse);
  });
}

/** Sends `msg` of `type` to the device; resolves when the server has passed it on. Agents do not answer these. */
export async function tellAgent(nodeId: string, type: string, fields: Record<string, unknown> = {}): Promise<void> {
  await live.control.perform('msg', { ...fields, type, nodeid: nodeId });
}

/** An agent that will not do what it is told says so on its console, and soon. */
const OBJECTION_MS = 900;

/** As `tellAgent`, but fails with what the agent says on its console right after, which is always an objection here. */
export async function tellAgentAndHear(nodeId: string, type: string, fields: Record<string, unknown> = {}): Promise<void> {
  let objection = '';
  const stop = live.control.on('msg', (message) => {
    if (message.nodeid === nodeId && message.type === 'console' && typeof message.value === 'string') objection ||= message.value;
  });
  try {
    await tellAgent(nodeId, type, fields);
    for (let waited = 0; waited < OBJECTION_MS && !objection; waited += 100) await new Promise((done) => setTimeout(done, 100));
  } finally {
    stop();
  }
  if (objection) throw new ControlError(plainWords(objection), type);
}
