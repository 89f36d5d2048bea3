/** The logged-in page's line to the server: the socket, who we are, and the first load of everything. */
import { http, socketAddress } from '../wire/http';
import { ControlSocket, type SocketLike, type SocketState } from '../wire/socket';
import type { Device, DeviceGroup, LoggedEvent, Message, ServerInfo, User, UserGroup } from '../wire/protocol';
import { maySite, SiteRight } from '../rights';
import { text } from '../text';
import { entry } from './entry.svelte';
import { fleet } from './fleet.svelte';
import { people } from './people.svelte';
import { toasts } from './toasts.svelte';

class Live {
  link = $state.raw<SocketState>({ kind: 'connecting' });
  me = $state.raw<User | null>(null);
  server = $state.raw<ServerInfo | null>(null);
  /** Browser clock minus server clock in milliseconds, measured when the server introduced itself. */
  clockSkew = $state(0);
  #eventHandlers = new Set<(event: LoggedEvent) => void>();
  #reload: ReturnType<typeof setTimeout> | undefined;
  #tellOfNew = false;

  readonly control = new ControlSocket({
    connect: () => new WebSocket(socketAddress('control.ashx')) as unknown as SocketLike,
    onState: (state) => {
      this.link = state;
    },
    words: { timeout: text.net.timeout, lost: text.net.lost },
  });

  constructor() {
    const on = (action: string, handler: (message: Message) => void) => this.control.on(action, handler);
    on('serverinfo', (message) => {
      this.server = message.serverinfo as ServerInfo;
      if (this.server.serverTime) this.clockSkew = Date.now() - this.server.serverTime;
    });
    on('userinfo', (message) => {
      this.me = message.userinfo as User;
      void this.loadAll();
    });
    on('event', (message) => this.#event(message.event as LoggedEvent));
    on('reload', () => this.reloadSoon(0));
    on('close', (message) => this.#closed(String(message.cause ?? '')));
    on('stopped', (message) => this.#closed(String(message.msg ?? '')));
    // A notice that answers a request belongs to the form that asked, which shows it itself.
    on('msg', (message) => {
      if (message.type === 'notify' && typeof message.value === 'string' && message.responseid === undefined) {
        const title = typeof message.title === 'string' ? `${message.title}: ` : '';
        toasts.show(title + message.value);
      }
    });
    fleet.onStale = () => this.reloadSoon(150);
  }

  get connected(): boolean {
    return this.link.kind === 'open';
  }

  start(): void {
    this.control.start();
  }

  async logout(): Promise<void> {
    this.control.end();
    this.#forget();
    await http.logout().catch(() => undefined);
    await entry.left(text.login.ended);
  }

  /** Calls `handler` for every event of the server. Returns the way to stop. */
  onEvent(handler: (event: LoggedEvent) => void): () => void {
    this.#eventHandlers.add(handler);
    return () => this.#eventHandlers.delete(handler);
  }

  reloadSoon(delay: number): void {
    clearTimeout(this.#reload);
    this.#reload = setTimeout(() => void this.loadAll(), delay);
  }

  /** Fetches every list anew; groups first, since devices hang from them. */
  async loadAll(): Promise<void> {
    try {
      const [meshes, nodes] = await Promise.all([this.control.request('meshes'), this.control.request('nodes')]);
      fleet.setGroups((meshes.meshes as DeviceGroup[] | undefined) ?? []);
      fleet.setDevices((nodes.nodes as Record<string, Device[]> | undefined) ?? {});
      const [seen, groups] = await Promise.all([this.control.request('lastconnects'), this.control.request('usergroups')]);
      fleet.setLastSeen((seen.lastconnects as Record<string, number> | undefined) ?? {});
      people.setGroups((groups.ugroups as Record<string, UserGroup> | null | undefined) ?? null);
      if (maySite(this.me, SiteRight.ManageUsers)) {
        const [users, sessions] = await Promise.all([this.control.request('users'), this.control.request('wssessioncount')]);
        people.setUsers((users.users as User[] | undefined) ?? []);
        people.online = (sessions.wssessions as Record<string, number> | undefined) ?? {};
      }
      this.#tellOfNew = true;
    } catch (error) {
      // A lost connection brings its own bar, and the next one loads everything again.
      if (this.connected) toasts.failed(error);
    }
  }

  #event(event: LoggedEvent): void {
    if (typeof event !== 'object' || event === null || typeof event.action !== 'string') return;
    const isNew = event.action === 'addnode' && this.#tellOfNew;
    fleet.apply(event);
    people.apply(event);
    if (isNew) {
      const device = event.node as Device | undefined;
      if (device && fleet.groups.has(device.meshid)) toasts.show(text.devices.newDevice(String(device.name)), 'good');
    }
    const account = event.account as User | undefined;
    if (account && account._id === this.me?._id) {
      const before = Object.keys(this.me.links ?? {}).sort().join();
      this.me = account;
      // New or lost links change what we may see; the devices behind them are not in the event.
      if (Object.keys(account.links ?? {}).sort().join() !== before) this.reloadSoon(100);
    }
    for (const handler of this.#eventHandlers) handler(event);
  }

  #closed(cause: string): void {
    this.control.end();
    this.#forget();
    void entry.left(text.login.endedBy[cause] ?? text.login.ended);
  }

  #forget(): void {
    fleet.clear();
    people.clear();
    this.me = null;
    this.#tellOfNew = false;
  }
}

export const live = new Live();
