/** The shapes that cross the control socket: MeshCentral's names, optional where it omits them. */

/** Rights value meaning "everything"; always compared as a whole. */
export const FULL_RIGHTS = 0xffffffff;

export interface Link {
  rights: number;
  name?: string;
}
export type Links = Record<string, Link>;

export interface DeviceGroup {
  _id: string;
  name: string;
  /** 1 Intel AMT, 2 agents, 3 agentless, 4 IP-KVM. */
  mtype: number;
  desc?: string;
  domain: string;
  links?: Links;
  creation?: number;
  creatorname?: string;
  flags?: number;
  consent?: number;
  expireDevs?: number;
}

/** Who has which kind of session open on a device: kind → user id → count. */
export type DeviceSessions = Record<string, Record<string, number>>;

export interface Device {
  _id: string;
  meshid: string;
  name: string;
  rname?: string;
  domain?: string;
  mtype?: number;
  icon?: number;
  host?: string | null;
  desc?: string;
  tags?: string[];
  agent?: { ver?: number; id?: number; caps?: number; core?: string; root?: boolean; tag?: string };
  ip?: string;
  osdesc?: string;
  firstconnect?: number;
  lastbootuptime?: number;
  /** Connectivity bits; absent or 0 when not connected. */
  conn?: number;
  /** 0 unknown, 1 on, 2–4 sleeping, 5 hibernating, 6 soft-off, 7 present, 8 off. */
  pwr?: number;
  agct?: number;
  links?: Links;
  users?: string[];
  lusers?: string[];
  sessions?: DeviceSessions;
}

export interface User {
  _id: string;
  name: string;
  email?: string;
  emailVerified?: boolean;
  realname?: string;
  /** Seconds since 1970, like every time of an account. */
  creation?: number;
  login?: number;
  access?: number;
  passchange?: number;
  siteadmin?: number;
  /** 1 where an authenticator app is set up, and where there are backup codes. */
  otpsecret?: number;
  otpkeys?: number;
  links?: Links;
}

export interface UserGroup {
  _id: string;
  name: string;
  desc?: string;
  links?: Links;
}

export interface LoggedEvent {
  action: string;
  etype?: string;
  msg?: string | number;
  time?: string;
  userid?: string;
  username?: string;
  nodeid?: string;
  meshid?: string;
  ugrpid?: string;
  [field: string]: unknown;
}

export interface ServerInfo {
  domain: string;
  name: string;
  port: number;
  serverTime?: number;
  agentCertHash?: string;
  tlshash?: string;
  features?: number;
  features2?: number;
  /** Recordings are limited to those that are marked. */
  usersSessionRecording?: 1;
  userGroupsSessionRecording?: 1;
  devGroupSessionRecording?: 1;
}

export interface WebSessionInfo {
  id: string;
  ip: string;
  userAgent: string;
  /** Milliseconds since 1970. */
  created: number;
  lastSeen: number;
  current: boolean;
}

/** Any message of the control socket before it is looked at closely. */
export interface Message {
  action: string;
  responseid?: string;
  requestid?: string;
  result?: string;
  [field: string]: unknown;
}
