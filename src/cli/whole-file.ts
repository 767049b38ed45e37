/** A file that is written as a whole or not at all. */

import { hostReason, Qcow2fsError } from '../errors.js';
import fs from '../fs.js';
import { replaceFile } from '../host/replace-file.js';

/** They would leave the half of it behind; writing takes no longer than a moment. */
const HELD_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/**
 * Puts the text in the place of what the file held. A link stays one, and what is no regular file is written to.
 * @throws Qcow2fsError `host-io`; the file is as it was then
 */
export function writeWholeFile(file: string, text: string): void {
  try {
    const target = targetOf(file);
    if (target.special) fs.writeFileSync(target.path, text);
    else undisturbed(() => replaceFile(target.path, text));
  } catch (error) {
    throw new Qcow2fsError('host-io', `${file}: cannot be written: ${hostReason(error)}`, { cause: error });
  }
}

function undisturbed(action: () => void): void {
  const hold = (): void => {};
  for (const signal of HELD_SIGNALS) process.on(signal, hold);
  try {
    action();
  } finally {
    for (const signal of HELD_SIGNALS) process.off(signal, hold);
  }
}

interface Target {
  readonly path: string;
  /** A terminal, a pipe: it must not be replaced by a file. */
  readonly special: boolean;
}

function targetOf(file: string): Target {
  const stat = fs.statSync(file, { throwIfNoEntry: false });
  if (stat === undefined) return newTarget(file);
  if (stat.isBlockDevice()) throw new Error('it is a block device');
  // The name of a pipe in /proc, where /dev/stdout leads, is none that could be resolved.
  if (!stat.isFile()) return { path: file, special: true };
  const real = fs.realpathSync.native(file);
  const found = fs.statSync(real);
  if (found.dev !== stat.dev || found.ino !== stat.ino)
    throw new Error('the file is not where its link leads');
  return { path: real, special: false };
}

/** A link that leads nowhere is no new file: what would take its place is not what it stands for. */
function newTarget(file: string): Target {
  if (fs.lstatSync(file, { throwIfNoEntry: false }) !== undefined) throw new Error('the link leads nowhere');
  return { path: file, special: false };
}
