/** What an image, or the name by which it was opened, says of its backing file. */
import { Qcow2fsError } from '../errors.js';
import { FileStorage, type OpenFile } from '../host/file-storage.js';
import { notice } from '../notice.js';
import { shellWord } from '../printable.js';
import { identifyFormat, MAGIC_BYTES } from './format/magic.js';
import { SECTOR_SIZE } from './format/units.js';
import { type Image, readUpTo } from './image.js';
import { type ImageName, type Part, parseImageName, type Stack, stackOf } from './image-name.js';

export interface Backing {
  readonly name: ImageName;
  readonly declared: string | undefined;
  /** The name as the header of the image has it; undefined where it comes from elsewhere. */
  readonly stored: string | undefined;
}

/** Formats that the user may give for backing files where no image declares one. */
export const BACKING_FORMATS = ['qcow2', 'raw'] as const;
export type BackingFormat = (typeof BACKING_FORMATS)[number];

/** The backing file that an image has, unless the name by which it was opened says otherwise. */
export function backingOf(image: Image, said: Stack['backing']): Backing | undefined {
  if (said === 'none') return undefined;
  if (said !== 'own') return { name: said, declared: said.nodes[0].driver, stored: undefined };
  const { backingFile, backingFormat } = image.extensions;
  if (backingFile === undefined) return undefined;
  const name = parseImageName(backingFile, image.storage.path);
  // QEMU lets the image's own declaration win over the name's.
  return { name, declared: backingFormat ?? name.nodes[0].driver, stored: backingFile };
}

/** QEMU refuses to open such a file; here what is left of it can be read. */
export function tellOfMissingPart(file: OpenFile, { start, length }: Part): void {
  const size = new FileStorage(file).size();
  const end = Number.isFinite(length) ? start + length : start;
  if (size >= end) return;
  notice(`${file.path}: has ${size} bytes, but the named part of it ends at ${end}; was it cut off?`);
}

export function windowOf({ start, length }: Part, size: number, path: string): Part {
  const end = Number.isFinite(length) ? start + length : size;
  if (start <= end && end <= size && start % SECTOR_SIZE === 0) return { start, length: end - start };
  const what = `the json: name of ${path} selects bytes ${start} to ${end} of its disk`;
  throw new Qcow2fsError(
    'named-file',
    `${what}, which has ${size} bytes; parts start at multiples of ${SECTOR_SIZE}`,
  );
}

/**
 * The format of backing files that nothing declares, if the user gave one. Not allowed for an image that is written: what
 * is copied to it would depend on the assumption.
 */
export type Assumption = BackingFormat | 'not allowed' | undefined;

/** @throws Qcow2fsError `named-file` or `unsupported` */
export function formatOf(
  file: OpenFile,
  backing: Backing,
  namedBy: string,
  assumption: Assumption,
): BackingFormat {
  switch (backing.declared) {
    case 'qcow2':
      return 'qcow2';
    case 'raw':
    case 'file':
    case 'host_device':
      return 'raw';
    case undefined:
      return undeclaredFormat(file, backing, namedBy, assumption);
    default:
      throw new Qcow2fsError(
        'unsupported',
        `${namedBy}: its backing file ${file.path} has the format ${backing.declared}; only qcow2 and raw are supported`,
      );
  }
}

/** A backing file without a declared format is never probed into a chain: its guest may have written any header. */
function undeclaredFormat(
  file: OpenFile,
  { name, stored }: Backing,
  namedBy: string,
  assumption: Assumption,
): BackingFormat {
  const format = assumption === 'not allowed' ? undefined : assumption;
  const stack = stackOf(name, 'raw', namedBy);
  const start = readUpTo(new FileStorage(file), stack.part.start, MAGIC_BYTES);
  const looks = stack.format === 'raw' ? identifyFormat(start) : 'the disk of a qcow2 image';
  if (looks === undefined && format === 'qcow2') {
    notice(`${file.path}: does not look like a disk image, so it is read as raw`);
  }
  if (looks === undefined) return 'raw';
  if (format !== undefined) return format;
  const likely = looks === 'qcow2' ? 'qcow2' : 'raw';
  const read = `${assumption === 'not allowed' ? '-r ' : ''}--backing-format ${likely}`;
  const rebase = stored && `qemu-img rebase -u -F ${likely} -b ${shellWord(stored)} ${shellWord(namedBy)}`;
  const advice = [`read it as ${likely}: ${read}`, ...(rebase ? [`declare it: ${rebase}`] : [])].join(
    ', or ',
  );
  const what = `does not declare the format of its backing file ${file.path}, which looks like ${looks}`;
  throw new Qcow2fsError('named-file', `${namedBy}: ${what}; ${advice}`);
}
