/** What must be done to an image before it is written. */

import { Qcow2fsError } from '../errors.js';
import { shellWord } from '../printable.js';
import { createTrace } from '../trace.js';
import { hasFeature, Incompatible } from './format/header.js';
import { type Image, readImage } from './image.js';
import { repairDirtyImage } from './repair/repair.js';
import { repairUncounted } from './repair/uncounted.js';
import { clearUnknownAutoclear } from './writing/header-fields.js';

const debug = createTrace('prepare');

/**
 * Repairs the refcounts of an image that was not closed properly, or whose writer did not count all clusters, and clears
 * the autoclear features that this version does not know.
 * @returns the image as it is now
 * @throws Qcow2fsError `corrupt` for an image that is marked so, or that cannot be repaired; it is not touched then
 */
export function prepareForWriting(image: Image): Image {
  const { header, storage } = image;
  if (hasFeature(header, Incompatible.corrupt)) {
    // Whether it can be repaired only a check can tell.
    const advice = `see what repairs it: qcow2fs check ${shellWord(storage.path)}, or mount it read-only: -r`;
    throw new Qcow2fsError('corrupt', `${storage.path}: the image is marked corrupt; ${advice}`);
  }
  // What is read may have been written by a process that was killed, and not be on stable storage.
  storage.sync();
  // First, because a repair does not count what only an unknown feature refers to.
  if (clearUnknownAutoclear(storage, header)) storage.sync();
  if (hasFeature(header, Incompatible.dirty)) {
    debug('%s: dirty, repairing its refcounts', storage.path);
    repairDirtyImage(image);
  } else {
    repairUncounted(image);
  }
  return readImage(storage);
}
