import zlib from 'node:zlib';
import { expect } from 'chai';
import { type Decompress, zlibInflate, zstdDecompress } from '../../../src/host/inflate.js';

const CONTENT = Buffer.from('what a cluster holds, what a cluster holds, and more of what a cluster holds');
/** A frame of one raw block, and its content size in one byte (RFC 8878, 3.1.1). */
const ZSTD = Buffer.concat([
  Buffer.from([
    0x28,
    0xb5,
    0x2f,
    0xfd,
    0x20,
    CONTENT.length,
    (CONTENT.length << 3) | 1,
    CONTENT.length >> 5,
    0,
  ]),
  CONTENT,
]);

const LIBRARIES: readonly { name: string; load: () => Decompress | undefined; source: Buffer }[] = [
  { name: 'zlib of Node', load: zlibInflate, source: zlib.deflateRawSync(CONTENT) },
  { name: 'libzstd of the system', load: zstdDecompress, source: ZSTD },
];

for (const { name, load, source } of LIBRARIES) {
  describe(`the ${name}`, () => {
    const decompress = load()!;

    it('is there, and puts the content where it belongs, time and again', () => {
      for (let round = 0; round < 3; round++) {
        const target = Buffer.alloc(CONTENT.length + 10, '.');
        expect(decompress(source, target, 5, CONTENT.length)).to.equal(CONTENT.length);
        expect(target.toString()).to.equal(`.....${CONTENT}.....`);
      }
    });

    it('writes nothing beyond its room, and finds damage', () => {
      const target = Buffer.alloc(CONTENT.length + 10, '.');
      decompress(source, target, 5, 20);
      expect(target.toString('latin1', 25)).to.equal('.'.repeat(CONTENT.length - 15));
      expect(decompress(Buffer.alloc(40, 0xff), target, 5, CONTENT.length)).to.equal(-1);
      expect(decompress(source.subarray(0, -9), target, 5, CONTENT.length)).to.not.equal(CONTENT.length);
      expect(decompress(source, target, 5, CONTENT.length), 'afterwards').to.equal(CONTENT.length);
    });
  });
}
