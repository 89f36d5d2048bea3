/** The agent that a box offers to boards of its kind, run by an emulator of its processor. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fetchFrom } from '../cross/control.mjs';
import { start } from '../e2e/processes.mjs';
import { expect } from '../e2e/report.mjs';
import { until } from './box.mjs';

/** Fetches it from the box and lets it enrol. */
export async function enrol(box, group, scratch) {
  const { here } = box;
  const settings = await fetchFrom(here, `/meshsettings?id=${encodeURIComponent(group.split('/').at(-1))}`);
  expect(settings.status === 200, `meshsettings answered ${settings.status}`);
  // The box knows itself by another address than the one that is forwarded.
  const text = settings.body.replace(/^MeshServer=.*$/m, `MeshServer=wss://${here.host}:${here.port}/agent.ashx`);
  writeFileSync(join(scratch, 'outpost-agent.msh'), text);
  const given = await fetchFrom(here, '/meshagents?id=26');
  expect(given.status === 200 && given.bytes.length > 1 << 20, `the agent: ${given.status}, ${given.bytes.length} bytes`);
  const program = join(scratch, 'outpost-agent');
  writeFileSync(program, given.bytes, { mode: 0o755 });
  const words = ['qemu-aarch64-static', program, 'run', '--msh', join(scratch, 'outpost-agent.msh'), '--state', join(scratch, 'agent'), '-k', 'Display=off'];
  const run = () => start('agent', null, words, { log: box.log.replace(/log$/, 'agent.log') });
  let running = run();
  await comesBack(box);
  return {
    stop: () => running.stop(),
    /** Started anew: one that has been refused for a while lets minutes pass before it tries again. */
    async returns() {
      await running.stop();
      running = run();
      await comesBack(box);
    },
  };
}

/** The device is there, and connected. */
const comesBack = (box) => until('the device is not there', async () => (await box.devices().catch(() => [])).some((device) => device.conn === 1));
