/** Whether an open file lies in a file system that is mounted where this process can see it. Linux only. */
import fs from 'node:fs';

/**
 * The kernel tells the path of a file within the mounts of whoever has it: a file that is reached through
 * /proc/PID/root may lie in a container, or outside of a chroot, under a path that looks like one of ours.
 *
 * In a chroot that is no mount of its own, other files of the same mount cannot be told apart.
 */
export function isMountedHere(fd: number): boolean {
  const id = mountOf(fd);
  if (id === undefined) return true;
  const mounts = fs.readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
  return mounts.some((line) => line.startsWith(`${id} `)) || id === mountOfTop();
}

/** Undefined where the kernel does not tell. */
function mountOf(fd: number): string | undefined {
  return /^mnt_id:\s*(\d+)$/m.exec(fs.readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1];
}

/** The mount of / is not listed in a chroot into a part of it. */
function mountOfTop(): string | undefined {
  const fd = fs.openSync('/', 'r');
  try {
    return mountOf(fd);
  } finally {
    fs.closeSync(fd);
  }
}
