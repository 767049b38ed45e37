/** Words of mount(8) that change what the kernel does with a mount, and that every way of mounting takes. */

/** The flags of mount(2) that they stand for. */
export const MOUNT_FLAGS = {
  noexec: 8,
  sync: 16,
  dirsync: 128,
  noatime: 1024,
  nodiratime: 2048,
} as const;

export type MountWord = keyof typeof MOUNT_FLAGS;

export function isMountWord(word: string): word is MountWord {
  return Object.hasOwn(MOUNT_FLAGS, word);
}
