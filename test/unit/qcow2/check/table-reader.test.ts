import { expect } from 'chai';
import { forEachEntry, readPadded } from '../../../../src/qcow2/check/table-reader.js';
import { CrashStorage } from '../../../support/crash/storage.js';

describe('the reader of tables', () => {
  it('takes what lies beyond the end of the file for zeros', () => {
    const bytes = Buffer.alloc(16, 0xff);
    readPadded(new CrashStorage('/image', Buffer.alloc(10, 1)), bytes, 4);
    expect(bytes).to.deep.equal(Buffer.concat([Buffer.alloc(6, 1), Buffer.alloc(10)]));
  });

  it('visits each entry that is not 0, in tables of any size', () => {
    const entries = 20_001;
    const content = Buffer.alloc(512 + 8 * entries + 8, 0xff);
    for (let index = 0; index < entries; index++) {
      content.writeBigUInt64BE(index % 3 === 0 ? 0n : BigInt(index), 512 + 8 * index);
    }
    const seen: number[] = [];
    forEachEntry(new CrashStorage('/image', content), 512, entries, (index, high, low) => {
      expect([high, low]).to.deep.equal([0, index]);
      seen.push(index);
    });
    expect(seen).to.deep.equal(Array.from({ length: entries }, (_, i) => i).filter((i) => i % 3 !== 0));
  });
});
