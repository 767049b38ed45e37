/** A new image above another one, which takes all writes: what lies below stays as it is. */
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { errnoName, hostReason, Qcow2fsError } from '../../errors.js';
import { createFile, FileStorage, type OpenFile } from '../../host/file-storage.js';
import { lockImage } from '../../host/image-locks.js';
import { shellWord } from '../../printable.js';
import { type Image, readImage } from '../image.js';
import { backingNameFor, createImage, type OverlaySpec, readWholeLuksHeader } from './create.js';

/** In place of a file name: an overlay that is gone when nobody has it open any more. */
export const TEMPORARY = 'temp';
/** A temporary overlay may become large; /tmp may be memory. */
const TEMPORARY_DIRECTORY = '/var/tmp';

export interface Overlay {
  readonly file: OpenFile;
  readonly image: Image;
}

/**
 * Makes an overlay for `base`. Where that is encrypted, so is the overlay, with the same key: nothing of the guest
 * reaches the host in the clear.
 *
 * @param target a file that does not exist, or `TEMPORARY`
 * @throws Qcow2fsError; no file is left then
 */
export function createOverlay(target: string, base: Image): Overlay {
  const isTemporary = target === TEMPORARY;
  const basePath = path.resolve(base.storage.path);
  const file = isTemporary ? createTemporaryFile() : createNamedFile(target);
  try {
    lockImage(file, 'write');
    const storage = new FileStorage(file);
    createImage(storage, {
      size: base.header.size,
      backingFile: isTemporary ? basePath : backingNameFor(path.resolve(target), basePath),
      backingFormat: 'qcow2',
      encryption: encryptionOf(base),
    });
    if (!isTemporary) syncDirectory(path.dirname(path.resolve(target)));
    return { file, image: readImage(storage) };
  } catch (error) {
    fs.closeSync(file.fd);
    removeOverlay(target);
    throw error;
  }
}

/** For an overlay that was made, but never used. */
export function removeOverlay(target: string): void {
  if (target !== TEMPORARY) fs.rmSync(target, { force: true });
}

function encryptionOf(base: Image): OverlaySpec['encryption'] {
  switch (base.header.cryptMethod) {
    case 'none':
      return undefined;
    case 'aes':
      return { method: 'aes' };
    case 'luks':
      return { method: 'luks', header: readWholeLuksHeader(base) };
  }
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

/** Without a name from the start on, so that not even a power cut leaves it behind. */
function createTemporaryFile(): OpenFile {
  const directory = process.env['TMPDIR'] || TEMPORARY_DIRECTORY;
  const name = path.join(directory, `qcow2fs-overlay-${randomBytes(8).toString('hex')}`);
  const file = createFile(name);
  fs.unlinkSync(name);
  return { ...file, path: `${name} (temporary)` };
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
