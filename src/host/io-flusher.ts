/** Keeps a thread that serves a disk from waiting for itself. */
import { foreignIfPresent } from './libc.js';

const PR_SET_IO_FLUSHER = 57;

/**
 * To get memory, the kernel may write back dirty pages: those of a file system on the disk, too, which would wait for
 * this very thread. From now on it does not make this thread do that, and throttles it by its own writes alone (prctl(2),
 * PR_SET_IO_FLUSHER). Needs CAP_SYS_RESOURCE; elsewhere nobody mounts such file systems.
 */
export function becomeIoFlusher(): void {
  if (process.platform !== 'linux' || process.geteuid?.() !== 0) return;
  foreignIfPresent(
    'int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)',
  )?.(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
}
