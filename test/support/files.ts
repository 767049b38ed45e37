/** Content, times and other properties of the files that a test looks at. */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { tool } from './run.js';

const CHUNK = 1024 * 1024;

export function sha256(file: string): string {
  const hash = createHash('sha256');
  const buffer = Buffer.alloc(CHUNK);
  const fd = fs.openSync(file, 'r');
  try {
    for (let read = -1; read !== 0; ) {
      read = fs.readSync(fd, buffer, 0, CHUNK, null);
      hash.update(buffer.subarray(0, read));
    }
  } finally {
    fs.closeSync(fd);
  }
  return hash.digest('hex');
}

/** All of a file that must stay as it is. */
export interface FileState {
  readonly name: string;
  readonly times: string;
  readonly content: string;
}

/** Sets old access times first: the kernel updates those at the very next read, were it allowed to. */
export function rememberFiles(dir: string): FileState[] {
  const contents = namesIn(dir).map((name) => sha256(path.join(dir, name)));
  for (const name of namesIn(dir)) tool('touch', '-a', '-d', '2001-02-03 04:05:06', path.join(dir, name));
  return namesIn(dir).map((name, index) => ({ name, times: timesOf(dir, name), content: contents[index]! }));
}

/** No byte and no time stamp of any file in the directory differs. */
export function expectUntouched(dir: string, before: readonly FileState[]): void {
  // Times first: hashing is reading.
  expect(namesIn(dir).map((name) => [name, timesOf(dir, name)])).to.deep.equal(
    before.map(({ name, times }) => [name, times]),
  );
  expect(namesIn(dir).map((name) => [name, sha256(path.join(dir, name))])).to.deep.equal(
    before.map(({ name, content }) => [name, content]),
  );
}

function namesIn(dir: string): string[] {
  return fs.readdirSync(dir).sort();
}

function timesOf(dir: string, name: string): string {
  const { size, mode, atimeNs, mtimeNs, ctimeNs, ino } = fs.statSync(path.join(dir, name), { bigint: true });
  return [size, mode, ino, atimeNs, mtimeNs, ctimeNs].join(' ');
}

/** sha256 of every regular file below a directory, by relative name. */
export function hashTree(top: string): Record<string, string> {
  const names = fs.readdirSync(top, { recursive: true, encoding: 'utf8' }).sort();
  const files = names.filter((name) => fs.lstatSync(path.join(top, name)).isFile());
  return Object.fromEntries(files.map((name) => [name, sha256(path.join(top, name))]));
}

/** Opens a file, does something with the descriptor, and closes it. */
export function withFile<T>(file: string, flags: string | number, use: (fd: number) => T): T {
  const fd = fs.openSync(file, flags);
  try {
    return use(fd);
  } finally {
    fs.closeSync(fd);
  }
}

/** The name of what an action is refused with (`ENOSPC`), or `nothing`. */
export function refusalOf(action: () => unknown): string {
  try {
    action();
    return 'nothing';
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error);
  }
}

/** Bytes that a file takes of its host. */
export function bytesOnHost(file: string): number {
  return fs.statSync(file).blocks * 512;
}
