/**
 * Mocha's spec reporter, which prints the duration of every test over a second (.mocharc.json: slow). It also says how
 * the tests went: with a closing line, or for the suite, which gives a file in QCOW2FS_EVENTS, as JSON lines in that.
 */
import fs from 'node:fs';
import path from 'node:path';
import Mocha from 'mocha';
import { MARK, stacksOf } from './marked-processes.js';

/** What a Mocha process tells the suite while it runs. */
export type TestEvent =
  | { readonly event: 'begin'; readonly title: string }
  | { readonly event: 'pass' }
  | { readonly event: 'fail'; readonly file: string; readonly title: string; readonly error: string }
  | { readonly event: 'end' };

const EVENTS = process.env['QCOW2FS_EVENTS'];
const STACK_LINES = 6;

export default class SuiteReporter extends Mocha.reporters.Spec {
  constructor(runner: Mocha.Runner, options: Mocha.MochaOptions) {
    super(runner, options);
    let isComplete = false;
    runner.on('test', (test) => tell({ event: 'begin', title: test.fullTitle() }));
    runner.on('pass', () => tell({ event: 'pass' }));
    runner.on('fail', (test, error) => {
      const mark = process.env[MARK];
      if ((error as NodeJS.ErrnoException).code === 'ERR_MOCHA_TIMEOUT' && mark !== undefined) {
        process.stdout.write(`${stacksOf(mark)}\n`);
      }
      tell({
        event: 'fail',
        file: path.relative('', test.file ?? ''),
        title: test.fullTitle(),
        error: describe(error),
      });
    });
    runner.once('end', () => {
      isComplete = true;
      tell({ event: 'end' });
    });
    process.once('exit', () => {
      // A process that exits in the middle of a test does not know how the others would have gone.
      if (!isComplete) process.exitCode = 1;
      else if (EVENTS === undefined) {
        process.stdout.write(`${this.stats.passes} passed, ${this.stats.failures} failed\n`);
      }
    });
  }
}

function tell(event: TestEvent): void {
  if (EVENTS !== undefined) fs.appendFileSync(EVENTS, `${JSON.stringify(event)}\n`);
}

function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const stack = error.stack?.split('\n    at ').slice(1, STACK_LINES) ?? [];
  return [`${error.name}: ${error.message}`, ...stack.map((line) => `    at ${line}`)].join('\n');
}
