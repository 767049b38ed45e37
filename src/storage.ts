/**
 * What the engine sees of the host: one file or block device that holds an image, or a part of one. The tests put
 * storages here that record, fail or lose writes.
 *
 * All positions and lengths are bytes. Every failure is a `Qcow2fsError` of kind `host-io` that names the file.
 */
export interface Storage {
  /** The file's path, for messages. */
  readonly path: string;

  /** False for what has a fixed size: a block device. A file grows by writing. */
  readonly extensible: boolean;

  /** Current length of the file. */
  size(): number;
  /** Bytes of disk space that the file takes. */
  allocatedBytes(): number;

  /**
   * Fills `target[targetOffset, targetOffset + length)` from `position`.
   * @returns bytes read; fewer than `length` only at the end of the file, and the rest of the target is untouched.
   */
  read(target: Buffer, targetOffset: number, length: number, position: number): number;
  /** Writes all of `source[sourceOffset, sourceOffset + length)` at `position`. */
  write(source: Buffer, sourceOffset: number, length: number, position: number): void;

  /** The first position at or after `position` that holds data; the file's size where there is none. */
  nextData(position: number): number;
  /** The first position at or after `position` in a hole; the file's size where there is none. */
  nextHole(position: number): number;

  /** Gives the range's space back to the host; it reads as zeros afterwards. Fails where the host cannot make holes. */
  punch(position: number, length: number): void;
  /** Makes the range read as zeros, by a hole where the host can make one, else by writing. */
  zero(position: number, length: number): void;
  truncate(size: number): void;
  /** Returns when all that was written is on stable storage. */
  sync(): void;
  close(): void;
}
