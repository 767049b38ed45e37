/** Who may open the disk of a mount. */
import { grantsOf, isReachedByOwner } from '../host/grants.js';
import { notice } from '../notice.js';
import type { Layers } from '../qcow2/chain.js';

const READ = 4;
const READ_WRITE = 6;

/**
 * The mode that was asked for, without what a file that holds a part of the disk does not grant to the same people:
 * those who could not read the disk, or write it, by reading or writing all files of the image.
 *
 * @param owner of the disk: the user who mounts, or another one whom he names
 * @param group of the disk
 */
export function grantedMode(wanted: number, layers: Layers, owner: number, group: number): number {
  const mounts = owner === process.getuid!();
  if (mounts && (wanted & 0o077) === 0) return wanted;
  let mode = wanted;
  for (const [depth, layer] of layers.entries()) {
    const dataFile = layer.kind === 'qcow2' ? layer.dataFile : undefined;
    for (const { fd, path } of dataFile === undefined ? [layer.file] : [layer.file, dataFile]) {
      const granted = grantsOf(fd, owner, group);
      // What is below the image is never written.
      const bits = (permissions: number): number =>
        depth > 0 && permissions & READ ? READ_WRITE : permissions;
      const own = mounts || isReachedByOwner(fd, owner) ? 0o700 : bits(granted.others) << 6;
      const left = mode & (own | (bits(granted.group) << 3) | bits(granted.others));
      if (left !== mode) notice(`${path}: grants no more than ${octal(left)} of --mode ${octal(wanted)}`);
      mode = left;
    }
  }
  return mode;
}

function octal(mode: number): string {
  return mode.toString(8).padStart(4, '0');
}
