/** Users and user groups, as far as this account may see them. */
import type { LoggedEvent, User, UserGroup } from '../wire/protocol';

class People {
  users = $state.raw<Map<string, User>>(new Map());
  groups = $state.raw<Map<string, UserGroup>>(new Map());
  /** Open control sockets per user id. */
  online = $state.raw<Record<string, number>>({});
  loaded = $state(false);

  setUsers(users: User[]): void {
    this.users = new Map(users.map((user) => [user._id, user]));
    this.loaded = true;
  }

  setGroups(groups: Record<string, UserGroup> | null): void {
    this.groups = new Map(Object.entries(groups ?? {}).map(([id, group]) => [id, { ...group, _id: id }]));
  }

  clear(): void {
    this.users = new Map();
    this.groups = new Map();
    this.online = {};
    this.loaded = false;
  }

  apply(event: LoggedEvent): void {
    const account = event.account as User | undefined;
    switch (event.action) {
      case 'accountcreate':
      case 'accountchange':
        if (account?._id && (this.loaded || this.users.has(account._id))) this.users = new Map(this.users).set(account._id, account);
        break;
      case 'accountremove': {
        const users = new Map(this.users);
        if (users.delete(String(event.userid)) || users.delete(account?._id ?? '')) this.users = users;
        break;
      }
      case 'createusergroup':
      case 'usergroupchange': {
        const id = String(event.ugrpid);
        const group: UserGroup = { ...this.groups.get(id), _id: id, name: String(event.name ?? this.groups.get(id)?.name ?? '') };
        if (typeof event.desc === 'string') group.desc = event.desc;
        if (event.links) group.links = event.links as NonNullable<UserGroup['links']>;
        this.groups = new Map(this.groups).set(id, group);
        break;
      }
      case 'deleteusergroup': {
        const groups = new Map(this.groups);
        if (groups.delete(String(event.ugrpid))) this.groups = groups;
        break;
      }
      case 'wssessioncount':
        this.online = { ...this.online, [String(event.userid)]: Number(event.count ?? 0) };
        break;
    }
  }
}

export const people = new People();
