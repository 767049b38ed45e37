import { expect } from 'chai';
import { Qcow2fsError } from '../../src/errors.js';

describe('an error', () => {
  it('is one line that can be read, whatever an image brought into it', () => {
    const { message } = new Qcow2fsError(
      'corrupt',
      `image.qcow2: snapshot ${'\0'.repeat(65535)} is bad; repair it`,
    );
    expect(message).to.have.length.below(10_000);
    expect(message).to.match(/^image\.qcow2: snapshot \\u0000.* \.\.\. .* is bad; repair it$/);
  });

  it('is as it was when it is not that long', () => {
    const text = `${'x'.repeat(4000)} end`;
    expect(new Qcow2fsError('corrupt', text).message).to.equal(text);
  });
});
