import { expect } from 'chai';
import { writeChanges } from '../../../../src/qcow2/repair/changed-sectors.js';
import { CrashStorage } from '../../../support/crash/storage.js';

describe('a table that was mended', () => {
  it('writes the sectors that changed, neighbours at once', () => {
    const before = Buffer.alloc(5 * 512 + 100);
    const after = Buffer.from(before);
    for (const at of [0, 1500, 1536, before.length - 1]) after[at] = 1;
    const storage = new CrashStorage('/image', Buffer.concat([Buffer.alloc(512, 9), before]));
    expect(writeChanges(storage, before, after, 512)).to.equal(true);
    expect(storage.content).to.deep.equal(Buffer.concat([Buffer.alloc(512, 9), after]));
    expect([storage.writes, storage.bytesWritten]).to.deep.equal([3, 512 + 2 * 512 + 100]);
    expect(writeChanges(storage, after, after, 512)).to.equal(false);
  });
});
