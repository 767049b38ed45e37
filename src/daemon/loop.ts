/** The loop device of a mounted disk. */
import { attachLoop, detachLoop } from '../host/loop-device.js';
import type { Session } from './session.js';

export interface Loop {
  readonly device: string;
  /** The device and its partitions. */
  readonly devices: readonly string[];
  /** Rejects while somebody uses it; it is gone then when that ends. */
  detach(): Promise<void>;
}

/** @throws Qcow2fsError; the disk is unmounted then, and served no more */
export async function startLoop(session: Session, disk: string, readOnly: boolean): Promise<Loop> {
  try {
    const devices = await attachLoop(disk, readOnly);
    const device = devices[0]!;
    return { device, devices, detach: () => detachLoop(device, disk) };
  } catch (error) {
    session.unmount(true);
    await session.ended;
    throw error;
  }
}
