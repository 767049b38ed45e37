/** The LUKS header (LUKS1 on-disk format): what can be told of it without a key. */

import { hashNamed } from '../../crypto/hash.js';
import { Qcow2fsError } from '../../errors.js';
import { cipherParameters } from '../../luks/cipher.js';
import { LUKS_HEADER_BYTES, type LuksHeader } from '../../luks/header.js';
import { hex } from '../format/units.js';
import type { Image } from '../image.js';
import { readLuksHeader } from '../unlock.js';
import type { Place, Report } from './finding.js';

const STRIPES = 4000;

/**
 * @returns false when its place or its length may be wrong: then it is not known what else belongs to it
 */
export function checkLuksHeader(image: Image, report: Report): boolean {
  const pointer = image.extensions.encryption;
  if (image.header.cryptMethod !== 'luks' || pointer === undefined) return true;
  const place: Place = { name: 'LUKS header', offset: pointer.offset };
  let header: LuksHeader;
  try {
    header = readLuksHeader(image);
    // Both refuse what does not exist.
    cipherParameters(header);
    hashNamed(header.hashSpec);
  } catch (error) {
    if (!(error instanceof Qcow2fsError) || error.kind === 'internal') throw error;
    const named = `${image.storage.path}: `;
    report(
      'luks',
      place,
      error.message.startsWith(named) ? error.message.slice(named.length) : error.message,
    );
    return false;
  }
  return checkKeySlots(header, pointer.length, place, report);
}

/** @returns whether all key material lies in the header */
function checkKeySlots(header: LuksHeader, length: number, place: Place, report: Report): boolean {
  let isWhole = true;
  const active = [...header.keySlots.entries()].filter(([, slot]) => slot.active);
  if (active.length === 0) report('luks', place, 'no key slot is active: no secret opens the image');
  if (header.masterKeyDigestIterations === 0)
    report('luks', place, 'the digest of the key has no iterations');
  const taken: { readonly name: string; readonly start: number; readonly end: number }[] = [
    { name: 'the header', start: 0, end: LUKS_HEADER_BYTES },
  ];
  for (const [index, { state }] of header.keySlots.entries()) {
    if (state === 'damaged')
      report('luks', place, `key slot ${index}: neither active nor disabled`, { entry: index });
  }
  for (const [index, { iterations, stripes, keyMaterialOffset: start }] of active) {
    const bad = (what: string): void => report('luks', place, `key slot ${index}: ${what}`, { entry: index });
    if (iterations === 0) bad('no iterations');
    if (stripes !== STRIPES) bad(`${stripes} stripes; ${STRIPES} are valid`);
    const end = start + stripes * header.keyBytes;
    if (end > length) {
      bad(
        `its key material at ${hex(start)} ends at ${hex(end)}, outside the LUKS header of ${length} bytes`,
      );
      isWhole = false;
      continue;
    }
    const other = taken.find((range) => start < range.end && range.start < end);
    if (other !== undefined) bad(`its key material at ${hex(start)} overlaps ${other.name}`);
    taken.push({ name: `that of slot ${index}`, start, end });
  }
  return isWhole;
}
