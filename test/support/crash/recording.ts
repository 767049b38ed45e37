/** A workload on an image in memory: every call to the host files, and which operation was under way. */
import fs from 'node:fs';
import { readSecret } from '../../../src/cli/secret.js';
import type { Disk } from '../../../src/disk.js';
import { Qcow2fsError } from '../../../src/errors.js';
import { type OpenOptions, openDisk, type StorageOf } from '../../../src/qcow2/chain.js';
import { type Image, imagePath } from '../images.js';
import { type HostCall, MemoryFile, type Witness, WitnessedStorage } from './files.js';
import { type Operation, perform } from './history.js';
import type { CrashImage } from './images.js';

/** Contents by path. */
export type Files = ReadonlyMap<string, Buffer>;

export interface Recording {
  readonly before: Files;
  /** The guest disk. */
  readonly content: Buffer;
  readonly log: readonly LogEntry[];
  readonly operations: readonly TimedOperation[];
}

export interface LogEntry {
  readonly path: string;
  readonly call: HostCall;
  /** A sync that failed. */
  readonly failed: boolean;
}

export interface TimedOperation {
  readonly operation: Operation;
  /** The length of the log when the operation began, and when it returned. */
  readonly begin: number;
  readonly end: number;
  readonly failed: boolean;
}

export function readFiles({ files }: CrashImage): Files {
  return new Map(files.map((file) => [file, fs.readFileSync(file)]));
}

/** @param files changed in place by those who write; files that are not among them are read from the host */
export function openInMemory(
  image: Image,
  files: ReadonlyMap<string, MemoryFile>,
  options: OpenOptions = {},
  witness: Witness = () => {},
): Promise<Disk> {
  const { secret } = image;
  const key = secret && readSecret(secret.file, secret.format);
  // The real files stay open beneath, for their locks.
  const storageOf: StorageOf = ({ path, fd }) => {
    const file = files.get(path) ?? new MemoryFile(fs.readFileSync(path));
    return new WitnessedStorage(path, file, witness, { close: () => fs.closeSync(fd) });
  };
  return openDisk(imagePath(image), { ...options, secret: key }, storageOf);
}

export function inMemory(files: Files): Map<string, MemoryFile> {
  return new Map([...files].map(([path, content]) => [path, new MemoryFile(content)]));
}

export function contentOf(disk: Disk): Buffer {
  const content = Buffer.alloc(disk.size);
  disk.read(content, 0, content.length, 0);
  return content;
}

export function readAndClose(disk: Disk): Buffer {
  try {
    return contentOf(disk);
  } finally {
    disk.close();
  }
}

/** @param failing the sync, counted from 0, that fails; the workload goes on after it, and every flush must fail */
export async function record(
  crashImage: CrashImage,
  operations: readonly Operation[],
  failing = -1,
): Promise<Recording> {
  const { image, growth } = crashImage;
  const before = readFiles(crashImage);
  const log: LogEntry[] = [];
  let syncs = 0;
  const witness: Witness = (call, _file, path) => {
    if (call.do === 'read') return;
    const failed = call.do === 'sync' && syncs++ === failing;
    log.push({ path, call, failed });
    if (failed) throw new Qcow2fsError('host-io', `${path}: sync failed`);
  };
  const options = { writable: true, resizable: growth > 0 };
  const disk = await openInMemory(image, inMemory(before), options, witness);
  const content = contentOf(disk);
  const timed: TimedOperation[] = [];
  const perhaps = (operation: Operation, action: () => void): void => {
    const begin = log.length;
    const failed = !succeeds(action);
    timed.push({ operation, begin, end: log.length, failed });
    const lost = failing >= 0 && syncs > failing;
    if (failed !== lost && (operation.do === 'flush' || failed)) {
      throw new Error(`${operation.do} ${failed ? 'fails' : 'does not tell that a sync failed'}`);
    }
  };
  for (const operation of operations) perhaps(operation, () => perform(disk, operation));
  perhaps({ do: 'flush' }, () => disk.close());
  return { before, content, log, operations: timed };
}

function succeeds(action: () => void): boolean {
  try {
    action();
    return true;
  } catch (error) {
    if (error instanceof Qcow2fsError && error.kind === 'host-io') return false;
    throw error;
  }
}
