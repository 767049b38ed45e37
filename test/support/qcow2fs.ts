/** The program under test, as users run it: `bin/qcow2fs` in a process of its own, and mounts that never outlive a test. */

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Image } from './images.js';
import type { BuiltImage } from './variant.js';

/** Top of the repository; the compiled tests lie in dist/test/support. */
export const ROOT = path.resolve(fileURLToPath(import.meta.url), '../../../..');
export const BIN = path.join(ROOT, 'bin', 'qcow2fs');

export interface Outcome {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunAs {
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
  /** Run as this ordinary user (root only). */
  readonly uid?: number;
  readonly gid?: number;
}

/** Runs `qcow2fs ARGS`, whatever its outcome. A hang fails after two minutes. */
export function qcow2fs(args: readonly string[], options: RunAs = {}): Outcome {
  const result = spawnSync(BIN, args, {
    encoding: 'utf8',
    timeout: 120_000,
    ...options,
  });
  if (result.error) throw result.error;
  return { status: result.status, stdout: result.stdout, stderr: result.stderr };
}

/** As `qcow2fs`, but any failure is an error with what it printed. */
export function expectQcow2fs(args: readonly string[], options: RunAs = {}): string {
  const { status, stdout, stderr } = qcow2fs(args, options);
  if (status !== 0) throw new Error(`qcow2fs ${args.join(' ')}: status ${status}: ${stderr.trim()}`);
  return stdout;
}

/** True for the command line of a process that serves a mount, or is about to: neither the shell nor Node that launches it. */
export function isDaemon(words: readonly string[]): boolean {
  return path.basename(words[0] ?? '') === 'node' && words.some((word) => word.endsWith('/cli/main.js'));
}

export interface Mounted {
  readonly mountpoint: string;
  /** Path of the raw disk. */
  readonly disk: string;
  readonly log: string;
  unmount(): void;
}

const active = new Set<Mounted>();

/**
 * Mounts with `-r` on a directory made beside nothing else in `dir`.
 * @param args options besides -r and --log
 */
export function mountReadOnly(
  image: string,
  dir: string,
  args: readonly string[] = [],
  runAs: RunAs = {},
): Mounted {
  return mountIn(dir, ['-r', ...args], image, runAs);
}

/** As `mountReadOnly`, but the disk can be written. */
export function mountWritable(
  image: string,
  dir: string,
  args: readonly string[] = [],
  runAs: RunAs = {},
): Mounted {
  return mountIn(dir, args, image, runAs);
}

function mountIn(dir: string, args: readonly string[], image: string, runAs: RunAs): Mounted {
  const mountpoint = fs.mkdtempSync(path.join(dir, 'mnt-'));
  const log = `${mountpoint}.log`;
  if (runAs.uid !== undefined) fs.chownSync(mountpoint, runAs.uid, runAs.gid ?? runAs.uid);
  expectQcow2fs(['mount', '--log', log, ...args, image, mountpoint], runAs);
  const mounted: Mounted = {
    mountpoint,
    disk: path.join(mountpoint, 'disk.raw'),
    log,
    unmount() {
      if (!active.delete(mounted)) return;
      expectQcow2fs(['umount', mountpoint], runAs);
      fs.rmdirSync(mountpoint);
    },
  };
  active.add(mounted);
  return mounted;
}

/** The options that an image of the matrix needs. */
export function mountArguments({ secretFile, secretFormat, snapshot }: BuiltImage): string[] {
  return [
    ...(secretFile === undefined
      ? []
      : ['--secret-file', secretFile, '--secret-format', secretFormat ?? 'raw']),
    ...(snapshot === undefined ? [] : ['--snapshot', snapshot]),
  ];
}

/** Unmounts what a failed test left; for hooks. */
export function unmountAll(): void {
  // Last things first: one may lie on another.
  for (const mounted of [...active].reverse()) {
    try {
      mounted.unmount();
    } catch {
      spawnSync('umount', ['-l', mounted.mountpoint]);
    }
  }
}

/** The disk's options on the command line: its key, if it has one. */
export function keyOptions({ secret }: Image): string[] {
  return secret === undefined ? [] : ['--secret-file', secret.file, '--secret-format', secret.format];
}
