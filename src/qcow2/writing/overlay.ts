/** A new image above another one, which takes all writes: what lies below stays as it is. */
import path from 'node:path';
import { errnoName, hostReason, Qcow2fsError } from '../../errors.js';
import fs from '../../fs.js';
import { isOpenFilePath } from '../../host/descriptors.js';
import { createFile, createNamelessFile, FileStorage, type OpenFile } from '../../host/file-storage.js';
import { lockImage } from '../../host/image-locks.js';
import { holdPlace, type Place } from '../../host/place.js';
import { shellWord } from '../../printable.js';
import { type Image, readImage } from '../image.js';
import { backingNameFor, createImage } from './create.js';

/** In place of a file name: an overlay that is gone when nobody has it open any more. */
export const TEMPORARY = 'temp';
/** A temporary overlay may become large; /tmp may be memory. */
const TEMPORARY_DIRECTORY = '/var/tmp';

export interface Overlay {
  readonly file: OpenFile;
  readonly image: Image;
}

/**
 * Makes an overlay for `base`.
 *
 * @param target a file that does not exist, or `TEMPORARY`
 * @param luksHeader of its own, where it is to be encrypted
 * @throws Qcow2fsError; no file is left then
 */
export function createOverlay(target: string, base: Image, luksHeader: Buffer | undefined): Overlay {
  const isTemporary = target === TEMPORARY;
  const basePath = path.resolve(base.storage.path);
  if (!isTemporary && isOpenFilePath(basePath)) {
    throw new Qcow2fsError(
      'usage',
      `${basePath}: no name leads to it, so ${target} could not name it; --overlay temp can`,
    );
  }
  const file = isTemporary ? createTemporaryFile() : createNamedFile(target);
  try {
    lockImage(file, 'write');
    const storage = new FileStorage(file);
    createImage(storage, {
      size: base.header.size,
      backingFile: isTemporary ? basePath : backingNameFor(path.resolve(target), basePath),
      backingFormat: 'qcow2',
      luksHeader,
    });
    if (!isTemporary) syncDirectory(path.dirname(path.resolve(target)));
    return { file, image: readImage(storage) };
  } catch (error) {
    removeOverlay(file);
    fs.closeSync(file.fd);
    throw error;
  }
}

/** For an overlay that was made, but never used. Another file that has taken its name stays. */
export function removeOverlay({ path: file, device, inode }: OpenFile): void {
  let directory: Place;
  try {
    directory = holdPlace(path.dirname(path.resolve(file)));
  } catch {
    return;
  }
  const name = path.join(directory.path, path.basename(file));
  const found = fs.lstatSync(name, { bigint: true, throwIfNoEntry: false });
  if (found?.dev === device && found.ino === inode) fs.rmSync(name);
  directory.close();
}

function createNamedFile(target: string): OpenFile {
  try {
    return createFile(target);
  } catch (error) {
    const cause = (error as Error).cause;
    if (errnoName(cause) !== 'EEXIST') throw error;
    throw new Qcow2fsError(
      'usage',
      `${target}: exists already and is not overwritten; to go on with it: qcow2fs mount ${shellWord(target)}`,
    );
  }
}

function createTemporaryFile(): OpenFile {
  const directory = process.env['TMPDIR'] || TEMPORARY_DIRECTORY;
  return { ...createNamelessFile(directory), path: `${directory}/overlay (temporary)` };
}

function syncDirectory(directory: string): void {
  try {
    const fd = fs.openSync(directory, fs.constants.O_RDONLY);
    try {
      fs.fsyncSync(fd);
    } finally {
      fs.closeSync(fd);
    }
  } catch (error) {
    throw new Qcow2fsError('host-io', `${directory}: cannot be synced: ${hostReason(error)}`);
  }
}
