/** Mocha's spec reporter, with a last line that says how many tests passed and failed. */
import Mocha from 'mocha';

export default class ClosingLineReporter extends Mocha.reporters.Spec {
  constructor(runner: Mocha.Runner, options: Mocha.MochaOptions) {
    super(runner, options);
    let isComplete = false;
    runner.once('end', () => {
      isComplete = true;
    });
    process.once('exit', () => {
      // A process that ends in the middle of a test knows nothing of the rest.
      if (isComplete) process.stdout.write(`${this.stats.passes} passed, ${this.stats.failures} failed\n`);
      else process.exitCode = 1;
    });
  }
}
