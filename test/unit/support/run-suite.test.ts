/** The suite's own plan: which test files run together, and when a run has failed. */
import { expect } from 'chai';
import type { TestEvent } from '../../support/reporter.js';
import { batchesOf, closing, matching, resultOf } from '../../support/suite-plan.js';

const FILES = [
  'dist/test/cli/a.test.js',
  'dist/test/mount/b.test.js',
  'dist/test/unit/c.test.js',
  'dist/test/unit/d.test.js',
  'dist/test/unit/fuse/e.test.js',
];
const BATCH = ['dist/test/mount/b.test.js'];

const begin = (title: string): TestEvent => ({ event: 'begin', title });
const pass: TestEvent = { event: 'pass' };
const fail: TestEvent = {
  event: 'fail',
  file: 'dist/test/mount/b.test.js',
  title: "a disk's end",
  error: 'no',
};
const end: TestEvent = { event: 'end' };

describe('the files of the suite', () => {
  it('are named as a shell would, by ** or by their directory', () => {
    expect(matching(FILES, ['dist/test/**/*.test.js'])).to.deep.equal(FILES);
    expect(matching(FILES, ['dist/test/unit/*.test.js'])).to.deep.equal(FILES.slice(2, 4));
    expect(matching(FILES, ['dist/test/unit', 'dist/test/mount/?.test.js'])).to.deep.equal(FILES.slice(1));
    expect(matching(FILES, ['dist/test/unit/d+test.js', 'dist/test/uni', ''])).to.deep.equal([]);
  });

  it('have a process each, but for small ones of a directory', () => {
    expect(batchesOf(FILES)).to.deep.equal([[FILES[0]], [FILES[1]], [FILES[2], FILES[3]], [FILES[4]]]);
  });
});

describe('a Mocha process', () => {
  it('passes when its tests and its end say so', () => {
    const events = [begin('a'), pass, begin('b'), pass, end];
    expect(resultOf(BATCH, events, undefined)).to.deep.equal({ passed: 2, failures: [] });
  });

  it('fails with the tests that failed', () => {
    const events = [begin('a'), pass, begin('b'), fail, end];
    expect(resultOf(BATCH, events, 'status 1')).to.deep.equal({ passed: 1, failures: [fail] });
  });

  const broken: readonly (readonly [string, TestEvent[], string | undefined, RegExp])[] = [
    ['ends in the middle, with whatever status', [begin('a')], undefined, /ended early, in or after: a$/],
    ['is killed', [begin('a'), pass, begin('b')], 'SIGSEGV', /^SIGSEGV, in or after: b$/],
    ['does not load', [], 'status 1', /^status 1, before its first test$/],
    ['complains after its tests', [begin('a'), pass, end], 'status 7', /^status 7$/],
    ['hangs', [begin('a')], 'no test ended', /^no test ended, in or after: a$/],
  ];
  for (const [what, events, ending, words] of broken) {
    it(`fails when it ${what}`, () => {
      const { failures } = resultOf(BATCH, events, ending);
      expect(failures).to.have.length(1);
      expect(failures[0]).to.deep.include({ file: BATCH[0], title: '' });
      expect(failures[0]!.error).to.match(words);
    });
  }

  it('that is killed after a failure has both', () => {
    expect(resultOf(BATCH, [begin('a'), fail, begin('b')], 'SIGSEGV').failures).to.have.length(2);
  });
});

describe('the end of the suite', () => {
  it('is one line with the sum of all files', () => {
    const good = { passed: 3, failures: [] };
    expect(closing([good, good])).to.equal('\n6 passed, 0 failed\n');
  });

  it('says what failed, and how to run that alone', () => {
    const bad = resultOf(BATCH, [begin('a'), pass, begin('b'), fail, end], 'status 1');
    const crashed = resultOf(BATCH, [], 'SIGSEGV');
    expect(closing([bad, crashed])).to.equal(`
FAILED

a disk's end
  no
  alone: node_modules/.bin/mocha dist/test/mount/b.test.js --fgrep 'a disk'\\''s end'

dist/test/mount/b.test.js
  SIGSEGV, before its first test
  alone: node_modules/.bin/mocha dist/test/mount/b.test.js

1 passed, 2 failed
`);
  });
});
