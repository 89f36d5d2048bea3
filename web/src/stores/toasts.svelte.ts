/** Short notes about what happened elsewhere; never for an error of the form in front of the user. */

export interface Toast {
  id: number;
  text: string;
  kind: 'note' | 'good' | 'bad';
  action: { label: string; run(): void } | null;
}

const STAY_MS = 6000;
const MOST = 4;

class Toasts {
  list = $state.raw<Toast[]>([]);
  #serial = 0;

  show(text: string, kind: Toast['kind'] = 'note', action: Toast['action'] = null): void {
    const toast = { id: ++this.#serial, text, kind, action };
    this.list = [...this.list.slice(1 - MOST), toast];
    // Errors stay longer: they must be read, not merely noticed.
    setTimeout(() => this.dismiss(toast.id), kind === 'bad' ? STAY_MS * 2 : STAY_MS);
  }

  failed(error: unknown): void {
    this.show(error instanceof Error ? error.message : String(error), 'bad');
  }

  dismiss(id: number): void {
    this.list = this.list.filter((toast) => toast.id !== id);
  }
}

export const toasts = new Toasts();
