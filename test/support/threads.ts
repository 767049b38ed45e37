/** How many threads the daemons of a suite get: in turn, or all that QCOW2FS_THREADS names, as in `1,2,8`. */

const ROTATION = [1, 2, 8];
const wanted = process.env['QCOW2FS_THREADS'];

/** @param index of what is tested among its like */
export function threadCounts(index: number): readonly number[] {
  return wanted === undefined ? [ROTATION[index % ROTATION.length]!] : wanted.split(',').map(Number);
}
