/** One mounted file system while it is served, whatever carries its requests. */
import type { MountWord } from '../fuse/mount-words.js';

export interface Session {
  /** `major:minor` of the mount. */
  readonly device: string;
  /** Settles when the last request is answered; rejects when the service broke down. */
  readonly ended: Promise<void>;
  /** @throws Qcow2fsError `mountpoint` when the disk is in use and `lazy` is not set */
  unmount(lazy: boolean): void;
  /** Ends the service although the disk is in use: every user gets an error. */
  abort(): void;
}

export interface SessionOptions {
  readonly mountpoint: string;
  readonly singleFile: boolean;
  /** What mount tables show as the source: the image. */
  readonly source: string;
  readonly allowOther: boolean;
  readonly words: readonly MountWord[];
}
