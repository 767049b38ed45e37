import { randomBytes } from 'node:crypto';
import { expect } from 'chai';
import { Qcow2fsError } from '../../../src/errors.js';
import { parseLuksHeader } from '../../../src/luks/header.js';
import { IterationBudget, unlock } from '../../../src/luks/unlock.js';
import { expectError } from '../support/errors.js';
import { AT, luksVolume } from './luks-volume.js';

const NUL_SECRET = Buffer.from('fifth\0and more');
const masterKey = randomBytes(64);
const pristine = luksVolume({
  mode: 'xts',
  iv: 'plain64',
  hash: 'sha256',
  masterKey,
  slots: { 1: Buffer.from('first'), 3: Buffer.from('third\n'), 5: Buffer.from('fifth'), 7: NUL_SECRET },
});

let reads: number[];

function open(volume: Buffer, secret: string | Uint8Array): Buffer {
  const read = (offset: number, length: number) => {
    reads.push(offset);
    if (offset + length > volume.length) throw new Qcow2fsError('corrupt', 'outside the LUKS header');
    return volume.subarray(offset, offset + length);
  };
  return Buffer.from(unlock(parseLuksHeader(volume), read, Buffer.from(secret)).masterKey);
}

function damaged(damage: (volume: Buffer) => void): Buffer {
  const volume = Buffer.from(pristine);
  damage(volume);
  return volume;
}

