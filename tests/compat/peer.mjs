/** The peer: MeshCentral from npm and libmeshctrl from PyPI, installed once into target/compat. */
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../', import.meta.url));
const sources = fileURLToPath(new URL('./peer/', import.meta.url));
/** Everything that this suite installs and leaves behind. */
export const CACHE = process.env.OUTPOST_COMPAT_CACHE ?? join(root, 'target/compat');
const peer = join(CACHE, 'peer');
const python = join(CACHE, 'python');

export const MESHCENTRAL = join(peer, 'node_modules/meshcentral');
export const PYTHON = join(python, 'bin/python');

const same = (a, b) => existsSync(b) && readFileSync(a, 'utf8') === readFileSync(b, 'utf8');

function run(program, words, cwd) {
  const { status, error } = spawnSync(program, words, { cwd, stdio: ['ignore', 'inherit', 'inherit'] });
  if (error || status !== 0) throw new Error(`${program} ${words.join(' ')} failed: ${error?.message ?? `exit ${status}`}`);
}

/** Installs what is missing or of another version than the lists in `peer/` say. */
export function install() {
  mkdirSync(peer, { recursive: true });
  if (!existsSync(join(MESHCENTRAL, 'meshctrl.js')) || !same(join(sources, 'package-lock.json'), join(peer, 'installed-lock.json'))) {
    console.log('Installing MeshCentral, to compare with');
    for (const file of ['package.json', 'package-lock.json']) copyFileSync(join(sources, file), join(peer, file));
    run('npm', ['ci', '--no-fund', '--no-audit', '--silent'], peer);
    copyFileSync(join(sources, 'package-lock.json'), join(peer, 'installed-lock.json'));
  }
  if (!same(join(sources, 'requirements.txt'), join(python, 'installed.txt'))) {
    console.log('Installing libmeshctrl, to compare with');
    run('python3', ['-m', 'venv', python], CACHE);
    run(join(python, 'bin/pip'), ['install', '--quiet', '--disable-pip-version-check', '-r', join(sources, 'requirements.txt')], CACHE);
    copyFileSync(join(sources, 'requirements.txt'), join(python, 'installed.txt'));
  }
}

/** The peer's own WebSocket library. */
export const webSocketLibrary = () => createRequire(join(MESHCENTRAL, 'meshctrl.js'))('ws');
