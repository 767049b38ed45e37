/** On a host that cannot make holes, what is freed keeps its old bytes: they must never show. */
import fs from 'node:fs';
import { expect } from 'chai';
import { Qcow2fsError } from '../../src/errors.js';
import { FileStorage } from '../../src/host/file-storage.js';
import { openDisk } from '../../src/qcow2/chain.js';
import { checkImage, convertToRaw, imagePath, KiB, MiB, writeSecret } from '../support/images.js';
import { RandomGuest, randomNumbers } from '../support/random-guest.js';
import { useScratch } from '../support/scratch.js';
import { targetOf } from '../support/target.js';
import { filled } from '../support/variant.js';

class SolidStorage extends FileStorage {
  override punch(): never {
    throw new Qcow2fsError('host-io', 'no holes here');
  }

  override zero(position: number, length: number): void {
    this.write(Buffer.alloc(length), 0, length, position);
  }
}

describe('a host that cannot make holes', () => {
  const scratch = useScratch();
  for (const [name, spec] of [
    ['with 64 KiB clusters', {}],
    ['with 4 KiB clusters', { clusterSize: 4 * KiB }],
    ['with extended L2', { options: ['extended_l2=on'] }],
    ['with a raw external data file', { options: ['data_file=data.raw', 'data_file_raw=on'] }],
    ['with legacy AES', { encryption: ['encrypt.format=aes'] }],
  ] as const) {
    it(`shows nothing of what was discarded, ${name}`, async () => {
      const dir = scratch.subdir();
      const secret = 'encryption' in spec ? { secret: writeSecret(dir, 'key') } : {};
      const image = filled(dir, { size: 3 * MiB, ...spec, ...secret }, 1);
      const guest = new RandomGuest(fs.readFileSync(convertToRaw(image)), randomNumbers(9), { erasing: 0.4 });
      const key = 'encryption' in spec ? Buffer.from('key') : undefined;
      for (let round = 0; round < 3; round++) {
        const disk = await openDisk(
          imagePath(image),
          { writable: true, secret: key },
          (file) => new SolidStorage(file),
        );
        for (let i = 0; i < 100; i++) guest.step(targetOf(disk));
        guest.checkAll(targetOf(disk));
        disk.close();
        checkImage(image);
      }
      expect(fs.readFileSync(convertToRaw(image)).equals(guest.shadow)).to.equal(true);
    });
  }
});
