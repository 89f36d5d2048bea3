/** People's files on the server: listing, changing, uploading. */
import { ask } from '../client.mjs';
import { fetchFrom } from '../servers.mjs';
import { canonical } from '../plain.mjs';

const HOME = 'user//admin';
/** A user's tree without dates. */
const tree = (message) => canonical(strip(message.filetree.f[HOME]));
const strip = (node) => (node?.f ? { ...node, d: undefined, f: Object.fromEntries(Object.entries(node.f).map(([name, inside]) => [name, strip(inside)])) } : { ...node, d: undefined });
const quiet = ({ action }) => action === 'files';
/** One operation; the outcome is the tree that is shown after it, or that nothing was said. */
const operation = (what, fields, more = {}) => ({
  command: 'fileoperation', what, patience: 1200, answers: ['files'], count: 1, see: tree,
  ask: [{ action: 'fileoperation', path: [HOME], ...fields }], ...more,
});

/** Uploads a file as meshctrl's scripts do: with a cookie and a link. */
async function upload(server, name, body, { link = HOME, auth } = {}) {
  const answers = await ask(server, [{ action: 'authcookie' }], { enough: ({ action }) => action === 'authcookie' });
  const cookie = auth ?? answers.find(({ action }) => action === 'authcookie').cookie;
  const part = (head, value) => `--b\r\nContent-Disposition: form-data; ${head}\r\n\r\n${value}\r\n`;
  const form = `${part('name="auth"', cookie)}${part('name="link"', encodeURIComponent(link))}${part(`name="files"; filename="${name}"`, body)}--b--\r\n`;
  const { status } = await fetchFrom(server, '/uploadfile.ashx', { method: 'POST', headers: { 'content-type': 'multipart/form-data; boundary=b', 'content-length': Buffer.byteLength(form) }, body: form });
  return String(status);
}
const uploading = (what, ...how) => ({ command: 'uploadfile.ashx', what, run: async (server) => ({ raw: await upload(server, ...how) }) });

export const files = {
  name: 'Files on the server',
  cases: [
    { command: 'files', what: 'the first listing', ask: [{ action: 'files' }], count: 1, see: tree },
    { command: 'files', what: 'without the right', ask: [{ action: 'files', responseid: 'r' }], as: 'plain', patience: 1000 },
    operation('a new folder', { fileop: 'createfolder', newfolder: 'docs' }),
    operation('a new folder of a bad name', { fileop: 'createfolder', newfolder: '../up' }),
    operation('writing a file', { fileop: 'set', path: [HOME, 'docs'], file: 'a.txt', data: Buffer.from('hello').toString('base64') }, { see: ({ action }) => action }),
    operation('reading it', { fileop: 'get', path: [HOME, 'docs'], file: 'a.txt' }, { answers: ['fileoperation'], see: ({ data, file, fileop }) => JSON.stringify({ data, file, fileop }) }),
    operation('copying it', { fileop: 'copy', names: ['a.txt'], scpath: [HOME, 'docs'] }),
    operation('another name', { fileop: 'rename', oldname: 'a.txt', newname: 'b.txt' }),
    operation('moving it', { fileop: 'move', path: [HOME, 'docs'], names: ['b.txt'], scpath: [HOME] }),
    operation('somebody else’s files', { fileop: 'createfolder', path: ['user//manager'], newfolder: 'mine' }),
    operation('removing a folder with all in it', { fileop: 'delete', delfiles: ['docs'], rec: true }),
    uploading('a file', 'up.txt', 'uploaded'),
    uploading('into the public folder', 'open.txt', 'for all', { link: `${HOME}/Public` }),
    uploading('with a bad cookie', 'no.txt', 'x', { auth: 'nonsense' }),
    uploading('into somebody else’s folder', 'no.txt', 'x', { link: 'user//manager' }),
    uploading('out of the folder', 'no.txt', 'x', { link: `${HOME}/../manager` }),
    { command: 'files', what: 'after uploading', ask: [{ action: 'files' }], count: 1, see: tree },
    { command: 'HTTP', what: 'GET userfiles, a public file', http: { path: '/userfiles/admin/open.txt?download=1', statusOnly: true, body2text: (body) => body.toString() } },
    { command: 'HTTP', what: 'GET userfiles, out of the public folder', http: { path: '/userfiles/admin/%2e%2e/up.txt?download=1', statusOnly: true, body2text: (body) => String(body.includes('uploaded')) } },
  ],
};
