/** The options by which commands open images and the files that these name. */
import type { Command } from 'commander';
import type { ReadLock } from '../host/image-locks.js';
import { keepMemoryPrivate } from '../host/secrecy.js';
import type { OpenOptions } from '../qcow2/chain.js';
import { parseBackingFormat, parseIterations, parseSecretFormat } from './mount-options.js';
import { absolutePath } from './paths.js';
import { readSecrets } from './secret.js';

/** As commander collects them. */
export interface KeyFlags {
  secretFile?: string[];
  secretFormat?: string;
  maxIterations?: string;
}

export interface ReadFlags extends KeyFlags {
  allowDir?: string[];
  backingFormat?: string;
  forceShare?: boolean;
  ignoreLocks?: boolean;
}

export const collect = (value: string, previous: string[] = []): string[] => [...previous, value];

export function addKeyOptions(command: Command): Command {
  return command
    .option(
      '--secret-file <file>',
      'the key of encrypted images: every byte of FILE, a trailing newline included. IMAGE=FILE: the key ' +
        'of one image of the chain (repeatable). credential:NAME: what systemd loaded for the unit',
      collect,
    )
    .option('--secret-format <format>', 'how FILE holds the key: raw or base64', 'raw')
    .option(
      '--max-iterations <n>',
      'PBKDF2 iterations that unlocking all images may take (default: 100000000)',
    );
}

/** For the files that an image names. */
export function addNamedFileOptions(command: Command): Command {
  return command
    .option(
      '--allow-dir <dir>',
      'let the image name backing and data files below DIR, which may also be one file or block device (repeatable)',
      collect,
    )
    .option(
      '--backing-format <format>',
      'format of backing files whose image does not declare one: qcow2 or raw',
    );
}

/** For commands that read an image while they run. */
export function addReadOptions(command: Command): Command {
  return addNamedFileOptions(command)
    .option(
      '--force-share',
      'look at an image that a virtual machine is writing: what is found may be out of date',
    )
    .option('--ignore-locks', 'look at an image whatever locks others hold, and take none');
}

/** Of an image that is only read. */
export function readLockOf({
  forceShare,
  ignoreLocks,
}: Pick<ReadFlags, 'forceShare' | 'ignoreLocks'>): ReadLock {
  return ignoreLocks ? 'ignore-locks' : forceShare ? 'force-share' : 'read';
}

/**
 * The keys, read. To be called when nothing else can be wrong with the command line.
 * @throws Qcow2fsError `secret` or `usage`
 */
export function keysOf(
  flags: KeyFlags,
): Required<Pick<OpenOptions, 'secret' | 'imageSecrets' | 'maxIterations'>> {
  const format = parseSecretFormat(flags.secretFormat ?? 'raw');
  const { maxIterations, secretFile = [] } = flags;
  if (secretFile.length > 0) keepMemoryPrivate();
  return {
    maxIterations: maxIterations === undefined ? undefined : parseIterations(maxIterations),
    ...readSecrets(secretFile, format),
  };
}

/** @throws Qcow2fsError `usage` */
export function namedFilesOf({
  allowDir = [],
  backingFormat,
}: ReadFlags): Required<Pick<OpenOptions, 'allowDirectories' | 'backingFormat'>> {
  return {
    allowDirectories: allowDir.map(absolutePath),
    backingFormat: backingFormat === undefined ? undefined : parseBackingFormat(backingFormat),
  };
}
