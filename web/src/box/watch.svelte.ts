/** Looks at the box again and again while its page is open, more often while an update is on its way. */
import { calls, isBusy, type About } from './box';

const CALM_MS = 5000;
const BUSY_MS = 1000;

export class Watch {
  about = $state.raw<About | null>(null);
  /** The browser's clock when `about` came. */
  at = $state(0);
  error = $state('');
  /** The box was told to go: until it is back its silence is no error. */
  away = $state<'' | 'restarting' | 'off'>('');
  #timer: ReturnType<typeof setTimeout> | undefined;
  #stopped = false;

  start(): () => void {
    void this.look();
    return () => {
      this.#stopped = true;
      clearTimeout(this.#timer);
    };
  }

  async look(): Promise<void> {
    clearTimeout(this.#timer);
    try {
      const next = await calls.about();
      const last = this.about;
      this.about = next;
      this.at = Date.now();
      this.error = '';
      // Back from a restart: the app may be another one as well.
      if (this.away === 'restarting' && last && next.serverUptime < last.serverUptime) location.reload();
    } catch (problem) {
      if (!this.away) this.error = problem instanceof Error ? problem.message : String(problem);
    }
    if (this.#stopped) return;
    this.#timer = setTimeout(() => void this.look(), this.about && isBusy(this.about) ? BUSY_MS : CALM_MS);
  }
}
