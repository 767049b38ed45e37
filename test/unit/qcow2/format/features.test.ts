import { expect } from 'chai';
import type { Extensions, FeatureName } from '../../../../src/qcow2/format/extensions.js';
import { featureNames, refuseUnknownFeatures } from '../../../../src/qcow2/format/features.js';
import { parseHeader } from '../../../../src/qcow2/format/header.js';
import { expectError } from '../../support/errors.js';
import { headerBytes } from '../../support/headers.js';

function check(incompatibleFeatures: bigint, names: readonly FeatureName[] = []): void {
  const header = parseHeader(headerBytes({ incompatibleFeatures, compressionType: 1 }), 'image');
  const extensions: Extensions = {
    backingFile: undefined,
    backingFormat: undefined,
    dataFile: undefined,
    encryption: undefined,
    bitmaps: undefined,
    featureNames: names,
    unknown: [],
  };
  refuseUnknownFeatures(header, extensions, 'image');
}

describe('feature bits', () => {
  it('0 to 4 of the incompatible ones are known', () => {
    expect(() => check(0b11111n)).not.to.throw();
  });

  it('that are unknown are refused by the names that the image gives them', () => {
    const names: FeatureName[] = [
      { type: 'incompatible', bit: 5, name: 'holographic clusters' },
      { type: 'compatible', bit: 63, name: 'a name of another kind' },
    ];
    const expected = ['holographic clusters', 'bit 63', 'mask 0x8000000000000020'];
    expectError('unsupported', expected, () => check((1n << 5n) | (1n << 63n) | 8n, names));
  });

  it('that nobody names are refused by number and mask', () => {
    expectError('unsupported', ['bit 17', 'mask 0x20000'], () => check((1n << 17n) | 8n));
  });

  it('are named lowest first, by the specification where it knows them', () => {
    const own: FeatureName[] = [
      { type: 'autoclear', bit: 0, name: 'a lie' },
      { type: 'autoclear', bit: 9, name: 'nine' },
    ];
    expect(featureNames('autoclear', 0b10_0000_0111n, own)).to.deep.equal([
      'bitmaps',
      'raw external data',
      'bit 2',
      'nine',
    ]);
    expect(featureNames('compatible', 1n, [])).to.deep.equal(['lazy refcounts']);
    expect(featureNames('incompatible', 0n, own)).to.deep.equal([]);
  });
});
