import { expect } from 'chai';
import { LUKS_HEADER_BYTES, parseLuksHeader } from '../../../src/luks/header.js';
import { expectError } from '../support/errors.js';
import { AT, luksVolume } from './luks-volume.js';

function header(): Buffer {
  const masterKey = Buffer.alloc(64, 7);
  const slots = { 0: Buffer.from('a'), 5: Buffer.from('b') };
  return luksVolume({ mode: 'xts', iv: 'plain64', hash: 'sha512', masterKey, slots });
}

describe('the LUKS header', () => {
  const pristine = header();
  let bytes: Buffer;
  beforeEach(() => {
    bytes = Buffer.from(pristine);
  });

  it('is read field by field', () => {
    const parsed = parseLuksHeader(bytes.subarray(0, LUKS_HEADER_BYTES));
    expect(parsed).to.deep.include({
      version: 1,
      cipherName: 'aes',
      cipherMode: 'xts-plain64',
      hashSpec: 'sha512',
      payloadOffset: pristine.length,
      keyBytes: 64,
      masterKeyDigestIterations: 1000,
      uuid: '6d2a5f1e-0000-4000-8000-00000000c0de',
    });
    expect(parsed.masterKeyDigest.equals(bytes.subarray(112, 132))).to.equal(true);
    expect(parsed.masterKeyDigestSalt.equals(bytes.subarray(132, 164))).to.equal(true);
    expect(parsed.keySlots.map(({ active }) => active)).to.deep.equal(
      [0, 1, 2, 3, 4, 5, 6, 7].map((slot) => slot === 0 || slot === 5),
    );
    const slot = parsed.keySlots[5]!;
    expect(slot).to.deep.include({ state: 'active', iterations: 1000, stripes: 4000 });
    expect(slot.keyMaterialOffset).to.equal(4096 + 5 * 258048);
    expect(slot.salt.equals(bytes.subarray(456, 488))).to.equal(true);
  });

  it('is refused without its magic', () => {
    bytes[5]! ^= 1;
    expectError('format', ['magic'], () => parseLuksHeader(bytes));
    expectError('format', ['magic'], () => parseLuksHeader(Buffer.alloc(0)));
  });

  it('is refused when it is cut short', () => {
    expectError('format', ['591 of 592'], () => parseLuksHeader(bytes.subarray(0, 591)));
  });

  it('is refused as LUKS2 with a way out, and as any other version', () => {
    bytes.writeUInt16BE(2, AT.version);
    expectError('unsupported', ['LUKS2', '--type luks1', 'qemu-img'], () => parseLuksHeader(bytes));
    bytes.writeUInt16BE(3, AT.version);
    expectError('unsupported', ['version 3'], () => parseLuksHeader(bytes));
  });

  for (const field of ['cipherName', 'cipherMode', 'hashSpec'] as const) {
    it(`is refused when ${field} does not end`, () => {
      bytes.fill('a', AT[field], AT[field] + 32);
      expectError('format', [`byte ${AT[field]}`], () => parseLuksHeader(bytes));
    });
  }

  it('tells a damaged slot state from a disabled one', () => {
    bytes.writeUInt32BE(0x12345678, AT.slot(2));
    const { keySlots } = parseLuksHeader(bytes);
    expect(keySlots[2]).to.include({ state: 'damaged', active: false });
    expect(keySlots[3]).to.include({ state: 'disabled', active: false });
  });

  it('is read whatever cipher it names', () => {
    bytes.write('serpent\0', AT.cipherName);
    bytes.writeUInt32BE(0xffffffff, AT.keyBytes);
    expect(parseLuksHeader(bytes)).to.include({ cipherName: 'serpent', keyBytes: 0xffffffff });
  });
});