describe('unlocking a LUKS volume', () => {
  beforeEach(() => {
    reads = [];
  });

  it('gives the master key for the secret of any slot', () => {
    for (const secret of ['first', 'third\n', 'fifth']) {
      expect(open(pristine, secret).equals(masterKey), secret).to.equal(true);
    }
  });

  it('leaves the key material of the caller as it was', () => {
    const volume = Buffer.from(pristine);
    open(volume, 'fifth');
    expect(volume.equals(pristine)).to.equal(true);
  });

  it('reads no key material of disabled slots', () => {
    open(pristine, 'fifth');
    const slots = parseLuksHeader(pristine).keySlots;
    const active = [1, 3, 5, 7].map((slot) => slots[slot]!.keyMaterialOffset);
    expect(active).to.include.members(reads);
  });

  it('refuses a wrong secret', () => {
    for (const secret of ['second', 'firs', 'first ', 'third', '']) {
      expectError('secret', ['wrong secret: no key slot opens with it'], () => open(pristine, secret));
    }
  });

  it('explains trailing newlines', () => {
    expectError('secret', ['trailing newline', 'printf %s'], () => open(pristine, 'first\n'));
    expect(() => open(pristine, 'second'))
      .to.throw(Qcow2fsError)
      .with.property('message')
      .not.include('newline');
  });

  it('takes a secret with a NUL byte whole, and then up to the NUL', () => {
    const whole = unlock(
      parseLuksHeader(pristine),
      (offset, length) => pristine.subarray(offset, offset + length),
      NUL_SECRET,
    );
    expect(Buffer.from(whole.masterKey).equals(masterKey)).to.equal(true);
    // Its beginning opens another slot.
    expect(Buffer.from(whole.secret).equals(NUL_SECRET)).to.equal(true);
    expect(open(pristine, 'first\0whatever').equals(masterKey)).to.equal(true);
    expectError('secret', ['wrong secret'], () => open(pristine, 'second\0first'));
  });

  it('does not open a disabled slot', () => {
    const volume = damaged((bytes) => bytes.writeUInt32BE(0xdead, AT.slot(1)));
    expectError('secret', ['wrong secret'], () => open(volume, 'first'));
  });

  it('says so when every slot is disabled', () => {
    const volume = damaged((bytes) => {
      for (const slot of [1, 3, 5, 7]) bytes.writeUInt32BE(0xdead, AT.slot(slot));
    });
    expectError('secret', ['no active key slot'], () => open(volume, 'first'));
  });

  const damages: Readonly<Record<string, [words: string, damage: (bytes: Buffer) => void]>> = {
    'other than 4000 stripes': ['3999 stripes', (bytes) => bytes.writeUInt32BE(3999, AT.slotStripes(1))],
    'a huge number of stripes': ['stripes', (bytes) => bytes.writeUInt32BE(0xffffffff, AT.slotStripes(1))],
    'no iterations': ['0 PBKDF2', (bytes) => bytes.writeUInt32BE(0, AT.slotIterations(1))],
    'too many iterations': ['2147483648', (bytes) => bytes.writeUInt32BE(2 ** 31, AT.slotIterations(1))],
    'key material over the header': ['overlaps', (bytes) => bytes.writeUInt32BE(1, AT.slotMaterial(1))],
    'key material outside': ['outside', (bytes) => bytes.writeUInt32BE(0xffffffff, AT.slotMaterial(1))],
    'an unknown state': ['neither', (bytes) => bytes.writeUInt32BE(0xac71f2, AT.slot(1))],
  };
  for (const [what, [words, damage]] of Object.entries(damages)) {
    it(`passes over a slot with ${what}, and names it when no other opens`, () => {
      const volume = damaged(damage);
      expect(open(volume, 'third\n').equals(masterKey)).to.equal(true);
      expectError('secret', ['wrong secret', 'key slot 1', words], () => open(volume, 'first'));
    });
  }

  it('reports damage, not a wrong secret, when no slot could be tried', () => {
    const volume = damaged((bytes) => {
      for (const slot of [1, 3, 5, 7]) bytes.writeUInt32BE(1, AT.slotStripes(slot));
    });
    expectError('corrupt', ['key slot 1', 'key slot 7'], () => open(volume, 'first'));
  });

  it('refuses damaged key material as it refuses a wrong secret', () => {
    const offset = parseLuksHeader(pristine).keySlots[1]!.keyMaterialOffset;
    const volume = damaged((bytes) => {
      bytes[offset + 100_000]! ^= 1;
    });
    expectError('secret', ['wrong secret'], () => open(volume, 'first'));
    expect(open(volume, 'fifth').equals(masterKey)).to.equal(true);
  });

  it('refuses a master key digest without iterations', () => {
    const volume = damaged((bytes) => bytes.writeUInt32BE(0, AT.digestIterations));
    expectError('corrupt', ['digest', '0 PBKDF2'], () => open(volume, 'first'));
  });

  it('tries no slot beyond the iterations that are allowed, and says which and how to allow more', () => {
    const header = parseLuksHeader(pristine);
    const read = (offset: number, length: number) => pristine.subarray(offset, offset + length);
    const attempt = (secret: string, allowed: number) => () =>
      unlock(header, read, Buffer.from(secret), new IterationBudget(allowed)).masterKey;
    // A slot takes 1000 iterations, and 1000 more tell whether the key is right.
    expect(Buffer.from(attempt('first', 2000)()).equals(masterKey)).to.equal(true);
    const words = ['key slot 3', '2000 PBKDF2 iterations more, and 3999 are allowed', '--max-iterations N'];
    expectError('secret', ['wrong secret', 'not tried', ...words], attempt('third\n', 3999));
    expect(Buffer.from(attempt('third\n', 4000)()).equals(masterKey)).to.equal(true);
    expectError('secret', ['key slot 1', '1999 are allowed'], attempt('first', 1999));
    // All images of a chain share what there is.
    const budget = new IterationBudget(3999);
    unlock(header, read, Buffer.from('first'), budget);
    const again = () => unlock(header, read, Buffer.from('first'), budget);
    expectError('secret', ['key slot 1', '3999 are allowed'], again);
  });

  it('refuses an unknown hash, cipher or key size before it reads anything', () => {
    const cases: readonly [string, (bytes: Buffer) => void][] = [
      ['"whirlpool"', (bytes) => bytes.write('whirlpool\0', AT.hashSpec)],
      ['camellia-xts-plain64', (bytes) => bytes.write('camellia\0', AT.cipherName)],
      ['4294967295 bytes', (bytes) => bytes.writeUInt32BE(0xffffffff, AT.keyBytes)],
    ];
    for (const [words, damage] of cases) {
      expectError('unsupported', [words], () => open(damaged(damage), 'first'));
    }
    expect(reads).to.deep.equal([]);
  });

  it('lets a bug of the caller through', () => {
    const read = () => {
      throw new TypeError('a bug');
    };
    expect(() => unlock(parseLuksHeader(pristine), read, Buffer.from('first'))).to.throw(TypeError, 'a bug');
  });

  it('opens key material that ends within a sector, as AES-192 in CBC has it', () => {
    for (const mode of ['cbc', 'ecb'] as const) {
      const key = randomBytes(24);
      const slots = { 0: Buffer.from('x') };
      const volume = luksVolume({ mode, iv: 'plain64', hash: 'sha1', masterKey: key, slots });
      expect(open(volume, 'x').equals(key), mode).to.equal(true);
    }
  });
});
