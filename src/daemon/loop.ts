/** The loop device of a mounted disk. */
import { Qcow2fsError } from '../errors.js';
import { attachLoop, backingDeviceOf, detachLoop, type LoopDevice } from '../host/loop-device.js';
import { mountTable } from '../host/mounts.js';
import type { SectorSize } from './sector-size.js';
import type { Session } from './session.js';
import { withdraw } from './stop.js';

/** The kernel tells nobody of a lazy unmount, so that is looked for: milliseconds. */
const POLL_INTERVAL = 1000;

export interface Loop extends LoopDevice {
  /** The device and its partitions. */
  readonly devices: readonly string[];
  /** Rejects while somebody uses it; it is gone then when that ends. */
  detach(): Promise<void>;
}

/** @throws Qcow2fsError; the disk is unmounted then, and served no more */
export async function startLoop(
  session: Session,
  disk: string,
  readOnly: boolean,
  sectorSize: SectorSize,
): Promise<Loop> {
  try {
    const { partitions, ...loop } = await attachLoop(disk, readOnly, sectorSize);
    const detach = (): Promise<void> => detachLoop(loop);
    if ((await backingDeviceOf(loop)) !== session.device) {
      // What has been attached may be a file that the mount had covered, or one to which the path leads now.
      await detach();
      throw new Qcow2fsError('mountpoint', `${disk}: unmounted or moved while its loop device was made`);
    }
    return { ...loop, devices: [loop.device, ...partitions], detach };
  } catch (error) {
    await withdraw(session, error);
    throw error;
  }
}

/**
 * Gives the device back when the disk is mounted nowhere any more: after a lazy unmount it would keep the disk open.
 * @param onFailure called once when somebody uses the device, which goes with its last user then
 */
export function detachWhenUnmounted(
  loop: Loop,
  session: Session,
  onFailure: (error: unknown) => void,
): NodeJS.Timeout {
  const timer = setInterval(() => {
    if (isMounted(session)) return;
    clearInterval(timer);
    loop.detach().catch(onFailure);
  }, POLL_INTERVAL);
  return timer;
}

/** When in doubt it is. */
function isMounted({ device }: Session): boolean {
  try {
    return mountTable().some((entry) => entry.device === device);
  } catch {
    return true;
  }
}
