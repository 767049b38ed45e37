/** A check that somebody stops. */

import { expect } from 'chai';
import { FileStorage, openFile } from '../../src/host/file-storage.js';
import { Progress } from '../../src/progress.js';
import { Cancelled } from '../../src/qcow2/check/reference-scan.js';
import { countReferences } from '../../src/qcow2/check/references.js';
import { readImage } from '../../src/qcow2/image.js';
import { patchNumber, snapshotEntryOffset } from '../support/damage.js';
import { imagePath, takeSnapshot } from '../support/images.js';
import { useScratch } from '../support/scratch.js';
import { sparse } from './bases.js';

describe('a check that is interrupted', () => {
  const scratch = useScratch();

  it('ends before the next table, however little its entries are', () => {
    const image = sparse(scratch.subdir());
    for (const name of ['two', 'three', 'four']) takeSnapshot(image, name, name);
    const path = imagePath(image);
    // All name one place, so that each is a finding.
    for (let index = 0; index < 4; index++) patchNumber(path, snapshotEntryOffset(path, index), 8, 0);
    const storage = new FileStorage(openFile(path, 'read-only'));
    const progress = new Progress();
    const found: string[] = [];
    try {
      const count = (): unknown =>
        countReferences(
          readImage(storage),
          (_, __, what) => {
            found.push(what);
            progress.cancel();
          },
          progress,
        );
      expect(count).to.throw(Cancelled);
    } finally {
      storage.close();
    }
    expect(found).to.have.length(1);
  });
});
