/** What an image, or the name by which it was opened, says of its backing file. */
import { Qcow2fsError } from '../errors.js';
import { FileStorage, type OpenFile } from '../host/file-storage.js';
import { notice } from '../notice.js';
import { identifyFormat, MAGIC_BYTES } from './format/magic.js';
import { SECTOR_SIZE } from './format/units.js';
import { type Image, readUpTo } from './image.js';
import { type ImageName, type Part, parseImageName, type Stack, stackOf } from './image-name.js';

export interface Backing {
  readonly name: ImageName;
  readonly declared: string | undefined;
}

/** The backing file that an image has, unless the name by which it was opened says otherwise. */
export function backingOf(image: Image, said: Stack['backing']): Backing | undefined {
  if (said === 'none') return undefined;
  if (said !== 'own') return { name: said, declared: said.nodes[0].driver };
  const { backingFile, backingFormat } = image.extensions;
  if (backingFile === undefined) return undefined;
  const name = parseImageName(backingFile, image.storage.path);
  // QEMU lets the image's own declaration win over the name's.
  return { name, declared: backingFormat ?? name.nodes[0].driver };
}

/** QEMU does not open it; but what there is of it can be read. */
export function tellOfMissingPart(file: OpenFile, { start, length }: Part): void {
  const size = new FileStorage(file).size();
  const end = Number.isFinite(length) ? start + length : start;
  if (size >= end) return;
  notice(`${file.path}: has ${size} bytes, and its part that is named ends at ${end}; was it cut off?`);
}

export function windowOf({ start, length }: Part, size: number, path: string): Part {
  const end = Number.isFinite(length) ? start + length : size;
  if (start <= end && end <= size && start % SECTOR_SIZE === 0) return { start, length: end - start };
  const what = `the json: name of ${path} asks for a part of its disk from ${start} to ${end}`;
  throw new Qcow2fsError('named-file', `${what}; it has ${size} bytes, in sectors of ${SECTOR_SIZE}`);
}

/** A backing file without a declared format is never probed into a chain: its guest may have written any header. */
export function formatOf(
  file: OpenFile,
  name: ImageName,
  declared: string | undefined,
  namedBy: string,
): Stack['format'] {
  switch (declared) {
    case 'qcow2':
      return 'qcow2';
    case 'raw':
    case 'file':
    case 'host_device':
      return 'raw';
    case undefined: {
      const { part, format } = stackOf(name, 'raw', namedBy);
      const start = readUpTo(new FileStorage(file), part.start, MAGIC_BYTES);
      const looks = format === 'raw' ? identifyFormat(start) : 'the disk of a qcow2 image';
      if (looks === undefined) return 'raw';
      throw new Qcow2fsError(
        'named-file',
        `${namedBy}: does not declare the format of its backing file ${file.path}, which looks like ${looks}; declare it: qemu-img rebase -u -F FORMAT -b NAME`,
      );
    }
    default:
      throw new Qcow2fsError(
        'unsupported',
        `${namedBy}: its backing file ${file.path} has the format ${declared}; only qcow2 and raw are supported`,
      );
  }
}
