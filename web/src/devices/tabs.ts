/** Which tabs a device has for this user, and why one that was asked for is missing. */
import { has, limited, Right } from '../rights';
import type { DeviceTab } from '../router.svelte';
import { text } from '../text';
import type { Device } from '../wire/protocol';
import { Capability, offers } from './system';

/** In the order in which they stand. */
export const TAB_ORDER: readonly DeviceTab[] = ['general', 'desktop', 'terminal', 'files', 'console', 'processes', 'events'];

/** Why a tab cannot be used, in words; empty when it can. Rights come first: a device's abilities are not everybody's to know. */
export function whyNot(tab: DeviceTab, rights: number, device: Device): string {
  const { noTab, noCapability } = text.device;
  const control = has(rights, Right.RemoteControl);
  switch (tab) {
    case 'desktop':
      if (!(control || has(rights, Right.ViewOnly)) || limited(rights, Right.NoDesktop)) return noTab.desktop;
      return offers(device, Capability.Desktop) ? '' : noCapability.desktop;
    case 'terminal':
      if (!control || limited(rights, Right.NoTerminal)) return noTab.terminal;
      return offers(device, Capability.Terminal) ? '' : noCapability.terminal;
    case 'files':
      if (!control || limited(rights, Right.NoFiles)) return noTab.files;
      return offers(device, Capability.Files) ? '' : noCapability.files;
    case 'console':
      if (!control || !has(rights, Right.Console)) return noTab.console;
      return offers(device, Capability.Console) ? '' : noCapability.console;
    case 'processes':
      return control ? '' : noTab.processes;
    case 'general':
    case 'events':
      return '';
  }
}

/** How far someone may go on the desktop. */
export function desktopAllowed(rights: number): 'control' | 'limited' | 'view' {
  if (!has(rights, Right.RemoteControl) || limited(rights, Right.ViewOnly)) return 'view';
  return limited(rights, Right.LimitedInput) ? 'limited' : 'control';
}
