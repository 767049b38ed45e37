/** Header fields that the reference looks at before it opens an image: `check` and a mount refuse what it refuses. */

import { expect } from 'chai';
import { addExtension, EXTENSION, patchNumber, readField, setFeatureBit } from '../support/damage.js';
import { createRaw, MiB, qemuImg } from '../support/images.js';
import { runInProcess } from '../support/in-process.js';
import { overlayWithFormat, SIZE } from '../support/naming.js';
import { tryTool } from '../support/run.js';
import { useScratch } from '../support/scratch.js';

/** Bytes behind the header of an image without extensions. */
const ROOM = 64 * 1024 - 112 - 8;

const HEADERS: Readonly<Record<string, { make: (dir: string) => string; says?: string }>> = {
  'an end mark with a length': { make: (dir) => withEndMark(dir, ROOM) },
  'an end mark with a length that runs past the first cluster': {
    make: (dir) => withEndMark(dir, ROOM + 1),
    says: 'runs past its room',
  },
  'a backing format of 15 bytes': { make: (dir) => withFormat(dir, 'raw'.padEnd(15, '\0')) },
  'a backing format of 16 bytes': {
    make: (dir) => withFormat(dir, 'raw'.padEnd(16, '\0')),
    says: 'the backing format takes 16 bytes; 15 are allowed',
  },
  'an empty backing format': { make: (dir) => withFormat(dir, '') },
  'raw external data without a data file': {
    make: (dir) => {
      const image = plain(dir);
      setFeatureBit(image, 'autoclearFeatures', 1);
      return image;
    },
    says: 'autoclear feature bit 1',
  },
  'a data file that no feature bit speaks of': {
    make: (dir) => {
      const image = plain(dir);
      addExtension(image, EXTENSION.dataFile, Buffer.from('data.raw'));
      return image;
    },
  },
};

function plain(dir: string): string {
  qemuImg(dir, ['create', '-q', '-f', 'qcow2', 'image.qcow2', String(MiB)]);
  return `${dir}/image.qcow2`;
}

function withFormat(dir: string, format: string): string {
  createRaw(dir, 'base.raw', SIZE, 4);
  return overlayWithFormat(dir, 'base.raw', format);
}

function withEndMark(dir: string, length: number): string {
  const image = plain(dir);
  patchNumber(image, Number(readField(image, 'headerLength')), 8, length);
  return image;
}

describe('headers beside qemu-img', () => {
  const scratch = useScratch();

  for (const [title, { make, says }] of Object.entries(HEADERS)) {
    it(`${title}: ${says === undefined ? 'opened' : 'refused'}`, async () => {
      const image = make(scratch.subdir());
      expect(tryTool('qemu-img', 'check', image).status, 'qemu-img').to.equal(says === undefined ? 0 : 1);
      for (const command of ['check', 'info', 'hash']) {
        const { status, stderr } = await runInProcess([command, image]);
        expect(status, `${command}: ${stderr}`).to.equal(says === undefined ? 0 : 4);
        expect(stderr).to.contain(says ?? '');
      }
    });
  }
});
