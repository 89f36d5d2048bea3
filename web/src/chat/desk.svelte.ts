/** The chat that is open in this app: one at a time, beside whatever page is shown. */
class Desk {
  device = $state.raw<{ id: string; name: string } | null>(null);

  open(id: string, name: string): void {
    this.device = { id, name };
  }
  close(): void {
    this.device = null;
  }
}

export const desk = new Desk();
