/** Images whose clusters are written one by one: chains, and large disks that hold little. */

import { dirname, join } from 'node:path';
import { run } from './process.js';

const CLUSTER = 64 << 10;

/** Makes `top`, and beside it its backing files: each of the `depth` images holds every depth-th cluster. */
export async function makeChain(top: string, size: number, depth: number): Promise<void> {
  const clusters = Math.floor(size / CLUSTER);
  for (let layer = 0; layer < depth; layer++) {
    const path = layer === depth - 1 ? top : join(dirname(top), `layer${layer}.qcow2`);
    const backing = layer === 0 ? [] : ['-b', `layer${layer - 1}.qcow2`, '-F', 'qcow2'];
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', ...backing, path, `${size}`]);
    const own = Math.ceil((clusters - layer) / depth);
    await writeClusters(
      path,
      Array.from({ length: own }, (_, i) => (i * depth + layer) * CLUSTER),
    );
  }
}

/** Makes an image that holds one cluster at each of `places` offsets, the same distance apart. */
export async function makeSpread(path: string, size: number, places: number): Promise<void> {
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', path, `${size}`]);
  const distance = size / places;
  await writeClusters(
    path,
    Array.from({ length: places }, (_, place) => place * distance),
  );
}

async function writeClusters(path: string, offsets: readonly number[]): Promise<void> {
  const commands = offsets.flatMap((offset) => ['-c', `write -q -P 7 ${offset} ${CLUSTER}`]);
  await run('qemu-io', ['-f', 'qcow2', ...commands, path]);
}
