import fs from 'node:fs';
import { expect } from 'chai';
import { FileStorage, openReadOnly } from '../../src/host/file-storage.js';
import { PartStorage } from '../../src/part-storage.js';
import { useScratch } from '../support/scratch.js';
import { expectError } from './support/errors.js';

describe('a part of a file', () => {
  const scratch = useScratch();
  const path = `${scratch.subdir()}/file`;
  let file: FileStorage;
  before(() => {
    fs.writeFileSync(path, 'before|image|behind');
    file = new FileStorage(openReadOnly(path));
  });
  after(() => file.close());

  function read(storage: PartStorage, position: number, length = 100): string {
    const target = Buffer.alloc(length, '.');
    const count = storage.read(target, 0, length, position);
    expect(target.toString('latin1', count)).to.equal('.'.repeat(length - count));
    return target.toString('latin1', 0, count);
  }

  it('is all that can be read', () => {
    const part = new PartStorage(file, 7, 5);
    expect(part.size()).to.equal(5);
    expect([0, 2, 4, 5, 1000].map((position) => read(part, position))).to.deep.equal([
      'image',
      'age',
      'e',
      '',
      '',
    ]);
    expect(read(part, 1, 2)).to.equal('ma');
  });

  it('goes as far as the file where it has no end, or a later one', () => {
    for (const length of [Number.POSITIVE_INFINITY, 1000]) {
      const part = new PartStorage(file, 13, length);
      expect([part.size(), read(part, 0), read(part, 4)]).to.deep.equal([6, 'behind', 'nd']);
    }
    expect(new PartStorage(file, 1000, 10).size()).to.equal(0);
  });

  it('tells data and holes from where it begins', () => {
    const sparse = `${scratch.subdir()}/sparse`;
    fs.writeFileSync(sparse, Buffer.alloc(65536, 1));
    fs.truncateSync(sparse, 3 * 65536);
    fs.appendFileSync(sparse, Buffer.alloc(65536, 1));
    const whole = new FileStorage(openReadOnly(sparse));
    const part = new PartStorage(whole, 32768, 2 * 65536);
    expect([part.nextData(0), part.nextHole(0)]).to.deep.equal([0, 32768]);
    expect([part.nextData(32768), part.nextHole(40960)]).to.deep.equal([2 * 65536, 40960]);
    whole.close();
  });

  it('is read-only', () => {
    const part = new PartStorage(file, 7, 5);
    for (const change of ['write', 'punch', 'zero', 'truncate'] as const) {
      expectError('read-only', [path], () => part[change]());
    }
  });
});
