/** The programs that are compared: for each, how it presents an image as a raw file, and how it stops. */

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { KIND_NAMES, type KindName } from './kinds.js';

/** The image a candidate is to present, and the place where. */
export interface Job {
  readonly image: string;
  /** A file with the passphrase, for an encrypted image. */
  readonly secret?: string | undefined;
  /** An empty directory of this mount alone. */
  readonly dir: string;
  readonly readOnly: boolean;
}

export interface Candidate {
  readonly name: string;
  readonly kinds: readonly KindName[];
  readonly writes: boolean;
  /** The program that must be there, and what mends it when it is not. */
  readonly program: string;
  readonly remedy: string;
  /** The commands that print the versions of what it consists of. */
  readonly versions: readonly (readonly string[])[];
  /** The disk, relative to the job's directory. */
  readonly disk: string;
  /** The disk is a regular file that must exist before, rather than a file in a mounted directory. */
  readonly mountsOnFile: boolean;
  /** The command that mounts; `stays` in the foreground, or goes to the background when the disk is there. */
  readonly mount: (job: Job) => readonly string[];
  readonly stays: boolean;
  /** The command that unmounts `mountpoint`; without one, SIGTERM to the daemon does. */
  readonly unmount?: (mountpoint: string) => readonly string[];
  /** Measured only when it is asked for by name. */
  readonly onRequest?: true;
}

/** The two whose ratio is the point of it all. */
export const SUBJECT = 'qcow2fs';
export const REFERENCE = 'qsd';

/** An earlier state of qcow2fs, with which a change is compared. */
export const BEFORE = 'before';

// This file runs from dist/test/bench.
const ROOT = fileURLToPath(new URL('../../..', import.meta.url));

const secretObject = (secret: string | undefined) =>
  secret === undefined ? [] : ['--object', `secret,id=s,file=${secret}`];
const secretUse = (secret: string | undefined) =>
  secret === undefined ? '' : ',encrypt.format=luks,encrypt.key-secret=s';
const umount = (mountpoint: string) =>
  process.getuid?.() === 0 ? ['umount', mountpoint] : ['fusermount3', '-u', mountpoint];

/** @param root a checkout of qcow2fs that is built */
const qcow2fs = (name: string, root: string): Candidate => ({
  name,
  kinds: KIND_NAMES,
  writes: true,
  program: join(root, 'dist/src/cli/main.js'),
  remedy: 'make build',
  versions: [
    [join(root, 'bin/qcow2fs'), '--version'],
    [process.execPath, '--version'],
  ],
  disk: 'disk.raw',
  mountsOnFile: false,
  mount: ({ image, secret, dir, readOnly }) => [
    ...[join(root, 'bin/qcow2fs'), 'mount'],
    ...(readOnly ? ['-r'] : []),
    ...(secret === undefined ? [] : ['--secret-file', secret]),
    ...[image, dir],
  ],
  stays: false,
  unmount: (mountpoint) => [join(root, 'bin/qcow2fs'), 'umount', mountpoint],
});

const ours = qcow2fs(SUBJECT, ROOT);

export const earlier = (root: string): Candidate => qcow2fs(BEFORE, root);

export const CANDIDATES: readonly Candidate[] = [
  ours,
  {
    ...ours,
    name: 'libfuse',
    mount: (job) => [...ours.mount(job), '--transport', 'libfuse'],
    onRequest: true,
  },
  {
    name: REFERENCE,
    kinds: KIND_NAMES,
    writes: true,
    program: 'qemu-storage-daemon',
    remedy: 'sudo apt-get install qemu-system-common',
    versions: [['qemu-storage-daemon', '--version']],
    disk: 'disk',
    mountsOnFile: true,
    mount: ({ image, secret, dir, readOnly }) => {
      const access = readOnly ? ',read-only=on' : '';
      return [
        ...['qemu-storage-daemon', ...secretObject(secret)],
        ...['--blockdev', `driver=file,node-name=f,filename=${image}${access}`],
        ...['--blockdev', `driver=qcow2,node-name=q,file=f${access}${secretUse(secret)}`],
        ...[
          '--export',
          `type=fuse,id=e,node-name=q,mountpoint=${dir}/disk,writable=${readOnly ? 'off' : 'on'}`,
        ],
      ];
    },
    stays: true,
  },
  {
    name: 'nbdfuse',
    kinds: KIND_NAMES,
    writes: true,
    program: 'nbdfuse',
    remedy: 'sudo apt-get install nbdfuse qemu-utils',
    versions: [
      ['nbdfuse', '--version'],
      ['qemu-nbd', '--version'],
    ],
    disk: 'disk',
    mountsOnFile: true,
    mount: ({ image, secret, dir, readOnly }) => [
      ...['nbdfuse', ...(readOnly ? ['-r'] : []), `${dir}/disk`],
      ...['[', 'qemu-nbd', ...(readOnly ? ['-r'] : []), ...secretObject(secret)],
      ...['--image-opts', `driver=qcow2,file.driver=file,file.filename=${image}${secretUse(secret)}`, ']'],
    ],
    stays: true,
    unmount: umount,
  },
  {
    name: 'qcowmount',
    kinds: ['plain', 'zlib'],
    writes: false,
    program: 'qcowmount',
    remedy: 'sudo apt-get install libqcow-utils',
    versions: [['qcowmount', '-V']],
    disk: 'qcow1',
    mountsOnFile: false,
    mount: ({ image, dir }) => ['qcowmount', image, dir],
    stays: false,
    unmount: umount,
  },
];

/** The path of a program, or undefined if it is not installed. */
export function which(program: string): string | undefined {
  if (program.includes('/')) return existsSync(program) ? program : undefined;
  const path = `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`;
  return path
    .split(':')
    .map((dir) => `${dir}/${program}`)
    .find((file) => existsSync(file));
}
