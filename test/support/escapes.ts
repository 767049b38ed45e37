/**
 * Every way that is known to us for an image to name a file outside of its directory, and every kind of thing that is
 * no file. The file outside holds a canary: `describeRefusals` looks for it.
 */

import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { outside, overlay, overlayNamed, SIZE, withDataFile } from './naming.js';
import { CANARY, type Refusal } from './refusals.js';
import { tool } from './run.js';

/** A file outside, full of canaries, and what leads there. */
export interface Place {
  /** The directory of the image. */
  readonly dir: string;
  /** That of the secret, beside it. */
  readonly out: string;
  readonly secret: string;
}

export interface Escape {
  readonly how: string;
  /** Makes what the way needs; returns the name that the image is to carry. */
  readonly name: (place: Place) => string;
  /** What the line must say, when it is not the path of the secret and the option that allows it. */
  readonly words?: readonly string[];
  /** As that of a `Refusal`. */
  readonly ownProcess?: boolean;
}

const SECRET = 'secret.raw';
const ALLOWED_BY = ['-outside/secret.raw lies outside', 'if you trust the image, add --allow-dir /'] as const;

export function makePlace(dir: string): Place {
  const out = outside(dir);
  const secret = path.join(out, SECRET);
  fs.writeFileSync(secret, CANARY.repeat(Math.ceil(SIZE / CANARY.length)).slice(0, SIZE));
  return { dir, out, secret };
}

/** One refusal for each role that a named file can have. */
export function refusalsOf(escapes: readonly Escape[], access?: readonly string[]): Refusal[] {
  const roles = {
    'backing file': (dir: string, name: string) => overlay(dir, name, 'raw'),
    'data file': withDataFile,
  };
  return Object.entries(roles).flatMap(([role, make]) =>
    escapes.map(({ how, name, words = ALLOWED_BY, ownProcess = false }) => ({
      title: `a ${role} named by ${how}${access === undefined ? '' : `, with ${access.join(' ') || 'writing'}`}`,
      make: (dir: string) => make(dir, name(makePlace(dir))),
      kind: 'named-file' as const,
      words: ['image.qcow2', ...words],
      ownProcess,
      ...(access === undefined ? {} : { access }),
    })),
  );
}

function link(dir: string, name: string, target: string): string {
  fs.symlinkSync(target, path.join(dir, name));
  return name;
}

const up = ({ out }: Place): string => `../${path.basename(out)}/${SECRET}`;

/** Plain paths and links. */
export const PATHS: readonly Escape[] = [
  { how: 'an absolute path', name: ({ secret }) => secret },
  { how: 'an absolute path with many slashes', name: ({ secret }) => `//${secret.replaceAll('/', '//')}` },
  { how: '..', name: up },
  { how: '.. after . and a directory of its own', name: (place) => `./mnt/.././${up(place)}` },
  {
    how: 'more .. than there are directories',
    name: ({ secret }) => `${'../'.repeat(40)}${secret.slice(1)}`,
  },
  { how: 'an absolute path that leaves the directory by ..', name: (place) => `${place.dir}/${up(place)}` },
  { how: 'a link to the file', name: ({ dir, secret }) => link(dir, 'link', secret) },
  { how: 'a relative link', name: (place) => link(place.dir, 'link', up(place)) },
  { how: 'a link to its directory', name: ({ dir, out }) => `${link(dir, 'way', out)}/${SECRET}` },
  { how: 'a link to /', name: ({ dir, secret }) => `${link(dir, 'top', '/')}${secret}` },
  {
    how: 'a chain of links',
    name: ({ dir, out, secret }) => {
      link(dir, 'third', secret);
      link(out, 'second', `${dir}/third`);
      return link(dir, 'first', `${out}/second`);
    },
    words: ['-outside/second lies outside', ALLOWED_BY[1]],
  },
  {
    how: '.. behind a link to a directory outside',
    name: ({ dir, out }) => {
      fs.mkdirSync(`${out}/deep`);
      return `${link(dir, 'way', `${out}/deep`)}/../${SECRET}`;
    },
  },
  {
    how: 'a link that leads to itself',
    name: ({ dir }) => link(dir, 'loop', 'loop'),
    words: ['/loop: cannot open', 'too many symbolic links'],
  },
  { how: 'file: and an absolute path', name: ({ secret }) => `file:${secret}` },
  { how: 'file:// and an absolute path', name: ({ secret }) => `file://${secret}` },
  { how: 'file: and ..', name: (place) => `file:${up(place)}` },
];

/** /proc leads everywhere. The test itself is the other process, which has the secret open. */
export const PROC: readonly Escape[] = [
  { how: '/proc/self/root', name: ({ secret }) => `/proc/self/root${secret}` },
  { how: '/proc/thread-self/root', name: ({ secret }) => `/proc/thread-self/root${secret}` },
  { how: '/proc/self/cwd', name: ({ secret }) => `/proc/self/cwd${secret}` },
  { how: '/proc/PID/root', name: ({ secret }) => `/proc/${process.pid}/root${secret}`, ownProcess: true },
  {
    how: '/proc/PID/cwd',
    name: ({ secret }) => `/proc/${process.pid}/cwd/../../../../../..${secret}`,
    ownProcess: true,
  },
  { how: 'a link into /proc', name: ({ dir, secret }) => link(dir, 'link', `/proc/self/root${secret}`) },
  {
    how: '/proc/self/environ',
    name: () => '/proc/self/environ',
    words: ['/environ lies outside', '--allow-dir /proc/'],
  },
  { how: '/proc/self/mem', name: () => '/proc/self/mem', words: ['/mem lies outside'] },
  standardInput('/proc/self/fd/0'),
  standardInput('/dev/fd/0'),
  standardInput('/dev/stdin'),
  { how: '/proc/self/fd', name: () => '/proc/self/fd', words: ['/fd lies outside'] },
];

