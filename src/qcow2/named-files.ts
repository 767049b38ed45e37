/**
 * The one gate for files that an image names. An image is hostile until proven otherwise and may name /etc/shadow as
 * its raw backing file, so what it names is opened only below the directory of the image on the command line, or
 * below a directory that the user allowed, or when it is a file or device that the user allowed. What counts is the file
 * that was really opened, symbolic links resolved; what lies elsewhere is not even looked at. A block device holds what
 * lies elsewhere, so it or its directory must be allowed even when that is the image's own.
 */
import path from 'node:path';
import { hostReason, Qcow2fsError } from '../errors.js';
import fs, { type Stats } from '../fs.js';
import { type FileAccess, type OpenFile, openFile, refuseOddFile } from '../host/file-storage.js';
import { openPlace, type Root } from '../host/place.js';
import { DEVICES, isBelow } from '../host/walk.js';
import { shellWord } from '../printable.js';

export class NamedFiles {
  readonly #own: readonly Root[];
  readonly #allowed: readonly Root[];

  /**
   * @param ownDirectory that of the image on the command line. An image on a block device has none, and / is none:
   * there only what the user allows counts.
   * @param allowed directories, files and block devices
   * @throws Qcow2fsError `usage` when one of `allowed` does not exist
   */
  constructor(ownDirectory: string | undefined, allowed: readonly string[]) {
    const own = ownDirectory === undefined || ownDirectory === '/' ? [] : [ownDirectory];
    this.#own = own.map(rootOf);
    this.#allowed = allowed.map(rootOf);
  }

  /**
   * @param name relative to the directory of `namedBy`
   * @param role "backing file" or "data file", for messages
   * @throws Qcow2fsError `named-file`
   */
  open(name: string, role: string, namedBy: string, access: FileAccess = 'read-only'): OpenFile {
    const wanted = placeOf(name, path.dirname(namedBy));
    try {
      return this.#open(wanted, access);
    } catch (error) {
      if (!(error instanceof Qcow2fsError)) {
        throw new Qcow2fsError(
          'named-file',
          `${namedBy}: its ${role} ${wanted}: cannot open: ${hostReason(error)}`,
        );
      }
      throw new Qcow2fsError(error.kind, `${namedBy}: its ${role} ${error.message}`);
    }
  }

  /** The file that is checked is the one that is used. */
  #open(wanted: string, access: FileAccess): OpenFile {
    const place = openPlace(wanted, [...this.#own, ...this.#allowed]);
    if ('refused' in place) throw place.refused === 'foreign' ? foreign(wanted) : this.#outside(place.path);
    try {
      this.#check(place.real, place.stat);
      if (!place.isMountedHere()) throw foreign(wanted);
      // Opening a device or a FIFO may do something, so look before.
      refuseOddFile(place.stat, wanted, 'named-file');
      return { ...openFile(place.path, access, 'named-file'), path: wanted };
    } catch (error) {
      // A function, since a name may look like a pattern of `replace`.
      if (error instanceof Qcow2fsError) error.message = error.message.replace(place.path, () => wanted);
      throw error;
    } finally {
      place.close();
    }
  }

  #check(real: string, stat: Stats): void {
    if (!real.startsWith('/')) throw new Qcow2fsError('named-file', `${real} is no file`);
    if (this.#allowed.some((root) => real === root.real || isBelow(real, root.real))) return;
    const isOwn = this.#own.some((root) => isBelow(real, root.real));
    if (!isOwn) throw this.#outside(real);
    if (stat.isBlockDevice()) throw refusal(real, 'is a block device', real);
  }

  #outside(where: string): Qcow2fsError {
    const roots = [...this.#own, ...this.#allowed].map(({ real }) => real).join(', ');
    return refusal(where, `lies outside ${roots || 'every allowed directory'}`);
  }
}

/** @param wanted what may be allowed: the directory of a device in /dev would be every disk of the machine */
function refusal(
  where: string,
  what: string,
  wanted = isBelow(where, DEVICES) ? where : path.dirname(where),
): Qcow2fsError {
  const advice = `if you trust the image, add --allow-dir ${shellWord(wanted)}`;
  return new Qcow2fsError('named-file', `${where} ${what}; ${advice}`);
}

function foreign(name: string): Qcow2fsError {
  return new Qcow2fsError('named-file', `${name} leads into the file systems of another process`);
}

/**
 * Only the host knows where `..` leads behind a link, and that a slash at the end asks for a directory: nothing is taken
 * away but what changes no meaning.
 */
function placeOf(name: string, directory: string): string {
  const absolute = path.isAbsolute(name) ? name : `${path.resolve(directory)}/${name}`;
  return absolute.replace(/\/(\.?\/)+/g, '/');
}

function rootOf(directory: string): Root {
  try {
    const real = fs.realpathSync(directory);
    return { real, names: [real, path.resolve(directory), ...workingNames(real)] };
  } catch (error) {
    throw new Qcow2fsError('usage', `--allow-dir ${directory}: ${hostReason(error)}`);
  }
}

/** Where the shell says that it is: behind links such as /home, an image names its neighbours by that path. */
function workingNames(real: string): string[] {
  const shown = process.env['PWD'] ?? '';
  try {
    const here = path.isAbsolute(shown) ? fs.realpathSync(shown) : undefined;
    if (here === undefined || (real !== here && !isBelow(real, here))) return [];
    return [path.join(shown, path.relative(here, real))];
  } catch {
    return [];
  }
}
