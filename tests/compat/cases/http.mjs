/** Addresses that tools ask without a control socket: status and kind of what comes. */
import { NOBODY } from '../world.mjs';

const get = (path, what, more = {}) => ({ command: 'HTTP', what: `GET ${what}`, http: (ids) => ({ path: typeof path === 'function' ? path(ids) : path, statusOnly: true, ...more }) });
const key = (id) => encodeURIComponent(id.split('/').at(-1));

export const http = {
  name: 'HTTP',
  cases: [
    get('/health.ashx', 'health.ashx', { statusOnly: false, body2text: (body) => body.toString() }),
    get('/refresh.ashx', 'refresh.ashx', { body2text: (body) => body.toString() }),
    get('/', 'the first page'), get('/login', 'login'), get('/terms', 'terms'),
    get('/logout', 'logout', { location: true }),
    get('/control.ashx', 'control.ashx without an upgrade'), get('/meshrelay.ashx', 'meshrelay.ashx without an upgrade'), get('/agent.ashx', 'agent.ashx without an upgrade'),
    get('/MeshServerRootCert.cer', 'MeshServerRootCert.cer', { statusOnly: false }),
    get(({ LAB }) => `/meshsettings?id=${key(LAB)}`, 'meshsettings of a group', { statusOnly: false, body2text: (body, { headers }) => `${headers['content-disposition']} ${[...body.toString().matchAll(/^(MeshName|MeshType|MeshID|ServerID|MeshServer)=/gm)].map((found) => found[1]).join(' ')}` }),
    get(`/meshsettings?id=${NOBODY}`, 'meshsettings of an unknown group'), get('/meshsettings', 'meshsettings of none'),
    get('/meshagents', 'meshagents without a session'), get('/meshagents?id=99999', 'meshagents, an unknown kind'),
    get('/agentinvite', 'agentinvite without a cookie'), get('/agentinvite?c=nonsense', 'agentinvite with a bad cookie'),
    get('/invite', 'invite'), get('/sharing', 'sharing without a cookie'), get('/sharing?c=nonsense', 'sharing with a bad cookie'),
    get('/devicefile.ashx', 'devicefile.ashx without a cookie'), get('/downloadfile.ashx?link=user//admin/x', 'downloadfile.ashx without a session'),
    get('/recordings.ashx?file=x.mcrec', 'recordings.ashx without a session'), get('/userimage.ashx', 'userimage.ashx without a session'),
    get('/devicepowerevents.ashx?id=x', 'devicepowerevents.ashx without a session'), get('/backup.zip', 'backup.zip without a session'),
    get('/no-such-page', 'an unknown address'), get('/messenger', 'messenger without an id'), get('/agentdownload.ashx', 'agentdownload.ashx without a cookie'),
    { command: 'HTTP', what: 'POST uploadfile.ashx without a session', http: { path: '/uploadfile.ashx', method: 'POST', statusOnly: true, headers: { 'content-type': 'multipart/form-data; boundary=x' }, body: '--x\r\nContent-Disposition: form-data; name="link"\r\n\r\nuser//admin\r\n--x--\r\n' } },
  ],
};
