import { expect } from 'chai';
import { type ErrorKind, Qcow2fsError } from '../../../src/errors.js';

/** Insists on a Qcow2fsError of that kind, one line long, whose message holds all the words. */
export function expectError(kind: ErrorKind, words: readonly string[], action: () => unknown): void {
  let thrown: unknown;
  try {
    action();
  } catch (error) {
    thrown = error;
  }
  if (thrown !== undefined && !(thrown instanceof Qcow2fsError)) throw thrown;
  expect(thrown, `a failure of kind ${kind}`).to.be.instanceOf(Qcow2fsError);
  const { kind: actual, message } = thrown as Qcow2fsError;
  expect(actual, message).to.equal(kind);
  for (const word of words) expect(message).to.include(word);
  expect(message).not.to.include('\n');
}
