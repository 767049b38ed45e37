import { expect } from 'chai';
import { displayWidth, padColumns, shortened } from '../../src/display-width.js';

describe('the width of a text', () => {
  it('is told in columns of a terminal', () => {
    expect(displayWidth('disk.qcow2')).to.equal(10);
    expect(displayWidth('日本語')).to.equal(6);
    expect(displayWidth('💾')).to.equal(2);
    expect(displayWidth('e\u0301tude')).to.equal(5);
    expect(padColumns('日本', 6)).to.equal('日本  ');
    expect(padColumns('日本語', 2)).to.equal('日本語');
  });

  it('is made smaller at the beginning, for names differ at the end', () => {
    expect(shortened('abcdefgh', 8, '…')).to.equal('abcdefgh');
    expect(shortened('abcdefghi', 8, '…')).to.equal('…cdefghi');
    expect(shortened('abcdefghi', 8, '...')).to.equal('...efghi');
    expect(shortened('💾'.repeat(9), 8, '…')).to.equal(`…${'💾'.repeat(3)}`);
  });
});
