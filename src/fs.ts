/**
 * node:fs for names as this program carries them, bytes that are not UTF-8 included (`names.ts`): such a name becomes
 * bytes, and what comes back as text keeps them. Everything else is node:fs itself. The only importer of it.
 */
import fs from 'node:fs';
import { decodeName, encodeName, hasRawBytes, mayHaveLostBytes } from './names.js';

/** Functions whose first argument is a path, and which give no names back. */
const WITH_PATH = [
  'existsSync',
  'lstatSync',
  'mkdirSync',
  'openSync',
  'opendirSync',
  'rmSync',
  'statSync',
  'statfsSync',
  'unlinkSync',
  'writeFileSync',
] as const;
const PROMISES_WITH_PATH = ['open', 'truncate', 'utimes'] as const;

type Callable = (...args: unknown[]) => unknown;

function native(path: unknown): unknown {
  return typeof path === 'string' && hasRawBytes(path) ? encodeName(path) : path;
}

/** The function is looked up at each call, so that a test may put another one in its place. */
function withPaths<K extends string>(module: object, names: readonly K[]): Record<K, Callable> {
  const call =
    (name: K): Callable =>
    (path, ...rest) =>
      (module as Record<K, Callable>)[name](native(path), ...rest);
  return Object.fromEntries(names.map((name) => [name, call(name)])) as Record<K, Callable>;
}

function readFileSync(path: fs.PathOrFileDescriptor, options?: unknown): string | Buffer {
  if (options !== 'utf8') return fs.readFileSync(native(path) as string, options as 'utf8');
  return decodeName(fs.readFileSync(native(path) as string));
}

function readlinkSync(path: string): string {
  return decodeName(fs.readlinkSync(native(path) as string, 'buffer'));
}

function readdirSync(path: string, options?: { withFileTypes: true }): (string | fs.Dirent)[] {
  if (options !== undefined) return fs.readdirSync(native(path) as string, options);
  const names = fs.readdirSync(native(path) as string);
  return names.some(mayHaveLostBytes)
    ? fs.readdirSync(native(path) as string, 'buffer').map(decodeName)
    : names;
}

/** That of JavaScript looks at more than realpath(3), and takes no bytes. */
function realpathSync(path: string): string {
  if (hasRawBytes(path)) return realpathNative(path);
  const real = fs.realpathSync(path);
  return mayHaveLostBytes(real) ? realpathNative(path) : real;
}

function realpathNative(path: string): string {
  return decodeName(fs.realpathSync.native(native(path) as string, 'buffer'));
}

function renameSync(from: string, to: string): void {
  fs.renameSync(native(from) as string, native(to) as string);
}

/** What the program uses of node:fs, with paths that are strings. */
interface Names {
  readdirSync(path: string): string[];
  readdirSync(path: string, options: { withFileTypes: true }): fs.Dirent[];
  readlinkSync(path: string): string;
  realpathSync: ((path: string) => string) & { native(path: string): string };
  renameSync(from: string, to: string): void;
}

const promises = Object.assign(Object.create(fs.promises), withPaths(fs.promises, PROMISES_WITH_PATH));

const overrides = {
  ...withPaths(fs, WITH_PATH),
  promises,
  readFileSync,
  readdirSync,
  readlinkSync,
  realpathSync: Object.assign(realpathSync, { native: realpathNative }),
  renameSync,
};

export default Object.create(fs, Object.getOwnPropertyDescriptors(overrides)) as Omit<
  typeof fs,
  keyof Names
> &
  Names;

export type { BigIntStats, Stats, StatsBase } from 'node:fs';
