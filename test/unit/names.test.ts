import { expect } from 'chai';
import { decodeName, encodeName, hasRawBytes } from '../../src/names.js';
import { printable, shellWord } from '../../src/printable.js';
import { Random } from '../support/random.js';
import { run } from '../support/run.js';

describe('a name of bytes', () => {
  it('is what Node.js makes of it where it is UTF-8', () => {
    for (const name of [
      '',
      'disk.raw',
      'caf\u00e9',
      '\u{1f4be}',
      '\ufffd',
      '\u007f\u0080\u07ff\u0800\uffff\u{10ffff}',
    ]) {
      expect(decodeName(Buffer.from(name))).to.equal(name);
      expect(encodeName(name).toString()).to.equal(name);
      expect(hasRawBytes(name)).to.equal(false);
    }
  });

  // PEP 383, and what python3 -c "print(ascii(os.fsdecode(b'...')))" says.
  it('has a lone surrogate for each byte that is not UTF-8', () => {
    const cases: readonly (readonly [bytes: string, name: string])[] = [
      ['636166e9', 'caf\udce9'],
      ['c3a9c3', '\u00e9\udcc3'],
      ['80ff', '\udc80\udcff'],
      ['c0af', '\udcc0\udcaf'],
      ['e282', '\udce2\udc82'],
      // An encoded surrogate is not UTF-8.
      ['edb3a9', '\udced\udcb3\udca9'],
      ['f09f92bef4908080', '\u{1f4be}\udcf4\udc90\udc80\udc80'],
      ['efbfbde9', '\ufffd\udce9'],
    ];
    for (const [bytes, name] of cases) {
      expect(decodeName(Buffer.from(bytes, 'hex'))).to.equal(name);
      expect(encodeName(name).toString('hex')).to.equal(bytes);
      expect(hasRawBytes(name)).to.equal(true);
    }
  });

  it('becomes the same bytes again, whatever these are, and survives JSON', () => {
    const random = new Random(1);
    for (let i = 0; i < 2000; i++) {
      const bytes = Buffer.from(Array.from({ length: random.below(12) }, () => random.below(256)));
      const name = JSON.parse(JSON.stringify(decodeName(bytes))) as string;
      expect(encodeName(name).toString('hex')).to.equal(bytes.toString('hex'));
    }
  });

  it('is shown with its bytes, and as a word that a shell takes for it', () => {
    const name = "it's \\ caf\udce9f";
    expect(printable(name)).to.equal("it's \\ caf\\xe9f");
    const word = run('bash', ['-c', `printf %s ${shellWord(name)} | od -An -tx1`]).replaceAll(/\s/g, '');
    expect(word).to.equal(encodeName(name).toString('hex'));
  });
});
