/** Headers that cryptsetup made: the master key is the one that it tells itself, with the secret of each slot. */
import fs from 'node:fs';
import { expect } from 'chai';
import { parseLuksHeader } from '../../../src/luks/header.js';
import { unlock } from '../../../src/luks/unlock.js';
import { run } from '../../support/run.js';
import { useScratch } from '../../support/scratch.js';
import { expectError } from '../support/errors.js';

/** Where the kernel lends it no ciphers, cryptsetup has those of OpenSSL: AES. */
const HEADERS = [
  '--cipher aes-xts-plain64 --key-size 256 --hash sha256',
  '--cipher aes-xts-plain64 --key-size 512 --hash sha512',
  '--cipher aes-cbc-essiv:sha256 --key-size 128 --hash ripemd160',
  '--cipher aes-cbc-essiv:sha256 --key-size 192 --hash sha1',
  '--cipher aes-cbc-plain64 --key-size 192 --hash sha384',
  '--cipher aes-cbc-plain --key-size 256 --hash sha256',
  '--cipher aes-ctr-plain64 --key-size 256 --hash sha224',
] as const;

describe('a LUKS header of cryptsetup', () => {
  const scratch = useScratch();
  const quick = ['--batch-mode', '--pbkdf-force-iterations', '1000'];

  /** The master key, with our eyes. */
  function open(file: string, secret: string): Buffer {
    const bytes = fs.readFileSync(file);
    const read = (offset: number, length: number) => bytes.subarray(offset, offset + length);
    return Buffer.from(unlock(parseLuksHeader(bytes), read, Buffer.from(secret)).masterKey);
  }

  for (const options of HEADERS) {
    it(`opens: ${options}`, () => {
      const dir = scratch.subdir();
      const [file, first, second] = [`${dir}/luks`, `${dir}/first`, `${dir}/second`] as const;
      fs.writeFileSync(file, '');
      fs.truncateSync(file, 20 * 1024 * 1024);
      fs.writeFileSync(first, 'open sesame');
      fs.writeFileSync(second, 'open barley\n');
      run('cryptsetup', [
        'luksFormat',
        '--type',
        'luks1',
        ...quick,
        ...options.split(' '),
        '--key-file',
        first,
        file,
      ]);
      run('cryptsetup', ['luksAddKey', ...quick, '--key-file', first, '--key-slot', '6', file, second]);
      const dump = run('cryptsetup', [
        'luksDump',
        '--batch-mode',
        '--dump-master-key',
        '--key-file',
        first,
        file,
      ]);
      const key = /MK dump:\s*([0-9a-f\s]+)/.exec(dump)![1]!.replaceAll(/\s/g, '');
      expect(key).not.to.equal('');
      expect(open(file, 'open sesame').toString('hex')).to.equal(key);
      expect(open(file, 'open barley\n').toString('hex')).to.equal(key);
      expectError('secret', ['wrong secret'], () => open(file, 'open barley'));
      run('cryptsetup', ['luksKillSlot', '--batch-mode', '--key-file', first, file, '6']);
      expectError('secret', ['wrong secret'], () => open(file, 'open barley\n'));
    });
  }
});
