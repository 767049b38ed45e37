/** One mounted file system while it is served, whatever carries its requests. */
import { hostReason, Qcow2fsError } from '../errors.js';
import type { MountWord } from '../fuse/mount-words.js';
import { tryOpen } from '../host/disk-programs.js';
import {
  type Connection,
  type MountEntry,
  type MountName,
  mountedAt,
  mountOf,
  nameOf,
  openConnection,
  openRoot,
  servedBy,
  unmount,
} from '../host/mounts.js';
import { announceMount } from './launch.js';
import type { Mountpoint } from './mountpoint.js';
import { withdraw } from './stop.js';

/** Programs and threads that mounting, opening and unmounting start. */
export const SPARE_PROCESSES = 6;

export interface Session {
  /** `major:minor` of the mount; empty where it was unmounted before it could be told. */
  readonly device: string;
  /** Settles when the last request is answered; rejects when the service broke down. */
  readonly ended: Promise<void>;
  /** @throws Qcow2fsError `mountpoint` when the disk is in use and `lazy` is not set */
  unmount(lazy: boolean): void;
  /** Ends the service although the disk is in use: every user gets an error. */
  abort(): void;
}

export interface SessionOptions {
  readonly mountpoint: Mountpoint;
  /** What mount tables show as the source: the image. */
  readonly source: string;
  readonly allowOther: boolean;
  readonly words: readonly MountWord[];
}

/** The mount of a session, by what the kernel calls it: paths may lead elsewhere by the time they are used. */
export class OwnMount {
  readonly device: string;
  readonly #name: MountName | undefined;
  readonly #mountpoint: string;
  readonly #connection: Connection;

  /** @param fd of /dev/fuse, by which its requests come */
  constructor(fd: number, { path }: Mountpoint) {
    const entry = servedBy(fd) ?? mountedAt(path);
    this.#mountpoint = path;
    this.#name = entry && nameOf(entry);
    this.device = entry?.device ?? '';
    this.#connection = openConnection(this.device);
    if (this.#name !== undefined) announceMount(this.#name);
  }

  /** The mount as it is now; undefined when it is not mounted any more. */
  get entry(): MountEntry | undefined {
    return this.#name && mountOf(this.#name);
  }

  /**
   * Opens the disk, as whoever mounts it will.
   * @param name of the disk in the directory; undefined where it is the mountpoint
   * @throws Qcow2fsError `mountpoint`
   */
  async tryOpen(name: string | undefined): Promise<void> {
    const { entry } = this;
    if (entry === undefined) throw this.#gone();
    const root = openRoot(entry);
    try {
      await tryOpen(root, name);
    } catch (error) {
      const reason = hostReason(error);
      throw new Qcow2fsError('mountpoint', `${this.#mountpoint}: mounted, but cannot be opened: ${reason}`);
    } finally {
      root.close();
    }
  }

  readonly unmount = (lazy: boolean): void => {
    const { entry } = this;
    if (entry === undefined) throw this.#gone();
    unmount(entry, lazy);
  };

  readonly abort = (): void => this.#connection.abort();

  #gone(): Qcow2fsError {
    return new Qcow2fsError('mountpoint', `${this.#mountpoint}: unmounted already`);
  }
}

/**
 * The session of a file system that was just mounted, when its disk can be opened.
 * @throws Qcow2fsError when it cannot; nothing is mounted then, and nobody waits for it
 */
export async function whenOpen(
  mount: OwnMount,
  name: string | undefined,
  ended: Promise<void>,
): Promise<Session> {
  const session = { device: mount.device, ended, unmount: mount.unmount, abort: mount.abort };
  const endedEarly = ended.then(() => {
    throw new Qcow2fsError('mountpoint', 'unmounted before the disk was ready');
  });
  try {
    await Promise.race([mount.tryOpen(name), endedEarly]);
    endedEarly.catch(() => {});
    return session;
  } catch (error) {
    await withdraw(session, error);
    throw error;
  }
}
