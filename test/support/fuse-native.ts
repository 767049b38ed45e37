/** The package behind the libfuse transport: what it starts keeps a process for good. */
import { createRequire } from 'node:module';

export function isFuseNativeLoaded(): boolean {
  return Object.keys(createRequire(import.meta.url).cache).some((file) => file.includes('/fuse-native/'));
}