/** Of the command, which has none. */
function standardInput(how: string): Escape {
  return { how, name: () => how, words: [`${how} lies outside`], ownProcess: true };
}

/** What is in the directory and no file, or is none anywhere. */
export const ODDITIES: readonly Escape[] = [
  {
    how: 'a FIFO, at once',
    name: ({ dir }) => node(dir, 'fifo', 'p'),
    words: ['/fifo: is a FIFO'],
    ownProcess: true,
  },
  { how: '/dev/zero', name: () => '/dev/zero', words: ['/dev/zero lies outside', '--allow-dir /dev'] },
  { how: 'a socket', name: ({ dir }) => socket(dir), words: ['/socket: is no file'] },
  { how: 'its directory', name: () => '.', words: ['lies outside'] },
  { how: 'a directory in it', name: () => 'mnt', words: ['/mnt: is a directory'] },
  {
    how: 'a file with a slash behind it',
    name: ({ dir }) => {
      fs.writeFileSync(path.join(dir, 'base.raw'), '');
      return 'base.raw/';
    },
    words: ['/base.raw/: cannot open', 'ENOTDIR'],
  },
];

/** As root alone can make them. */
export const DEVICES: readonly Escape[] = [
  {
    how: 'a character device',
    name: ({ dir }) => node(dir, 'zero', 'c', '1', '5'),
    words: ['/zero: is no file'],
  },
];

function node(dir: string, name: string, ...kind: string[]): string {
  tool('mknod', path.join(dir, name), ...kind);
  return name;
}

/** A server removes its socket under the name that it gave it. */
function socket(dir: string): string {
  const server = net.createServer().listen(path.join(dir, 'listening'));
  fs.renameSync(path.join(dir, 'listening'), path.join(dir, 'socket'));
  server.close();
  return 'socket';
}

const json = (value: object): string => `json:${JSON.stringify(value)}`;

/** For backing files alone. */
export const JSON_NAMES: readonly Escape[] = [
  {
    how: 'json, nested',
    name: ({ secret: filename }) => json({ driver: 'raw', file: { driver: 'file', filename } }),
  },
  {
    how: 'json, dotted',
    name: ({ secret }) => json({ driver: 'raw', 'file.driver': 'file', 'file.filename': secret }),
  },
  { how: 'json, the file alone', name: ({ secret: filename }) => json({ driver: 'file', filename }) },
  {
    how: 'json without a driver of the file',
    name: ({ secret: filename }) => json({ driver: 'raw', file: { filename } }),
  },
  {
    how: 'json and ..',
    name: (place) => json({ driver: 'raw', file: { driver: 'file', filename: up(place) } }),
  },
  {
    how: 'json within json',
    name: ({ secret: filename }) => json({ driver: 'raw', filename: json({ driver: 'file', filename }) }),
  },
  { how: 'json and file:', name: ({ secret }) => json({ driver: 'raw', filename: `file:${secret}` }) },
  {
    how: 'a window by json',
    name: ({ secret: filename }) => json({ driver: 'raw', offset: 512, size: 512, file: { filename } }),
  },
  {
    how: 'json with host_device',
    name: () => json({ driver: 'host_device', filename: '/dev/zero' }),
    words: ['/dev/zero lies outside', '--allow-dir /dev'],
  },
  {
    how: 'json with an unknown option that names a file',
    name: ({ secret: filename }) =>
      json({ driver: 'raw', file: { driver: 'blkdebug', image: { filename } } }),
    words: ['only local files can be read'],
  },
];

export const PROTOCOLS: readonly Escape[] = [
  'nbd:unix:/run/x.sock',
  'nbd+unix:///?socket=/run/x.sock',
  'host_device:/dev/zero',
  'fd:0',
  'blkdebug::/etc/passwd',
  'vvfat:/etc',
  'FILE:/etc/passwd',
  ':/etc/passwd',
].map((name) => ({ how: name, name: () => name, words: ['not a local file'] }));

/** Names that no shell can type, and must not reach a terminal as they are. */
export const UNSPEAKABLE: readonly Refusal[] = [
  ['a NUL', '/etc/pass\0wd', 'pass'],
  ['a newline', 'evil\nall is well', 'evil\\u000aall'],
  ['an escape sequence', 'evil\x1b[2J', 'evil\\u001b[2J'],
  ['marks that turn the writing round', 'evil\u202efdp', 'evil\\u202efdp'],
  ['a line separator', 'evil\u2028x', 'evil\\u2028x'],
].map(([what, name, word]) => ({
  title: `a backing file with ${what} in its name`,
  make: (dir: string) => overlayNamed(dir, Buffer.from(name!)),
  kind: 'named-file' as const,
  words: ['image.qcow2: ', 'backing file', word!],
}));
