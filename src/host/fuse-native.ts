/** The package that binds libfuse, and the libfuse that it finds. */
import { createRequire } from 'node:module';
import path from 'node:path';
import { Qcow2fsError } from '../errors.js';
import fs from '../fs.js';
import { loadLibrary } from './libc.js';

type FuseModule = typeof import('fuse-native');

/**
 * fuse-native is linked with libfuse.so.2. Where the system has none, the one that fuse-native ships serves.
 * @throws Qcow2fsError `fuse`
 */
export function loadFuseNative(): FuseModule {
  const require = createRequire(import.meta.url);
  try {
    try {
      return require('fuse-native') as FuseModule;
    } catch (error) {
      if (!String(error).includes('libfuse.so.2')) throw error;
      const home = path.dirname(require.resolve('fuse-native/package.json'));
      const shipped = path.join(home, 'prebuilds', `${process.platform}-${process.arch}`, 'libfuse.so');
      if (!fs.existsSync(shipped)) {
        throw new Error('libfuse.so.2 is not installed: apt-get install libfuse2t64, or libfuse2');
      }
      loadLibrary(shipped);
      return require('fuse-native') as FuseModule;
    }
  } catch (error) {
    throw new Qcow2fsError('fuse', `cannot load fuse-native: ${(error as Error).message.split('\n', 1)[0]}`);
  }
}
