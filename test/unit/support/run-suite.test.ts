/** The suite's own plan: which test files run beside which, and when a file has failed. */
import { expect } from 'chai';
import { closing, type Ending, matching, Queue, resultOf } from '../../support/suite-plan.js';

const FILES = [
  'dist/test/mount/a.test.js',
  'dist/test/cli/b.test.js',
  'dist/test/docs/c.test.js',
  'dist/test/unit/d.test.js',
  'dist/test/unit/fuse/e.test.js',
  'dist/test/writing/crash.test.js',
];
const TREE = '\n\n  a disk\n    \u2714 is read\n\n\n  3 passing (5ms)\n';
const FAILING = `${TREE}  1 failing\n\n  1) a disk\n       is written:\n     Error: no\n      at here\n\n\n`;

const ending = (output: string, rest: Partial<Ending> = {}): Ending => ({
  output,
  status: 0,
  signal: null,
  ...rest,
});

describe('the files of the suite', () => {
  it('are named as a shell would, by ** or by their directory', () => {
    expect(matching(FILES, ['dist/test/**/*.test.js'])).to.deep.equal(FILES);
    expect(matching(FILES, ['dist/test/unit/*.test.js'])).to.deep.equal(['dist/test/unit/d.test.js']);
    expect(matching(FILES, ['dist/test/unit', 'dist/test/mount/?.test.js'])).to.deep.equal([
      'dist/test/mount/a.test.js',
      'dist/test/unit/d.test.js',
      'dist/test/unit/fuse/e.test.js',
    ]);
    expect(matching(FILES, ['dist/test/unit/d+test.js', 'dist/test/uni', ''])).to.deep.equal([]);
  });

  it('run each once, and those that share what the machine has once never side by side', () => {
    const queue = new Queue(FILES);
    const [first, second, third] = [queue.take(), queue.take(), queue.take()];
    expect([first, second, third]).to.deep.equal([
      'dist/test/cli/b.test.js',
      'dist/test/writing/crash.test.js',
      'dist/test/unit/d.test.js',
    ]);
    queue.done(second!);
    expect(queue.take()).to.equal('dist/test/unit/fuse/e.test.js');
    expect(queue.take(), 'while the first one runs').to.equal(undefined);
    queue.done(first!);
    expect(queue.take()).to.equal('dist/test/docs/c.test.js');
    expect(queue.take(), 'while that one runs').to.equal(undefined);
    queue.done('dist/test/docs/c.test.js');
    expect(queue.take()).to.equal('dist/test/mount/a.test.js');
    queue.done('dist/test/mount/a.test.js');
    expect(queue.take()).to.equal(undefined);
  });
});

describe('a test file', () => {
  it('passes when its closing line and its status say so', () => {
    const result = resultOf('f', ending(`${TREE}\n3 passed, 0 failed\n`));
    expect(result).to.deep.include({ passed: 3, failed: 0, failures: '' });
    expect(result.output).to.contain('is read').and.not.contain('3 passed');
  });

  it('fails with as many tests as its closing line says, and their messages and stacks', () => {
    const result = resultOf('f', ending(`${FAILING}3 passed, 1 failed\n`, { status: 1 }));
    expect(result).to.deep.include({ passed: 3, failed: 1 });
    expect(result.failures).to.equal('1) a disk\n       is written:\n     Error: no\n      at here');
  });

  it('is understood in colour', () => {
    const coloured = FAILING.replace('1 failing', '\x1b[31m1 failing\x1b[0m').replace(
      '  \x1b',
      '\x1b[0m  \x1b',
    );
    const { failures } = resultOf('f', ending(`${coloured}3 passed, 1 failed\n`, { status: 1 }));
    expect(failures).to.match(/^1\) a disk/);
  });

  const broken: readonly (readonly [string, Ending, RegExp])[] = [
    [
      'exits in the middle, with whatever status',
      ending(TREE),
      /^[^\n]*status 0 and no closing line.*is read/s,
    ],
    ['is killed', ending(TREE, { status: null, signal: 'SIGSEGV' }), /^[^\n]*SIGSEGV and no closing line/],
    [
      'does not load',
      ending('Error: no module\n', { status: 1 }),
      /status 1 and no.*after:\nError: no module$/s,
    ],
    ['has a complaint after its tests', ending('3 passed, 0 failed\n', { status: 7 }), /^[^\n]*status 7$/],
    [
      'says something after its closing line',
      ending('3 passed, 0 failed\nmore\n'),
      /no closing line.*more$/s,
    ],
    [
      'hangs',
      ending(TREE, { status: null, signal: 'SIGTERM', ended: 'it was ended' }),
      /^it was ended, after:/,
    ],
  ];
  for (const [what, how, words] of broken) {
    it(`fails when it ${what}`, () => {
      const { failed, failures } = resultOf('f', how);
      expect(failed).to.equal(1);
      expect(failures).to.match(words);
    });
  }
});

describe('the end of the suite', () => {
  const good = resultOf('good', ending('3 passed, 0 failed\n'));
  const bad = resultOf('bad', ending(`${FAILING}3 passed, 1 failed\n`, { status: 1 }));
  const crashed = resultOf('crashed', ending('', { status: 1 }));

  it('is one line with the sum of all files', () => {
    expect(closing([good, good])).to.deep.equal({ text: '\n6 passed, 0 failed\n', hasFailed: false });
  });

  it('tells again all that failed, and in which file', () => {
    const { text, hasFailed } = closing([bad, good, crashed]);
    expect(hasFailed).to.equal(true);
    expect(text).to.match(
      /^\nFAILED\n\nbad:\n\n {2}1\) a disk\n.*at here\n\ncrashed:\n\n {2}its process.*\n\n6 passed, 2 failed\n$/s,
    );
  });
});
