import { patchBytes, patchField, patchL2, patchNumber, readBytes, readL2 } from '../../support/damage.js';
import { refcountBlocks } from '../../support/dirty-images.js';
import { MiB } from '../../support/images.js';
import { compressed, plain, refcountsOf, snapshots, tinyClusters } from '../bases.js';
import {
  addLeak,
  CLUSTER,
  COPIED,
  type Damage,
  dataOf,
  field,
  GUEST,
  NEXT,
  SHARED,
  setRefcount,
} from './surgery.js';

export const refcounts: Readonly<Record<string, Damage>> = {
  'a leaked cluster': { base: plain, damage: addLeak, kinds: ['leak'], repair: 'mended' },
  'refcounts of 2 of many data clusters': {
    base: plain,
    damage: (path) => {
      for (let guest = 3 * MiB; guest < 4 * MiB; guest += CLUSTER) {
        setRefcount(path, dataOf(path, guest), 2);
        patchL2(path, guest, readL2(path, guest) & ~COPIED);
      }
    },
    kinds: ['leak'],
    repair: 'mended',
  },
  'a refcount of a data cluster that is too high': {
    base: plain,
    damage: (path) => {
      setRefcount(path, dataOf(path), 5);
      patchL2(path, GUEST, readL2(path, GUEST) & ~COPIED);
    },
    kinds: ['leak'],
    repair: 'mended',
  },
  'a refcount that is too high, and COPIED set': {
    base: plain,
    damage: (path) => setRefcount(path, dataOf(path), 2),
    kinds: ['leak', 'copied-flag'],
    repair: 'mended',
  },
  'a refcount of 0 of a data cluster': {
    base: plain,
    damage: (path) => setRefcount(path, dataOf(path), 0),
    kinds: ['refcount-too-low'],
    repair: 'mended',
  },
  'a refcount of 0 of the L1 table': {
    base: plain,
    damage: (path) => setRefcount(path, Number(field(path, 'l1TableOffset')), 0),
    kinds: ['refcount-too-low'],
    repair: 'mended',
  },
  'a refcount of 0 of the header': {
    base: plain,
    damage: (path) => setRefcount(path, 0, 0),
    kinds: ['refcount-too-low'],
    repair: 'mended',
  },
  'a refcount of 1 of a cluster that a snapshot shares': {
    base: snapshots,
    damage: (path) => setRefcount(path, dataOf(path, SHARED), 1),
    kinds: ['refcount-too-low'],
    repair: 'mended',
  },
  'a compressed cluster with a refcount of 0': {
    base: compressed,
    damage: (path) => setRefcount(path, Number(readL2(path, 0) & 0xffff_ffffn), 0),
    kinds: ['refcount-too-low'],
    repair: 'mended',
  },
  'a refcount block full of zeros': {
    base: plain,
    damage: (path) => patchBytes(path, refcountBlocks(path)[0]!.offset, Buffer.alloc(CLUSTER)),
    kinds: ['refcount-too-low'],
    repair: 'mended',
  },
  'a refcount block full of zeros, a bit each': {
    base: refcountsOf(1),
    damage: (path) => patchBytes(path, refcountBlocks(path)[0]!.offset, Buffer.alloc(CLUSTER)),
    kinds: ['refcount-too-low'],
    repair: 'mended',
  },
  'a refcount block full of ones': {
    base: refcountsOf(16),
    damage: (path) => patchBytes(path, refcountBlocks(path)[0]!.offset, Buffer.alloc(CLUSTER, 0xff)),
    kinds: ['leak'],
    repair: 'mended',
  },
  'a refcount table entry of 0': {
    base: plain,
    damage: (path) => patchNumber(path, refcountBlocks(path)[1]!.entry, 8, 0),
    kinds: ['refcount-too-low'],
    repair: 'mended',
  },
  'a refcount table full of zeros': {
    base: plain,
    damage: (path) => patchBytes(path, Number(field(path, 'refcountTableOffset')), Buffer.alloc(CLUSTER)),
    kinds: ['refcount-too-low'],
    repair: 'mended',
  },
  'a refcount table entry with reserved bits': {
    base: plain,
    damage: (path) => {
      const { entry, offset } = refcountBlocks(path)[0]!;
      patchNumber(path, entry, 8, offset + 1);
    },
    kinds: ['refcount-structure'],
    repair: 'mended',
  },
  'a refcount block that is not aligned': {
    base: plain,
    damage: (path) => {
      const { entry, offset } = refcountBlocks(path)[0]!;
      patchNumber(path, entry, 8, offset + 512);
    },
    kinds: ['refcount-structure'],
    repair: 'mended',
  },
  'a refcount block outside the file': {
    base: plain,
    damage: (path) => patchNumber(path, refcountBlocks(path)[0]!.entry, 8, 0x4000_0000),
    kinds: ['refcount-structure'],
    repair: 'mended',
  },
  'a refcount block that two entries name': {
    base: plain,
    damage: (path) => patchNumber(path, refcountBlocks(path)[1]!.entry, 8, refcountBlocks(path)[0]!.offset),
    kinds: ['refcount-structure'],
    repair: 'mended',
  },
  'a refcount block on the L1 table': {
    base: plain,
    damage: (path) => patchNumber(path, refcountBlocks(path)[0]!.entry, 8, field(path, 'l1TableOffset')),
    kinds: ['refcount-structure'],
    repair: 'mended',
  },
  'a refcount block on a data cluster': {
    base: plain,
    damage: (path) => patchNumber(path, refcountBlocks(path)[0]!.entry, 8, dataOf(path)),
    kinds: ['refcount-structure'],
    repair: 'mended',
  },
  'a data cluster that the refcount table does not reach': {
    base: tinyClusters,
    damage: (path) => {
      const far = 9 * MiB;
      patchBytes(path, far, readBytes(path, dataOf(path), 512));
      patchL2(path, GUEST, COPIED | BigInt(far));
    },
    kinds: ['refcount-too-low', 'leak'],
    repair: 'mended',
  },
  'a data cluster beyond the end of the file, where new refcounts would be': {
    base: tinyClusters,
    damage: (path) => {
      const far = 9 * MiB;
      patchBytes(path, far, readBytes(path, dataOf(path), 512));
      patchL2(path, GUEST, COPIED | BigInt(far));
      patchL2(path, NEXT, COPIED | BigInt(far + 512));
    },
    kinds: ['outside-file', 'refcount-too-low', 'leak'],
    repair: 'changed',
  },
  'a refcount table outside the file': {
    base: plain,
    damage: (path) => patchField(path, 'refcountTableOffset', 0x4000_0000),
    kinds: ['refcount-structure'],
    repair: 'mended',
  },
  'a refcount table on a data cluster': {
    base: plain,
    damage: (path) => patchField(path, 'refcountTableOffset', dataOf(path)),
    kinds: ['refcount-structure'],
    repair: 'mended',
  },
};
