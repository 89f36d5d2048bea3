/** Where we are. Every view has a path under `app/`; MeshCentral's query on the root is translated once. */

export type DeviceTab = 'general' | 'desktop' | 'terminal' | 'files' | 'console' | 'processes' | 'events';

export type Route =
  | { page: 'welcome' }
  /** Adding a device, to the group with this key when there is one. */
  | { page: 'add'; key: string }
  | { page: 'devices' }
  | { page: 'device'; key: string; tab: DeviceTab }
  | { page: 'groups' }
  | { page: 'group'; key: string }
  | { page: 'jobs' }
  | { page: 'job'; key: string }
  | { page: 'events' }
  /** The list, or the recording of this file name. */
  | { page: 'recordings'; key: string }
  | { page: 'users' }
  | { page: 'user'; key: string }
  | { page: 'ugroups' }
  | { page: 'ugroup'; key: string }
  | { page: 'account' }
  | { page: 'server' }
  | { page: 'box' };

/** Parts of the frame hidden by MeshCentral's `hide` bits: 1 header, 2 tabs, 8 title, 16 left bar. */
export interface Hidden {
  rail: boolean;
  tabs: boolean;
  title: boolean;
}

const TABS: readonly string[] = ['general', 'desktop', 'terminal', 'files', 'console', 'processes', 'events'] satisfies DeviceTab[];
/** MeshCentral's `viewmode` for the tabs of a device. */
const VIEW_MODES: Readonly<Record<number, DeviceTab>> = { 10: 'general', 11: 'desktop', 12: 'terminal', 13: 'files', 15: 'console', 16: 'events' };

/** The path of a route, relative to the document's base. Keys are base64 with `@` and `$`, legal in a path. */
export function pathOf(route: Route): string {
  switch (route.page) {
    case 'devices':
      return 'app/devices';
    case 'device':
      return `app/devices/${segment(route.key)}${route.tab === 'general' ? '' : `/${route.tab}`}`;
    case 'add':
      return route.key ? `app/add-device/${segment(route.key)}` : 'app/add-device';
    case 'groups':
      return 'app/groups';
    case 'group':
      return `app/groups/${segment(route.key)}`;
    case 'jobs':
      return 'app/commands';
    case 'job':
      return `app/commands/${segment(route.key)}`;
    case 'users':
      return 'app/users';
    case 'user':
      return `app/users/${segment(route.key)}`;
    case 'recordings':
      return route.key ? `app/recordings/${segment(route.key)}` : 'app/recordings';
    case 'ugroups':
      return 'app/user-groups';
    case 'ugroup':
      return `app/user-groups/${segment(route.key)}`;
    default:
      return `app/${route.page}`;
  }
}

const segment = (key: string): string => encodeURIComponent(key).replaceAll('%40', '@').replaceAll('%24', '$');

/** The route of a path below the base; anything unknown is the list of devices. */
export function parsePath(path: string): Route {
  const [root, area, rawKey, tab] = path.replace(/^\/+/, '').split('/');
  let key = '';
  try {
    key = decodeURIComponent(rawKey ?? '');
  } catch {
    return { page: 'devices' };
  }
  if (root !== 'app') return { page: 'devices' };
  switch (area) {
    case 'welcome':
    case 'events':
    case 'account':
    case 'server':
    case 'box':
      return { page: area };
    case 'add-device':
      return { page: 'add', key };
    case 'groups':
      return key ? { page: 'group', key } : { page: 'groups' };
    case 'commands':
      return key ? { page: 'job', key } : { page: 'jobs' };
    case 'users':
      return key ? { page: 'user', key } : { page: 'users' };
    case 'recordings':
      return { page: 'recordings', key };
    case 'user-groups':
      return key ? { page: 'ugroup', key } : { page: 'ugroups' };
    default:
      return key ? { page: 'device', key, tab: TABS.includes(tab ?? '') ? (tab as DeviceTab) : 'general' } : { page: 'devices' };
  }
}

/** What MeshCentral's query asks for. `deviceName` must be looked up once the devices are here. */
export function parseQuery(query: URLSearchParams): { route: Route | null; deviceName: string | null; tab: DeviceTab; hide: number } {
  const mode = Number(query.get('viewmode') ?? '0');
  const tab: DeviceTab = VIEW_MODES[mode] ?? 'general';
  const key = (query.get('gotonode') ?? query.get('node') ?? '').split('/').at(-1) ?? '';
  const group = (query.get('gotomesh') ?? '').split('/').at(-1) ?? '';
  const user = (query.get('gotouser') ?? '').split('/').at(-1) ?? '';
  const pages: Record<number, Route> = {
    1: { page: 'devices' },
    2: { page: 'account' },
    3: { page: 'events' },
    4: { page: 'users' },
    6: { page: 'server' },
    50: { page: 'ugroups' },
  };
  const route: Route | null =
    key ? { page: 'device', key, tab }
    : group ? { page: 'group', key: group }
    : user ? { page: 'user', key: user }
    : (pages[mode] ?? null);
  return { route, deviceName: query.get('gotodevicename'), tab, hide: Number(query.get('hide') ?? '0') || 0 };
}

class Router {
  route = $state.raw<Route>({ page: 'devices' });
  hidden = $state.raw<Hidden>({ rail: false, tabs: false, title: false });
  /** A device asked for by name in MeshCentral's query, until the list can tell its id. */
  wantedDevice = $state.raw<{ name: string; tab: DeviceTab } | null>(null);
  /** The path of the app's root, with the domain's prefix. */
  #base = '/';

  start(): void {
    this.#base = new URL(document.baseURI).pathname;
    const query = parseQuery(new URLSearchParams(location.search));
    this.hidden = { rail: (query.hide & 17) !== 0, tabs: (query.hide & 2) !== 0, title: (query.hide & 8) !== 0 };
    if (query.deviceName) this.wantedDevice = { name: query.deviceName, tab: query.tab };
    this.#read();
    if (query.route) this.go(query.route, { replace: true });
    addEventListener('popstate', () => this.#read());
  }

  go(route: Route, { replace = false } = {}): void {
    const target = this.href(route);
    if (replace || target === location.pathname) history.replaceState(null, '', target);
    else history.pushState(null, '', target);
    this.route = route;
  }

  href(route: Route): string {
    return this.#base + pathOf(route);
  }

  /** For links: plain clicks stay in the page, everything else is the browser's. */
  follow = (event: MouseEvent): void => {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = (event.target as Element | null)?.closest?.('a[href]');
    if (!(link instanceof HTMLAnchorElement) || link.target || link.hasAttribute('download') || link.origin !== location.origin) return;
    const below = link.pathname.slice(this.#base.length);
    if (!link.pathname.startsWith(this.#base) || !below.startsWith('app/')) return;
    event.preventDefault();
    this.go(parsePath(below));
  };

  #read(): void {
    this.route = parsePath(location.pathname.slice(this.#base.length));
  }
}

export const router = new Router();
