/** What can be done to one or many devices, with every outcome told in words. */
import { fleet } from '../stores/fleet.svelte';
import { live } from '../stores/live.svelte';
import { toasts } from '../stores/toasts.svelte';
import { text } from '../text';
import { ControlError } from '../wire/socket';
import type { Message } from '../wire/protocol';

/** The server takes its time per device; a thousand removals are still one request. */
const PER_DEVICE_MS = 50;

/** Sends a request that is answered once per device; counts the good and throws the first refusal if none was. */
async function each(action: string, ids: string[], fields: Record<string, unknown>, fine: (result: string) => boolean): Promise<number> {
  const replies = await live.control.collect(action, { ...fields, nodeids: ids }, ids.length, 20_000 + PER_DEVICE_MS * ids.length);
  const bad = replies.filter((reply: Message) => reply.result !== undefined && !fine(reply.result));
  const first = bad[0]?.result;
  if (first !== undefined && bad.length === replies.length) throw new ControlError(first, action);
  if (first !== undefined) toasts.show(text.devices.failed(bad.length, first), 'bad');
  return ids.length - bad.length;
}

const isOk = (result: string): boolean => result.toLowerCase() === 'ok';

export async function moveDevices(ids: string[], meshid: string): Promise<void> {
  const done = await each('changeDeviceMesh', ids, { meshid }, (result) => isOk(result) || /already in correct/.test(result));
  toasts.show(text.devices.moved(done, fleet.groups.get(meshid)?.name ?? ''), 'good');
}

export async function removeDevices(ids: string[], uninstall: boolean): Promise<void> {
  const connected = ids.filter((id) => (fleet.device(id)?.conn ?? 0) !== 0);
  if (uninstall && connected.length > 0) await live.control.perform('uninstallagent', { nodeids: connected });
  const done = await each('removedevices', ids, {}, isOk);
  toasts.show(text.devices.removed(done), 'good');
}

export async function wakeDevices(ids: string[]): Promise<void> {
  try {
    const reply = await live.control.request('wakedevices', { nodeids: ids });
    const result = reply.result ?? 'ok';
    if (isOk(result) || /^Used \d/.test(result)) toasts.show(text.devices.wakeSent(ids.length), 'good');
    else toasts.show(result, 'bad');
  } catch (error) {
    toasts.failed(error);
  }
}

/** MeshCentral's numbers for `poweraction`. */
export const PowerAction = { Off: 2, Restart: 3, Sleep: 4 } as const;

export async function power(ids: string[], actiontype: number): Promise<void> {
  await each('poweraction', ids, { actiontype }, isOk);
  toasts.show(text.device.powerSent, 'good');
}
