/** One desktop session: what the device sends becomes state and pictures, what the user does becomes commands. It knows no page. */
import { remote } from '../text.remote';
import { Protocol, Tunnel, type TunnelLink, type TunnelState } from '../tunnel/tunnel';
import * as commands from './commands';
import { FrameReader, type DesktopMessage } from './frames';

export interface DesktopEvents {
  onState(state: TunnelState): void;
  onMessage(message: DesktopMessage): void;
  onRoundTrip(milliseconds: number): void;
}

export interface DesktopOptions {
  link: TunnelLink;
  encoding: commands.Encoding;
  /** Look, but touch nothing: not one command of input leaves. */
  viewOnly: boolean;
  /** The display chosen last time; asked for again once the device lists it. */
  display: number | null;
  webp: boolean;
  events: DesktopEvents;
}

/** A lost queue may ask for the whole screen this often at most. */
const REFRESH_MS = 1000;
/** The modifiers that may hang from another session: Shift, Ctrl, Alt, both Windows keys. */
const MODIFIERS = [16, 17, 18, 91, 92] as const;

export class DesktopSession {
  readonly #tunnel: Tunnel;
  readonly #reader = new FrameReader();
  readonly #webp: boolean;
  #size = { width: 0, height: 0 };
  #encoding: commands.Encoding;
  #display: number | null;
  #refreshed = 0;
  #refreshTimer: ReturnType<typeof setTimeout> | undefined;
  viewOnly: boolean;

  constructor(private readonly options: DesktopOptions) {
    this.#encoding = options.encoding;
    this.#display = options.display;
    this.#webp = options.webp;
    this.viewOnly = options.viewOnly;
    const { events } = options;
    this.#tunnel = new Tunnel(
      options.link,
      Protocol.Desktop,
      () => ({}),
      {
        onState: (state) => events.onState(state),
        onRoundTrip: (milliseconds) => events.onRoundTrip(milliseconds),
        onBytes: (bytes) => this.#receive(bytes),
      },
      remote.desktop.ended,
    );
  }

  get received(): number {
    return this.#tunnel.received;
  }

  start(): Promise<void> {
    return this.#tunnel.start();
  }

  end(reason: string): void {
    clearTimeout(this.#refreshTimer);
    this.#tunnel.end(reason);
  }

  // --- what the user does -----------------------------------------------------------------------------------

  key(action: commands.KeyAction, code: number, extended: boolean): void {
    this.#input(commands.key(action, code, extended));
  }
  unicode(action: commands.KeyAction, unit: number): void {
    this.#input(commands.unicode(action, unit));
  }
  mouse(x: number, y: number, buttons: number): void {
    this.#input(commands.mouse(x, y, buttons));
  }
  wheel(x: number, y: number, delta: number): void {
    this.#input(commands.wheel(x, y, delta));
  }
  ctrlAltDel(): void {
    this.#input(commands.ctrlAltDel());
  }
  /** Locks or frees the device's own keyboard and mouse. */
  lockInput(locked: boolean): void {
    this.#input(commands.inputLock(locked ? 'lock' : 'unlock'));
  }
  /** Locks the session of whoever is logged in at the device. */
  lockSession(): void {
    if (!this.viewOnly) this.#tunnel.control({ type: 'lock' });
  }

  choose(display: number): void {
    this.#display = display;
    this.#tunnel.send(commands.setDisplay(display));
  }

  encode(encoding: commands.Encoding): void {
    this.#encoding = encoding;
    this.#tunnel.send(commands.encoding(encoding, this.#webp));
  }

  pause(paused: boolean): void {
    this.#tunnel.send(commands.pause(paused));
  }

  /** The whole screen again; at most once a second, but never forgotten. */
  refresh(): void {
    const wait = this.#refreshed + REFRESH_MS - Date.now();
    clearTimeout(this.#refreshTimer);
    if (wait > 0) {
      this.#refreshTimer = setTimeout(() => this.refresh(), wait);
      return;
    }
    this.#refreshed = Date.now();
    this.#tunnel.send(commands.refresh());
  }

  #input(bytes: Uint8Array): void {
    if (!this.viewOnly) this.#tunnel.send(bytes);
  }

  // --- what the device says ---------------------------------------------------------------------------------

  #receive(bytes: Uint8Array): void {
    const message = this.#reader.read(bytes);
    if (!message) return;
    if (message.kind === 'screen') this.#screen(message.width, message.height);
    else if (message.kind === 'displays') this.#displays(message.ids, message.chosen);
    this.options.events.onMessage(message);
  }

  #screen(width: number, height: number): void {
    const { width: before, height: beforeHigh } = this.#size;
    this.#size = { width, height };
    if (width !== before || height !== beforeHigh) {
      this.#tunnel.send(commands.encoding(this.#encoding, this.#webp));
      this.#tunnel.send(commands.pause(false));
      this.#input(commands.inputLock('ask'));
      // Once is enough: keys that this session holds down must stay down when the screen changes its size.
      if (before === 0) for (const code of MODIFIERS) this.#input(commands.key('up', code));
    }
  }

  #displays(ids: number[], chosen: number): void {
    const wanted = this.#display;
    this.#display = null;
    if (wanted !== null && wanted !== chosen && ids.includes(wanted)) this.#tunnel.send(commands.setDisplay(wanted));
  }
}
