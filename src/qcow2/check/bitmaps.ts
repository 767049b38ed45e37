/** Dirty bitmaps (specification: "Bitmaps extension"): counts what they take, where they are valid. */
import { Qcow2fsError } from '../../errors.js';
import { shortName } from '../../printable.js';
import { type Bitmap, readBitmaps } from '../format/bitmaps.js';
import { entryOffset } from '../format/entries.js';
import { Autoclear } from '../format/header.js';
import { hex } from '../format/units.js';
import type { Image } from '../image.js';
import type { Place } from './finding.js';
import type { ReferenceScan } from './reference-scan.js';

/** Of a bitmap table entry: bits 1 to 8 and 56 to 63. */
const RESERVED_HIGH = 0xff00_0000;
const RESERVED_LOW = 0x1fe;
/** Without an offset: all bits of the cluster are set. */
const ALL_ONES = 1;
const KNOWN_FLAGS = 0b111;
const DIRTY_BITMAP = 1;
const MAX_NAME_BYTES = 1023;
const MIN_GRANULARITY = 2 ** 9;
const MAX_GRANULARITY = 2 ** 31;

/** @returns false when it is not known what the bitmaps refer to */
export function countBitmaps(scan: ReferenceScan, image: Image, owner: Place): boolean {
  const { header, extensions, storage } = image;
  const { bitmaps } = extensions;
  if (bitmaps === undefined) return true;
  const directory: Place = { name: 'bitmap directory', offset: bitmaps.directoryOffset };
  const bad = (what: string): false => {
    scan.report('bitmap-directory', directory, what);
    return false;
  };
  // Else whoever wrote the image did not know of them: they may be anywhere.
  if ((header.autoclearFeatures & Autoclear.bitmaps) === 0n) {
    scan.report('bitmaps-stale', directory, 'a program that knows no bitmaps wrote the image: none is valid');
    return true;
  }
  if (bitmaps.count === 0) return bad('the header has its place, but says that there are no bitmaps');
  if (bitmaps.reserved !== 0) bad('a reserved field of the header extension is not 0');
  if (!scan.refer('bitmap directory', bitmaps.directoryOffset, bitmaps.directorySize, owner)) return false;
  let found: Bitmap[];
  try {
    found = readBitmaps(bitmaps, scan.read, storage.path);
  } catch (error) {
    if (!(error instanceof Qcow2fsError) || error.kind !== 'format') throw error;
    return bad(error.message.slice(storage.path.length + 2));
  }
  const { end } = found.at(-1)!;
  if (end !== bitmaps.directorySize) {
    return bad(`${bitmaps.count} bitmaps take ${end} of its ${bitmaps.directorySize} bytes`);
  }
  let isComplete = true;
  const names = new Set<string>();
  for (const [index, bitmap] of found.entries()) {
    if (names.has(bitmap.name)) {
      scan.report('bitmap', directory, `two bitmaps have the name ${shortName(bitmap.name)}`, {
        entry: index,
      });
    }
    names.add(bitmap.name);
    if (!checkBitmap(scan, image, directory, bitmap, index)) isComplete = false;
    else if (!countBitmap(scan, image, directory, bitmap, index)) isComplete = false;
  }
  return isComplete;
}

/** @returns whether it has a whole table: else it is not known what belongs to it */
function checkBitmap(
  scan: ReferenceScan,
  image: Image,
  directory: Place,
  bitmap: Bitmap,
  index: number,
): boolean {
  const { granularity, tableSize, flags, inUse, type, extraDataSize, nameBytes } = bitmap;
  const name = shortName(bitmap.name);
  const at = { entry: index };
  const bad = (what: string): void => scan.report('bitmap', directory, `bitmap ${name}: ${what}`, at);
  if (type !== DIRTY_BITMAP) bad(`type ${type}; ${DIRTY_BITMAP} is valid`);
  if (extraDataSize !== 0) bad(`${extraDataSize} bytes of extra data, which nobody knows`);
  if (nameBytes > MAX_NAME_BYTES) bad(`a name of ${nameBytes} bytes; ${MAX_NAME_BYTES} are allowed`);
  if ((flags & ~KNOWN_FLAGS) !== 0) bad('reserved flags are set');
  if (inUse) {
    scan.report('bitmap-in-use', directory, `bitmap ${name} was not saved properly, and is not valid`, at);
  }
  if (granularity < MIN_GRANULARITY || granularity > MAX_GRANULARITY) {
    bad(`a granularity of ${granularity} bytes; ${MIN_GRANULARITY} to ${MAX_GRANULARITY} are valid`);
    return false;
  }
  const bytes = Math.ceil(Math.ceil(image.header.size / granularity) / 8);
  const needed = Math.ceil(bytes / image.header.clusterSize);
  // One in use may be as large as the disk was before it was resized.
  if (inUse || tableSize === needed) return true;
  bad(`its table has ${tableSize} entries; the disk needs ${needed}`);
  return tableSize > needed;
}

function countBitmap(
  scan: ReferenceScan,
  { header }: Image,
  directory: Place,
  { name, tableOffset, tableSize }: Bitmap,
  index: number,
): boolean {
  const state = scan.referTable('bitmap table', tableOffset, tableSize * 8, directory, index);
  if (state === 'lost') return false;
  const table: Place = { name: `table of bitmap ${shortName(name)}`, offset: tableOffset };
  let isComplete = state === 'sound';
  scan.forEachEntry(table, tableSize, (entry, high, low) => {
    const offset = entryOffset(high, low);
    const reserved = (high & RESERVED_HIGH) !== 0 || (low & RESERVED_LOW) !== 0;
    if (reserved || (offset !== 0 && (low & ALL_ONES) !== 0)) {
      scan.report('bitmap', table, `reserved bits are set (data at ${hex(offset)})`, { entry });
    }
    if (offset !== 0 && !scan.refer('bitmap data', offset, header.clusterSize, table, entry))
      isComplete = false;
  });
  return isComplete;
}
