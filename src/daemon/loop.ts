/** The loop device of a mounted disk. */
import { Qcow2fsError } from '../errors.js';
import { attachLoop, detachLoop, type LoopDevice } from '../host/loop-device.js';
import { mountedAt } from '../host/mounts.js';
import type { Session } from './session.js';
import { withdraw } from './stop.js';

export interface Loop extends LoopDevice {
  /** The device and its partitions. */
  readonly devices: readonly string[];
  /** Rejects while somebody uses it; it is gone then when that ends. */
  detach(): Promise<void>;
}

/** @throws Qcow2fsError; the disk is unmounted then, and served no more */
export async function startLoop(
  session: Session,
  mountpoint: string,
  disk: string,
  readOnly: boolean,
): Promise<Loop> {
  try {
    const { partitions, ...loop } = await attachLoop(disk, readOnly);
    const detach = (): Promise<void> => detachLoop(loop);
    if (mountedAt(mountpoint)?.device !== session.device) {
      // What has been attached may be a file that the mount had covered.
      await detach();
      throw new Qcow2fsError('mountpoint', `${mountpoint}: unmounted while its loop device was made`);
    }
    return { ...loop, devices: [loop.device, ...partitions], detach };
  } catch (error) {
    await withdraw(session, error);
    throw error;
  }
}
