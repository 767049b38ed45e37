/**
 * Preloaded into a daemon (node --import): when it has looked at its mountpoint and is about to mount, the directory
 * SWAP_FROM is renamed to SWAP_TO, and another one is in its place.
 */
import fs from 'node:fs';
import path from 'node:path';
import { isMainThread } from 'node:worker_threads';

const { SWAP_FROM: from, SWAP_TO: to } = process.env;

if (isMainThread && from !== undefined && to !== undefined) {
  const { openSync } = fs;
  fs.openSync = (file, ...rest) => {
    if (file === '/dev/fuse' && !fs.existsSync(to)) {
      fs.renameSync(from, to);
      fs.mkdirSync(path.join(from, 'mnt'), { recursive: true });
    }
    return openSync(file, ...rest);
  };
}
