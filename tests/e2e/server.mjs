/** The server: started on the same data again and again, with or without a config.json. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ADDRESS } from './network.mjs';
import { memory, run, start } from './processes.mjs';

export class Server {
  constructor(program, data, log) {
    Object.assign(this, { program, data, log, process: null });
  }

  /** Starts it and waits until it answers. `config` replaces config.json. */
  async start(config) {
    if (config) {
      mkdirSync(this.data, { recursive: true });
      writeFileSync(join(this.data, 'config.json'), JSON.stringify(config, null, 2));
    }
    this.process = start('server', 'server', [this.program, '--datapath', this.data, '--exactports'], { log: this.log });
    for (let wait = 0; wait < 200; wait += 1) {
      if (this.process.ended) throw new Error(`the server ended at once: ${this.process.lines.at(-1)?.text}`);
      if (this.fetch('browser', '/health.ashx').out.trim() === 'ok') return;
      await new Promise((done) => setTimeout(done, 50));
    }
    throw new Error('the server did not answer within 10 s');
  }

  get pid() {
    return this.process.pid;
  }

  /** KiB of memory in use. */
  get memory() {
    return memory(this.pid);
  }

  async kill() {
    this.process.child.kill('SIGKILL');
    await this.process.exit;
  }

  /** Fetches a path as another machine does. */
  fetch(machine, path, more = []) {
    return run(machine, ['curl', '-sk', '--max-time', '5', ...more, `https://${ADDRESS.server}${path}`], { milliseconds: 8000 });
  }
}
