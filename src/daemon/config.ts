/** What a mount is to be. */
import type { MountWord } from '../fuse/mount-words.js';
import type { ReadLock } from '../host/image-locks.js';
import type { BackingFormat } from '../qcow2/backing-file.js';
import type { ImageSecret } from '../qcow2/secrets.js';
import type { SectorSize } from './sector-size.js';

export const TRANSPORTS = ['kernel', 'libfuse'] as const;
export type Transport = (typeof TRANSPORTS)[number];

/** Of the disk, unless --mode says otherwise: what is decrypted is for the user who has the key. */
export const DEFAULT_MODE = 0o600;

export interface DaemonConfig {
  /** Absolute paths: a daemon's working directory is /. */
  readonly image: string;
  /** By which it is opened: the same, or a descriptor of the caller. */
  readonly imagePath: string;
  readonly mountpoint: string;
  /** The file's name in a directory mountpoint. */
  readonly name: string;
  /** Wiped when the images are open, or will not be. */
  readonly secret: Uint8Array | undefined;
  readonly imageSecrets: readonly ImageSecret[];
  readonly maxIterations: number | undefined;
  readonly snapshot: string | undefined;
  readonly allowDirectories: readonly string[];
  readonly backingFormat: BackingFormat | undefined;
  readonly writable: boolean;
  readonly resizable: boolean;
  /** An absolute path, or `temp`. */
  readonly overlay: string | undefined;
  readonly readLock: ReadLock;
  /** Where what cannot be read is recorded: an absolute path. Read-only disks alone. */
  readonly errorMap: string | undefined;
  readonly allowOther: boolean;
  /** Permission bits that the disk is to have. */
  readonly mode: number;
  readonly mountWords: readonly MountWord[];
  /** Owner and group that the disk shows; undefined: the user of this process, and the group of the image. */
  readonly uid: number | undefined;
  readonly gid: number | undefined;
  /** What mount tables show instead of the image. */
  readonly source: string | undefined;
  /** The mountpoint may have files, which are hidden then. */
  readonly nonEmpty: boolean;
  /** Attach the disk to a loop device. */
  readonly loop: boolean;
  /** Of the loop device; undefined: what the partition table says. */
  readonly sectorSize: SectorSize | undefined;
  readonly threads: number;
  readonly transport: Transport;
  /** Where the daemon's standard error goes, for messages; undefined in the foreground. */
  readonly log: string | undefined;
}
