/** Sessions of somebody who is logged in: they go with the page's own line to the server. */
import { presentOn, presentWords } from '../devices/present';
import { live } from '../stores/live.svelte';
import { people } from '../stores/people.svelte';
import { socketTo, type SessionLine } from './link';

export const member: SessionLine = {
  guest: false,
  get connected() {
    return live.connected;
  },
  tunnel: (nodeId) => ({
    nodeId,
    cookies: async () => {
      const reply = await live.control.request('authcookie');
      return { cookie: String(reply.cookie ?? ''), rcookie: String(reply.rcookie ?? '') };
    },
    ask: async (message) => (await live.control.request('msg', message)).result ?? 'OK',
    connect: socketTo,
    online: () => live.connected,
  }),
  cookie: async () => String((await live.control.request('authcookie')).cookie ?? ''),
  others: (device) => presentWords(presentOn(device.sessions, (id) => people.users.get(id)?.name).filter((one) => one.key !== live.me?._id)),
  onConsole: (nodeId, hear) =>
    live.control.on('msg', (message) => {
      if (message.nodeid === nodeId && message.type === 'console' && typeof message.value === 'string') hear(message.value);
    }),
};
