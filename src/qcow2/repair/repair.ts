/**
 * Repair of an image whose dirty bit is set: a writer with lazy refcounts died, so refcounts and COPIED flags may be
 * behind what the tables refer to (specification: "Header", incompatible feature bit 0).
 *
 * The bit is cleared last, after all else is on stable storage: a repair that is cut off leaves a dirty image, and
 * the next one starts over. Nobody trusts a refcount until then, so refcounts may be written in any order, but
 * what the refcount table and the header point to is there before them.
 */
import { Qcow2fsError } from '../../errors.js';
import { encodeField, hasFeature, Incompatible } from '../format/header.js';
import type { Image } from '../image.js';
import { fixCopiedFlags } from './copied-flags.js';
import { planRefcounts } from './refcount-plan.js';
import { refuseOverflow, writeRefcounts } from './refcount-writer.js';
import type { Problem } from './reference-scan.js';
import { countReferences } from './references.js';

/**
 * Sets every refcount to the number of references, then the COPIED flags, and clears the dirty bit. An image that is
 * not dirty is left alone. `image` tells the header as it was: read it anew afterwards.
 *
 * @param image open read-write, and used by nobody else
 * @throws Qcow2fsError `corrupt` when its structures are damaged, `unsupported` when it is too large for this
 * repair, `format`; nothing has been written then. `host-io` at any time: the image is still dirty then.
 */
export function repairDirtyImage(image: Image): void {
  const { header, storage } = image;
  if (!hasFeature(header, Incompatible.dirty)) return;
  const counts = countReferences(image, (problem) => refuse(problem, storage.path));
  refuseOverflow(image, counts);
  writeRefcounts(image, counts, planRefcounts(image, counts));
  fixCopiedFlags(image, counts);
  clearDirtyBit(image);
}

function refuse({ where, what }: Problem, path: string): never {
  throw new Qcow2fsError(
    'corrupt',
    `${path}: ${where}: ${what}; repair it first: qemu-img check -r all IMAGE`,
  );
}

function clearDirtyBit({ header, storage }: Image): void {
  const { offset, bytes } = encodeField({
    incompatibleFeatures: header.incompatibleFeatures & ~Incompatible.dirty,
  });
  storage.write(bytes, 0, bytes.length, offset);
  storage.sync();
}
