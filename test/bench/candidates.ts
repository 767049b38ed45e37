/** The programs that are compared: for each, how it presents an image as a raw file, and how it stops. */

import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { KINDS, type Kind } from './workloads.js';

/** The image a candidate is to present, and the place where. */
export interface Job {
  readonly image: string;
  /** A file with the passphrase, for an encrypted image. */
  readonly secret?: string | undefined;
  /** An empty directory of this mount alone. */
  readonly dir: string;
}

export interface Candidate {
  readonly name: string;
  readonly kinds: readonly Kind[];
  /** The program that must be there, and what mends it when it is not. */
  readonly program: string;
  readonly remedy: string;
  /** The disk, relative to the job's directory. */
  readonly disk: string;
  /** The disk is a regular file that must exist before, rather than a file in a mounted directory. */
  readonly mountsOnFile: boolean;
  /** The command that mounts; `stays` in the foreground, or goes to the background when the disk is there. */
  readonly mount: (job: Job) => readonly string[];
  readonly stays: boolean;
  /** The command that unmounts `mountpoint`; without one, SIGTERM to the daemon does. */
  readonly unmount?: (mountpoint: string) => readonly string[];
}

// This file runs from dist/test/bench.
const qcow2fs = fileURLToPath(new URL('../../../bin/qcow2fs', import.meta.url));
const qcow2fsBuilt = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));

export const CANDIDATES: readonly Candidate[] = [
  {
    name: 'qcow2fs',
    kinds: KINDS,
    program: qcow2fsBuilt,
    remedy: 'make build',
    disk: 'disk.raw',
    mountsOnFile: false,
    mount: ({ image, secret, dir }) => [
      qcow2fs,
      'mount',
      '-r',
      ...(secret === undefined ? [] : ['--secret-file', secret]),
      image,
      dir,
    ],
    stays: false,
    unmount: (mountpoint) => [qcow2fs, 'umount', mountpoint],
  },
  {
    name: 'qsd',
    kinds: KINDS,
    program: 'qemu-storage-daemon',
    remedy: 'sudo apt-get install qemu-system-common',
    disk: 'disk',
    mountsOnFile: true,
    mount: ({ image, secret, dir }) => [
      'qemu-storage-daemon',
      ...(secret === undefined ? [] : ['--object', `secret,id=s,file=${secret}`]),
      '--blockdev',
      `driver=file,node-name=f,filename=${image},read-only=on`,
      '--blockdev',
      'driver=qcow2,node-name=q,file=f,read-only=on' +
        (secret === undefined ? '' : ',encrypt.format=luks,encrypt.key-secret=s'),
      '--export',
      `type=fuse,id=e,node-name=q,mountpoint=${dir}/disk,writable=off`,
    ],
    stays: true,
  },
  {
    name: 'qcowmount',
    kinds: ['plain'],
    program: 'qcowmount',
    remedy: 'sudo apt-get install libqcow-utils',
    disk: 'qcow1',
    mountsOnFile: false,
    mount: ({ image, dir }) => ['qcowmount', image, dir],
    stays: false,
    unmount: (mountpoint) =>
      process.getuid?.() === 0 ? ['umount', mountpoint] : ['fusermount', '-u', mountpoint],
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
