/** Somebody between a device and its server, who serves another script or another agent: `liar.mjs <what to serve.json>`. */
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';

const { script, alter, agent, key, certificate } = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const program = readFileSync(agent);
if (alter) program[program.length - 1] ^= 1;
createServer({ key: readFileSync(key), cert: readFileSync(certificate) }, (request, response) => {
  console.log(request.url);
  response.end(request.url.startsWith('/install.sh') ? script : program);
}).listen(443, '10.77.0.1', () => console.log('listening'));
