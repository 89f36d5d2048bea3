/** Installs MeshCentral and libmeshctrl into target/compat, where they are not there yet. */
import { install } from './peer.mjs';

install();
