/** Devices: list, details, edit, move, members, remove. */
import { NOBODY } from '../world.mjs';
import { PASSWORD } from '../servers.mjs';

const key = (id) => id.split('/').at(-1);

export const devices = {
  name: 'Devices',
  cases: [
    { command: 'adduser', what: 'a helper', args: ['--user', 'n-ann', '--pass', PASSWORD] },
    { command: 'adddevicegroup', what: 'somewhere to move to', args: ['--name', 'n-Shed'], capture: { SHED: /ok (mesh\S+)/ } },
    { command: 'listdevices', what: 'in a group', args: ({ LAB }) => ['--id', LAB] },
    { command: 'listdevices', what: 'in a group, by name', args: ['--group', 'Lab'] },
    { command: 'listdevices', what: 'with the names of groups', args: [], lines: /Lab|\{NODE\}/ },
    { command: 'listdevices', what: 'in an empty group', args: ({ SHED }) => ['--id', SHED] },
    { command: 'listdevices', what: 'in an unknown group', args: ['--id', NOBODY] },
    { command: 'listdevices', what: 'in a group of an unknown name', args: ['--group', 'n-None'] },
    { command: 'listdevices', what: 'how many', args: ({ LAB }) => ['--id', LAB, '--count'] },
    { command: 'listdevices', what: 'as CSV', args: ['--csv'], lines: /\{NODE\}/ },
    { command: 'listdevices', what: 'as JSON', args: ({ LAB }) => ['--id', LAB, '--json'], json: (all) => all.map((one) => Object.fromEntries(Object.entries(one).filter(([name]) => SAME.has(name)))) },
    { command: 'listdevices', what: 'with a filter', args: ['--filter', 'name:no-such-name'] },
    { command: 'listdevices', what: 'with a filter by id', args: ({ NODE }) => ['--filterid', NODE, '--count'] },
    { command: 'listdevices', what: 'in detail, as JSON', args: ['--details'], json: (all, { NODE }) => all.filter((one) => one.node._id === NODE).map((one) => [Object.keys(one).sort(), one.node.groupname, one.node.conn]) },
    { command: 'listdevices', what: 'in detail, as CSV', args: ['--details', '--csv'], clean: (text) => `${text.split('\n')[0]} ${text.split('\n').filter((line) => line.includes('{NODE}')).map((line) => line.split(',').length)}` },
    { command: 'listdevices', what: 'none visible', as: 'n-ann' },
    { command: 'listdevices', what: 'none visible, in detail', as: 'n-ann', args: ['--details'] },
    { command: 'deviceinfo', what: 'a device', args: ({ NODE }) => ['--id', key(NODE)], clean: (text) => text.split('\n').filter((line) => /^(General|Operating System|Mesh Agent|Networking)|Last agent connection|^ +(Server Name|Agent status|Name|Version) +:/.test(line)).map((line) => line.trim().replace(/: .*/, ':')).join('\n') },
    { command: 'deviceinfo', what: 'an unknown device', args: ['--id', NOBODY] },
    { command: 'deviceinfo', what: 'a device that one does not see', args: ({ NODE }) => ['--id', key(NODE)], as: 'n-ann' },
    { command: 'editdevice', what: 'name, description, tags, icon, consent', args: ({ AWAY }) => ['--id', AWAY, '--name', 'n-away', '--desc', 'Gone', '--tags', 'b,a', '--icon', '3', '--consent', '1'] },
    { command: 'listdevices', what: 'after the change', args: ({ ATTIC }) => ['--id', ATTIC, '--json'], json: (all) => all.map(({ name, desc, tags, icon, consent }) => ({ name, desc, tags, icon, consent })) },
    { command: 'editdevice', what: 'no description, no tags', args: ({ AWAY }) => ['--id', AWAY, '--desc', '--tags'] },
    { command: 'editdevice', what: 'nothing', args: ({ AWAY }) => ['--id', AWAY] },
    { command: 'editdevice', what: 'by the bare id', args: ({ AWAY }) => ['--id', key(AWAY), '--icon', '2'] },
    { command: 'editdevice', what: 'an unknown device', args: ['--id', `node//${NOBODY}`, '--name', 'x'] },
    { command: 'editdevice', what: 'without the right', args: ({ AWAY }) => ['--id', AWAY, '--name', 'x'], as: 'n-ann' },
    { command: 'addusertodevice', what: 'a user', args: ({ AWAY }) => ['--id', AWAY, '--userid', 'n-ann', '--remotecontrol', '--wakedevices'] },
    { command: 'listdevices', what: 'through a right on a device', as: 'n-ann' },
    { command: 'addusertodevice', what: 'all rights', args: ({ AWAY }) => ['--id', AWAY, '--userid', 'n-ann', '--fullrights'] },
    { command: 'addusertodevice', what: 'an unknown user', args: ({ AWAY }) => ['--id', AWAY, '--userid', 'n-none', '--remotecontrol'] },
    { command: 'addusertodevice', what: 'an unknown device', args: ['--id', `node//${NOBODY}`, '--userid', 'n-ann', '--remotecontrol'], patience: 2500 },
    { command: 'addusertodevice', what: 'without the right', args: ({ AWAY }) => ['--id', AWAY, '--userid', 'plain', '--remotecontrol'], as: 'n-ann', patience: 2500 },
    { command: 'removeuserfromdevice', what: 'a user', args: ({ AWAY }) => ['--id', AWAY, '--userid', 'n-ann'] },
    { command: 'removeuserfromdevice', what: 'a user who has none', args: ({ AWAY }) => ['--id', AWAY, '--userid', 'n-ann'] },
    { command: 'removeuserfromdevice', what: 'an unknown user', args: ({ AWAY }) => ['--id', AWAY, '--userid', 'n-none'] },
    { command: 'movetodevicegroup', what: 'a device', args: ({ AWAY, SHED }) => ['--devid', AWAY, '--id', SHED] },
    { command: 'movetodevicegroup', what: 'to where it is', args: ({ AWAY, SHED }) => ['--devid', AWAY, '--id', SHED] },
    { command: 'movetodevicegroup', what: 'back, by name', args: ({ AWAY }) => ['--devid', key(AWAY), '--group', 'Attic'] },
    { command: 'movetodevicegroup', what: 'an unknown device', args: ({ SHED }) => ['--devid', NOBODY, '--id', SHED] },
    { command: 'movetodevicegroup', what: 'to an unknown group', args: ({ AWAY }) => ['--devid', AWAY, '--id', NOBODY] },
    { command: 'movetodevicegroup', what: 'to a group of an unknown name', args: ({ AWAY }) => ['--devid', AWAY, '--group', 'n-None'] },
    { command: 'movetodevicegroup', what: 'without the right', args: ({ AWAY, SHED }) => ['--devid', AWAY, '--id', SHED], as: 'n-ann' },
    { command: 'removedevice', what: 'without the right', args: ({ AWAY }) => ['--id', AWAY], as: 'n-ann' },
    { command: 'removedevice', what: 'an unknown device', args: ['--id', NOBODY] },
  ],
};

/** Fields of a device that must be the same, their values included. */
const SAME = new Set(['type', 'mtype', '_id', 'icon', 'name', 'rname', 'domain', 'host', 'osdesc', 'ip', 'conn', 'pwr', 'meshid']);
