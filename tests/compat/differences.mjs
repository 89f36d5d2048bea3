/**
 * The differences that are intended, each with its reason: by the case's `command: what`, what MeshCentral answers and
 * what Outpost answers (texts, or patterns where they vary). A case that differs and is not here fails the run.
 */

const SILENT = '(no answer)';
const told = (meshcentral, outpost) => ({ meshcentral, outpost, reason: 'A failure is told in the field that clients read.' });
const unseen = (meshcentral, outpost) => ({ meshcentral, outpost, reason: 'Whoever may not see a thing is not told that it exists.' });

export const differences = {
  'broadcast: to an unknown user': told('ok', 'User does not exists'),
  'adduser: a short password': { meshcentral: 'ok', outpost: 'Invalid password', reason: 'A password has 8 characters unless `passwordRequirements` says otherwise.' },
  'edituser: a bad address': told('ok', 'Invalid email'),
  'edituser: without the right': told(SILENT, 'Permission denied'),
  'edituser: oneself without the right': told(SILENT, 'Permission denied'),
  'edituser: more rights than the manager may give': told('ok', 'Permission denied'),

  'addtousergroup: to an unknown group': told('ok', 'Unknown user group'),
  'removefromusergroup: a user who is not in it': told('ok', 'User not in group'),
  'removefromusergroup: an unknown user': told('ok', 'User does not exists'),
  'removefromusergroup: from an unknown group': told('ok', 'Unknown user group'),
  'removefromusergroup: without the right': told(SILENT, 'Permission denied'),

  'editdevicegroup: a code that another group has': told(SILENT, 'Invite code "d-code1" is already in use'),
  'editdevicegroup: a name that is too long': told('ok', 'Invalid group name'),
  'editdevicegroup: without the right': { ...unseen(SILENT, 'Invalid group identifier') },
  'addusertodevicegroup: an unknown user': told('Nothing done', 'Unknown user d-none'),
  'removeuserfromdevicegroup: without the right': unseen('Permission denied', 'Unknown device group'),
  'removedevicegroup: without the right': unseen('Access denied', 'Unknown device group'),
  'removedevicegroup: the same again': { meshcentral: 'Access denied', outpost: 'Unknown device group', reason: 'A group that was removed is unknown.' },

  'addusertodevice: an unknown device': told(SILENT, 'Invalid nodeid'),
  'addusertodevice: without the right': told(SILENT, 'Access denied'),
  'movetodevicegroup: without the right': unseen('Permission denied', 'Unknown device group'),

  'runcommand: a script that is too long': told(SILENT, 'cmds: expected 1 to 65535 bytes, found 65536'),
  'devicepower: off, a device that is away': told('ok', 'Agent not connected'),
  'devicepower: off, without the right': told('ok', 'Invalid nodeid'),
  'devicepower: restarting an unknown device': told('ok', 'Invalid nodeid'),
  'devicepower: Intel AMT, where there is none': told('ok', 'Intel AMT is not known on this device'),
  'devicetoast: a device that is away': told('ok', 'Agent not connected'),
  'devicetoast: without the right': told('ok', 'Invalid nodeid'),

  'listevents: without any link': { meshcentral: SILENT, outpost: 'time,type,action,nodeid,userid,msg', reason: 'Nothing to show is answered by an empty list.' },

  'devicesharing: removing one': told('undefined', 'OK'),
  'devicesharing: removing an unknown one': told('undefined', 'Invalid device share identifier.'),
  'webrelay: where there is none': { meshcentral: '(not asked)', outpost: 'WebRelay Disabled', reason: 'The process of MeshCentral ends when it is asked this.' },

  'control.ashx: recordings, without the right': told(SILENT, 'recordings tag: Access denied'),
  'control.ashx: changeusernotify, an unknown device': told(SILENT, 'changeusernotify responseid: Access denied'),
  'control.ashx: an action in other letters': told(SILENT, /Unknown action `Meshes`/),
  'control.ashx: an unknown action': told(SILENT, /Unknown action `makecoffee`/),

  'HTTP: GET MeshServerRootCert.cer': { meshcentral: '200 application/octet-stream', outpost: '200 application/x-x509-ca-cert', reason: 'Systems offer to install a file of this kind.' },
  'HTTP: GET meshrelay.ashx without an upgrade': { meshcentral: '404', outpost: '403', reason: 'A tunnel’s half that may not be is refused before the upgrade.' },

  'libmeshctrl: device_info': { meshcentral: '["{NODE}", "{HOST}", false, "Lab", true]', outpost: '["{NODE}", "{HOST}", true, "Lab", true]', reason: 'The device of `getsysinfo` carries its connection, too.' },

  'files: without the right': told(SILENT, '{"action":"files","responseid":"r","result":"Access denied"}'),
  'fileoperation: a new folder of a bad name': { meshcentral: /"docs"/, outpost: SILENT, reason: 'What was not done shows nothing new; the reason is in the answer.' },

  'showevents: a new user group': { meshcentral: /^createusergroup ugrp 69 .*msgArgv/, outpost: /^createusergroup ugrp 69 action domain .*msgArgs msgArgv/, reason: 'The event has the fields of all others, beside those of its own.' },
  'addlocaldevice: to an unknown group': told(/^Validation exception/, 'Unknown device group'),
  'addamtdevice: on the internet': told(SILENT, 'Intel AMT agentless mesh only allowed'),
  'report: the database, without full rights': told(SILENT, 'group,Access denied'),
};
