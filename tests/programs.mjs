/** The programs under test: those that OUTPOST_BIN (the server) and OUTPOST_AGENT_BIN name, or those of `make build`. */
import { accessSync, constants } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const built = join(process.env.CARGO_TARGET_DIR ?? fileURLToPath(new URL('../target', import.meta.url)), 'release');

/** The path of one: the environment's `variable`, or a file that was built. Ends this process where there is none. */
export function program(variable, file) {
  const path = resolve(process.env[variable] ?? join(built, file));
  try {
    accessSync(path, constants.X_OK);
  } catch {
    console.error(`There is no program ${path}: make build, or set ${variable}.`);
    process.exit(2);
  }
  return path;
}

export const programs = { server: program('OUTPOST_BIN', 'outpost'), agent: program('OUTPOST_AGENT_BIN', 'outpost-agent') };
