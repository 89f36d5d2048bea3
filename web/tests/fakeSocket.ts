/** A socket under the test's control: what was sent is kept, what arrives is said by the test. */
export class FakeSocket {
  readyState = 0;
  binaryType = 'blob';
  sent: (string | Uint8Array)[] = [];
  onopen: ((event: never) => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: ((event: never) => void) | null = null;

  send(data: string | Uint8Array): void {
    this.sent.push(data);
  }

  close(): void {
    this.drop();
  }

  open(): void {
    this.readyState = 1;
    this.onopen?.({} as never);
  }

  drop(): void {
    if (this.readyState === 3) return;
    this.readyState = 3;
    this.onclose?.({} as never);
  }

  say(message: unknown): void {
    this.onmessage?.({ data: typeof message === 'string' || message instanceof ArrayBuffer ? message : JSON.stringify(message) });
  }

  /** The sent texts as objects. */
  get messages(): Record<string, unknown>[] {
    return this.sent.filter((one) => typeof one === 'string' && one.startsWith('{')).map((one) => JSON.parse(one as string) as Record<string, unknown>);
  }
}
