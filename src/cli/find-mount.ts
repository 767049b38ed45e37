/** Which mount a path means. What is mounted is not looked at: a daemon that hangs would be waited for, and not even killing helps then. */
import path from 'node:path';
import { readState } from '../daemon/state.js';
import fs from '../fs.js';
import { type MountEntry, mountTable } from '../host/mounts.js';

/** As many symbolic links as Linux follows in one path. */
const MAX_LINKS = 40;

/**
 * @param place absolute: a mountpoint, or the disk in it as `list` shows it; any part may be a symbolic link
 * @returns what is mounted there, on top
 */
export function findMount(place: string): MountEntry | undefined {
  const mounts = mountTable();
  const rest = partsOf(place);
  let at = '/';
  for (let links = 0; rest.length > 0 && links <= MAX_LINKS; ) {
    const next = path.join(at, rest.shift()!);
    const entry = mounts.findLast(({ mountpoint }) => mountpoint === next);
    if (entry !== undefined) return rest.length === 0 || isDisk(entry, rest) ? entry : undefined;
    const target = linkTarget(next);
    if (target === undefined) at = next;
    else {
      links++;
      if (target.startsWith('/')) at = '/';
      rest.unshift(...partsOf(target));
    }
  }
  return undefined;
}

function partsOf(place: string): string[] {
  return place.split('/').filter((part) => part !== '');
}

function isDisk({ device, userId }: MountEntry, [name, ...more]: readonly string[]): boolean {
  const state = userId === undefined ? undefined : readState(device, userId);
  return state !== undefined && more.length === 0 && path.basename(state.disk) === name;
}

function linkTarget(place: string): string | undefined {
  try {
    return fs.readlinkSync(place);
  } catch {
    return undefined;
  }
}
