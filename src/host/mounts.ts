/**
 * What is mounted, and how it is unmounted: whatever the transport. Here alone it is decided by platform; a port adds a
 * `MountSystem`.
 */
import { Qcow2fsError } from '../errors.js';
import { linuxMounts } from './mounts-linux.js';

/** A mounted qcow2fs, as the kernel's mount table tells. */
export interface MountEntry {
  /** The kernel's number for it, which the next mount may have when it has gone (proc(5), mountinfo). */
  readonly id: string;
  /** Where it is now: whoever may rename a directory above it may make this path lead elsewhere. */
  readonly mountpoint: string;
  /** What of the file system is there: `/`, or a file of it that was bound elsewhere. */
  readonly root: string;
  readonly source: string;
  /** `major:minor`, unique among the mounts of the machine. */
  readonly device: string;
  readonly userId: number | undefined;
  readonly readOnly: boolean;
}

export interface MountSystem {
  /** All mounts of qcow2fs, oldest first. */
  table(): MountEntry[];
  /**
   * Unmounts this mount and no other one, whatever its path leads to. Sends no request to the file system.
   * @param lazy detach now, end when the last user is gone
   * @throws Qcow2fsError `mountpoint` when the disk is in use and `lazy` is not set, or another file system covers it
   */
  unmount(entry: MountEntry, lazy: boolean): void;
  /**
   * The directory, or the file, that is mounted. While it is held the mount cannot be unmounted.
   * @throws Qcow2fsError `mountpoint` when its path leads elsewhere
   */
  openRoot(entry: MountEntry): Held;
  /** See `MountName`; undefined, too, when its path leads elsewhere. */
  unique(entry: MountEntry): string | undefined;
  /** The mount whose requests come by this descriptor. */
  served(fd: number): MountEntry | undefined;
  /** See `Connection`. */
  connection(device: string): Connection;
}

/** A file that is pinned by a descriptor. */
export interface Held {
  readonly fd: number;
  /** Leads to it, in this process. */
  readonly path: string;
  close(): void;
}

/** What the kernel and a daemon speak over. The kernel gives its number to another one when it has ended. */
export interface Connection {
  /** Every user of the disk gets an error from now on. Does what is permitted. */
  abort(): void;
}

const SYSTEMS: Partial<Record<NodeJS.Platform, MountSystem>> = { linux: linuxMounts };

/** @throws Qcow2fsError `fuse` where nobody has written one yet */
function system(): MountSystem {
  const found = SYSTEMS[process.platform];
  if (found !== undefined) return found;
  throw new Qcow2fsError(
    'fuse',
    `qcow2fs cannot mount on ${process.platform} yet; info, check, map and hash need no mount`,
  );
}

/** All mounts of qcow2fs, oldest first. @throws Qcow2fsError `fuse` where the platform is not supported */
export function mountTable(): MountEntry[] {
  return system().table();
}

/** What is mounted at exactly this path, on top; `path` has no symbolic links. */
export function mountedAt(path: string): MountEntry | undefined {
  return mountTable().findLast((entry) => entry.mountpoint === path);
}

/** What a mount is called for good. */
export interface MountName {
  readonly id: string;
  readonly device: string;
  /** Never another mount's, as ID and device are as soon as it has gone; undefined where the kernel does not tell. */
  readonly unique: string | undefined;
}

export function nameOf(entry: MountEntry): MountName {
  const { id, device } = entry;
  return { id, device, unique: system().unique(entry) };
}

/** The mount as it is now; undefined when it is not mounted any more. */
export function mountOf({ id, device, unique }: MountName): MountEntry | undefined {
  const found = mountTable().find((entry) => entry.id === id && entry.device === device);
  return found === undefined || unique === undefined || system().unique(found) === unique ? found : undefined;
}

/** See `MountSystem`. */
export function unmount(entry: MountEntry, lazy: boolean): void {
  system().unmount(entry, lazy);
}

/** See `MountSystem`. */
export function openRoot(entry: MountEntry): Held {
  return system().openRoot(entry);
}

/** See `MountSystem`. */
export function servedBy(fd: number): MountEntry | undefined {
  return system().served(fd);
}

/** See `Connection`. */
export function openConnection(device: string): Connection {
  return system().connection(device);
}
