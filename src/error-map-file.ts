/** An error map as a file, replaced as a whole: who reads it never sees half of one. */
import fs from 'node:fs';
import { type ErrorMap, formatErrorMap, MAPFILE_MARKS } from './error-map.js';
import { hostReason, Qcow2fsError } from './errors.js';
import { printableJson } from './printable.js';

export class ErrorMapFile {
  readonly #path: string;
  readonly #isNew: boolean;
  readonly #base: Pick<ErrorMap, 'size' | 'title'>;

  /**
   * Makes the file, with nothing tried yet.
   * @throws Qcow2fsError `host-io` when that fails, or when something else than an error map is there
   */
  constructor(path: string, image: string, snapshot: string | undefined, size: number) {
    const of = snapshot === undefined ? '' : `, snapshot ${printableJson(snapshot)}`;
    this.#base = { size, title: `Made by qcow2fs of ${printableJson(image)}${of}` };
    this.#isNew = !refuseOther(path, `${MAPFILE_MARKS[0]} ${this.#base.title}`);
    this.#path = withoutLink(path);
    this.write([], 0);
  }

  /** @throws Qcow2fsError `host-io`; the file is then as it was */
  write(damaged: ErrorMap['damaged'], tried: number): void {
    const text = formatErrorMap({ ...this.#base, damaged, tried });
    const unfinished = `${this.#path}.${process.pid}.new`;
    try {
      fs.writeFileSync(unfinished, text, { flag: 'wx', flush: true });
      fs.renameSync(unfinished, this.#path);
    } catch (error) {
      fs.rmSync(unfinished, { force: true });
      throw failure(this.#path, error);
    }
  }

  /** The file goes, if there was none before. */
  discard(): void {
    if (this.#isNew) fs.rmSync(this.#path, { force: true });
  }
}

/** A link stays one. @throws Qcow2fsError `host-io` when it leads nowhere */
function withoutLink(path: string): string {
  try {
    return fs.lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() ? fs.realpathSync(path) : path;
  } catch (error) {
    throw failure(path, error);
  }
}

/**
 * A slip of the fingers must not replace an image by a map of it, nor the map of another one, nor one that ddrescue made.
 * @param firstLine of our own maps of this image
 * @returns whether there is a file
 */
function refuseOther(path: string, firstLine: string): boolean {
  let beginning: string;
  try {
    if (!(fs.statSync(path, { throwIfNoEntry: false })?.isFile() ?? true)) {
      throw new Qcow2fsError('host-io', `${path}: not a regular file, which an error map must be`);
    }
    const fd = fs.openSync(path, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK);
    const bytes = Buffer.alloc(Buffer.byteLength(firstLine) + 1);
    beginning = bytes.toString('utf8', 0, fs.readSync(fd, bytes));
    fs.closeSync(fd);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    if (error instanceof Qcow2fsError) throw error;
    throw failure(path, error);
  }
  if (beginning === '' || beginning === `${firstLine}\n`) return true;
  const what = MAPFILE_MARKS.some((mark) => beginning.startsWith(mark))
    ? 'a map of another image or snapshot, or another program made it'
    : 'no error map';
  throw new Qcow2fsError('host-io', `${path}: there is a file that is ${what}; choose another name`);
}

function failure(path: string, error: unknown): Qcow2fsError {
  return new Qcow2fsError('host-io', `${path}: cannot write the error map: ${hostReason(error)}`);
}
