/** The device over which the kernel of Linux asks processes for what they serve. */
import fs from '../fs.js';

const DEVICE = '/dev/fuse';

/** Whether there is one to speak to; elsewhere a library stands between. */
export function hasFuseDevice(): boolean {
  return process.platform === 'linux';
}

/** The open descriptors of this process that are the device. */
export function fuseDescriptors(): string[] {
  return hasFuseDevice() ? fs.readdirSync('/proc/self/fd').filter(isFuseDescriptor) : [];
}

/** Takes no descriptor, of which there may be none left. */
export function isFuseDescriptor(fd: string): boolean {
  try {
    return fs.readlinkSync(`/proc/self/fd/${fd}`) === DEVICE;
  } catch {
    return false; // The descriptor that listed them, or one that was closed.
  }
}
