/**
 * For preloads (node --import) that stand between a daemon and the files of the host. Two ways lead there, node:fs and
 * the C library through koffi (src/host/io.ts), and both lead through here.
 */
import fs from 'node:fs';
import { createRequire } from 'node:module';

export interface Transfer {
  readonly direction: 'read' | 'write';
  /** Bytes. */
  readonly length: number;
  /** Where in a file; undefined for requests and replies of /dev/fuse. */
  readonly position: number | undefined;
}

/** @param perform does it, with as many bytes as are given */
export type Around = (transfer: Transfer, perform: (length: number) => number) => number;

type NodeCall = (
  fd: number,
  bytes: NodeJS.ArrayBufferView | string,
  from: number,
  length: number,
  at: number | null,
) => number;
type ForeignCall = (fd: number, address: number, length: number, at?: number) => number;
interface Library {
  func(prototype: string): ForeignCall;
}

const FOREIGN = /\bp?(read|write)\(int fd, uint64_t/;

/** Every read and write of this thread goes through `around`. */
export function interceptTransfers(around: Around): void {
  const ofNode =
    (direction: Transfer['direction'], call: NodeCall): NodeCall =>
    (fd, bytes, from, length, at) =>
      around({ direction, length, position: at ?? undefined }, (some) => call(fd, bytes, from, some, at));
  Object.assign(fs, {
    readSync: ofNode('read', fs.readSync as NodeCall),
    writeSync: ofNode('write', fs.writeSync as NodeCall),
  });

  const ofLibrary =
    (direction: Transfer['direction'], call: ForeignCall): ForeignCall =>
    (fd, address, length, ...at) =>
      around({ direction, length, position: at[0] }, (some) => call(fd, address, some, ...at));
  const koffi = createRequire(import.meta.url)('koffi') as { load(path: string | null): Library };
  const { load } = koffi;
  koffi.load = (path) => {
    const library = load(path);
    const func = (prototype: string): ForeignCall => {
      const call = library.func(prototype);
      const direction = FOREIGN.exec(prototype)?.[1] as Transfer['direction'] | undefined;
      return direction === undefined ? call : ofLibrary(direction, call);
    };
    return Object.create(library, { func: { value: func } }) as Library;
  };
}

/** Every fdatasync(2) of this thread goes through `around`. */
export function interceptSyncs(around: (perform: () => void) => void): void {
  const { fdatasyncSync } = fs;
  Object.assign(fs, { fdatasyncSync: (fd: number) => around(() => fdatasyncSync(fd)) });
}
