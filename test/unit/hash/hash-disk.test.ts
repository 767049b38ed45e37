import { expect } from 'chai';
import { parseAlgorithms } from '../../../src/hash/algorithms.js';
import { hashPieces } from '../../../src/hash/hash-disk.js';
import { Progress } from '../../../src/progress.js';
import { openLayers } from '../../../src/qcow2/chain.js';
import { createImage, GiB, imagePath, MiB } from '../../support/images.js';
import { useScratch } from '../../support/scratch.js';

describe('the digests of pieces', () => {
  const scratch = useScratch();

  it('are made no faster than they are taken', async () => {
    const layers = openLayers(imagePath(createImage(scratch.subdir(), { size: GiB / 2 })));
    const progress = new Progress();
    progress.begin(0, GiB / 2);
    let taken = 0;
    let ahead = 0;
    const tried = await hashPieces(
      {
        layers,
        size: GiB / 2,
        algorithms: parseAlgorithms('sha256'),
        threads: 2,
        progress,
        onLoss: () => {},
        onNotice: () => {},
      },
      MiB,
      async (first, digests) => {
        expect(first).to.equal(taken);
        await new Promise((resolve) => setImmediate(resolve));
        ahead = Math.max(ahead, progress.done / MiB - taken);
        taken += digests.length;
      },
    );
    expect([tried, taken]).to.deep.equal([GiB / 2, 512]);
    expect(ahead).to.be.at.most(64);
  });
});
