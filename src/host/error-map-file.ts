/** An error map as a file, replaced as a whole: who reads it never sees half of one. */

import path from 'node:path';
import { type ErrorMap, formatErrorMap, MAPFILE_MARKS } from '../error-map.js';
import { hostReason, Qcow2fsError } from '../errors.js';
import fs from '../fs.js';
import { printableJson } from '../printable.js';
import { holdPlace } from './place.js';
import { replaceFile } from './replace-file.js';

export class ErrorMapFile {
  readonly #path: string;
  /** Its name in the directory where it was first made, wherever that is moved. */
  readonly #place: string;
  readonly #isNew: boolean;
  readonly #base: Pick<ErrorMap, 'size' | 'title'>;

  /**
   * Makes the file, with nothing tried yet.
   * @throws Qcow2fsError `host-io` when that fails, or when something else than an error map is there
   */
  constructor(file: string, image: string, snapshot: string | undefined, size: number) {
    const of = snapshot === undefined ? '' : `, snapshot ${printableJson(snapshot)}`;
    this.#base = { size, title: `Made by qcow2fs of ${printableJson(image)}${of}` };
    this.#path = withoutLink(file);
    this.#place = placeOf(this.#path);
    this.#isNew = !refuseOther(this.#path, this.#place, `${MAPFILE_MARKS[0]} ${this.#base.title}`);
    this.write([], 0);
  }

  /** @throws Qcow2fsError `host-io`; the file is then as it was */
  write(damaged: ErrorMap['damaged'], tried: number): void {
    const text = formatErrorMap({ ...this.#base, damaged, tried });
    try {
      replaceFile(this.#place, text);
    } catch (error) {
      throw failure(this.#path, error);
    }
  }

  /** The file goes, if there was none before. */
  discard(): void {
    if (this.#isNew) fs.rmSync(this.#place, { force: true });
  }
}

/** A link stays one. @throws Qcow2fsError `host-io` when it leads nowhere */
function withoutLink(file: string): string {
  try {
    return fs.lstatSync(file, { throwIfNoEntry: false })?.isSymbolicLink() ? fs.realpathSync(file) : file;
  } catch (error) {
    throw failure(file, error);
  }
}

/** Holds the directory for the life of the process. @throws Qcow2fsError `host-io` when there is none */
function placeOf(file: string): string {
  try {
    return path.join(holdPlace(path.dirname(file)).path, path.basename(file));
  } catch (error) {
    throw failure(file, error);
  }
}

/**
 * A slip of the fingers must not replace an image by a map of it, nor the map of another one, nor one that ddrescue made.
 * @param file its name, for messages
 * @param place where it is; a link there was put there by somebody after the name was followed
 * @param firstLine of our own maps of this image
 * @returns whether there is a file
 */
function refuseOther(file: string, place: string, firstLine: string): boolean {
  let beginning: string;
  try {
    if (!(fs.lstatSync(place, { throwIfNoEntry: false })?.isFile() ?? true)) {
      throw new Qcow2fsError('host-io', `${file}: not a regular file, which an error map must be`);
    }
    const { O_RDONLY, O_NONBLOCK, O_NOFOLLOW } = fs.constants;
    const fd = fs.openSync(place, O_RDONLY | O_NONBLOCK | O_NOFOLLOW);
    const bytes = Buffer.alloc(Buffer.byteLength(firstLine) + 1);
    beginning = bytes.toString('utf8', 0, fs.readSync(fd, bytes));
    fs.closeSync(fd);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    if (error instanceof Qcow2fsError) throw error;
    throw failure(file, error);
  }
  if (beginning === '' || beginning === `${firstLine}\n`) return true;
  const what = MAPFILE_MARKS.some((mark) => beginning.startsWith(mark))
    ? 'a map of another image or snapshot, or another program made it'
    : 'no error map';
  throw new Qcow2fsError('host-io', `${file}: there is a file that is ${what}; choose another name`);
}

function failure(file: string, error: unknown): Qcow2fsError {
  return new Qcow2fsError('host-io', `${file}: cannot write the error map: ${hostReason(error)}`);
}
