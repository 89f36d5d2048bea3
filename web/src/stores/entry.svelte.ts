/** What the page knows before anyone is logged in, and the passage from there into the app and back. */
import { http, type Bootstrap } from '../wire/http';
import { text } from '../text';

class Entry {
  phase = $state<'loading' | 'failed' | 'entry' | 'inside'>('loading');
  boot = $state.raw<Bootstrap | null>(null);
  error = $state('');
  /** Why the last session ended, shown above the login form. */
  notice = $state('');
  /** The account was created just now as the first one, so the checklist comes next. */
  fresh = $state(false);

  async load(): Promise<void> {
    this.phase = 'loading';
    try {
      this.boot = await http.bootstrap();
      this.phase = this.boot.user ? 'inside' : 'entry';
    } catch (error) {
      this.error = error instanceof Error ? error.message : text.net.unreachable;
      this.phase = 'failed';
    }
  }

  /** After a login or a new account: the cookie is set, so the app may open. */
  entered(fresh: boolean): void {
    this.fresh = fresh;
    this.notice = '';
    this.phase = 'inside';
    void this.#refresh();
  }

  /** Someone who is logged in is told more about the server than a stranger. */
  async #refresh(): Promise<void> {
    this.boot = await http.bootstrap().catch(() => this.boot);
  }

  /** The session is over, by the user's wish or the server's. */
  async left(notice: string): Promise<void> {
    await this.load();
    this.notice = notice;
    if (this.boot) this.phase = 'entry';
  }
}

export const entry = new Entry();
