/** All cases, in the order of the table. A chapter touches only what it made and what `furnish` promises. */
import { account } from './account.mjs';
import { users } from './users.mjs';
import { userGroups } from './user-groups.mjs';
import { groups } from './groups.mjs';
import { clients } from './clients.mjs';
import { devices } from './devices.mjs';
import { actions } from './actions.mjs';
import { access } from './access.mjs';
import { echo } from './echo.mjs';
import { files } from './files.mjs';
import { http } from './http.mjs';
import { libmeshctrl } from './libmeshctrl.mjs';
import { history } from './history.mjs';

export const chapters = [account, users, userGroups, groups, devices, actions, clients, access, history, echo, files, http, libmeshctrl];
