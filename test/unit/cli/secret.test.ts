import fs from 'node:fs';
import { expect } from 'chai';
import { readSecret, type SecretFormat } from '../../../src/cli/secret.js';
import { useScratch } from '../../support/scratch.js';
import { expectError } from '../support/errors.js';

describe('a secret file', () => {
  const scratch = useScratch();
  const file = scratch.path('secret');

  function read(content: string | Buffer, format: SecretFormat): Buffer {
    fs.writeFileSync(file, content);
    return Buffer.from(readSecret(file, format));
  }

  it('that is raw counts with every byte, a trailing newline included', () => {
    expect(read('key\n', 'raw').toString()).to.equal('key\n');
    expect(read(Buffer.from([0, 255, 13, 10]), 'raw')).to.deep.equal(Buffer.from([0, 255, 13, 10]));
    expect(read('', 'raw').length).to.equal(0);
  });

  it('that is base64 may be broken into lines', () => {
    expect(read('c2Vj\ncmV0\n', 'base64').toString()).to.equal('secret');
    expect(read('/+8=', 'base64')).to.deep.equal(Buffer.from([0xff, 0xef]));
    expect(read('/w==', 'base64')).to.deep.equal(Buffer.from([0xff]));
    expect(read('', 'base64').length).to.equal(0);
  });

  it('that is no base64 is refused', () => {
    for (const text of ['abc', 'c2Vj\r\ncmV0', 'c2V!', 'c2 Vj', 'A===', '=AAA', 'c2Vj====', '_-8=']) {
      expectError('secret', [file, 'base64'], () => read(text, 'base64'));
    }
  });

  it('has at most a mebibyte', () => {
    expect(read(Buffer.alloc(2 ** 20, 1), 'raw').length).to.equal(2 ** 20);
    expectError('secret', [file, '1048576'], () => read(Buffer.alloc(2 ** 20 + 1), 'raw'));
  });

  it('that is missing or a directory is refused', () => {
    expectError('secret', [scratch.path('x'), 'ENOENT'], () => readSecret(scratch.path('x'), 'raw'));
    expectError('secret', [scratch.dir, 'EISDIR'], () => readSecret(scratch.dir, 'raw'));
  });
});
