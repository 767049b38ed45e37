/** The judge of a soak can tell what grows from what does not. */
import { expect } from 'chai';
import { report } from './report.js';
import { judge, type Sample, takeSample } from './samples.js';

const series = (value: (second: number) => Partial<Sample>): Sample[] =>
  Array.from({ length: 90 }, (_, seconds) => ({
    seconds,
    rss: 100_000,
    descriptors: 20,
    threads: 11,
    ...value(seconds),
  }));

describe('the judge of a soak', () => {
  it('is content with caches that fill and memory that comes and goes', () => {
    const steady = series((second) => ({
      rss: Math.min(100_000, 40_000 + 4000 * second) + 5000 * (second % 3),
    }));
    expect(judge(steady).complaints).to.deep.equal([]);
  });

  it('is not with memory, descriptors or threads that grow', () => {
    expect(judge(series((second) => ({ rss: 100_000 + 1000 * second }))).complaints).to.deep.equal([
      'memory grows',
    ]);
    expect(judge(series((second) => ({ descriptors: second < 70 ? 20 : 21 }))).complaints).to.deep.equal([
      'descriptors grow',
    ]);
    expect(judge(series((second) => ({ threads: second < 70 ? 11 : 12 }))).complaints).to.deep.equal([
      'threads grow',
    ]);
    expect(judge([]).complaints).to.contain('too few samples');
  });

  it('says so in a table, with a curve', () => {
    const { text, passed } = report(['a fact'], [{ name: 'plain', samples: series(() => ({})) }]);
    expect(passed).to.equal(true);
    expect(text).to.contain('| plain | 97.7 | 97.7 | 97.7 | 20, 20, 20 | 11, 11, 11 | steady |');
    expect(text).to.contain('| 89 | 97.7 |');
  });

  it('takes samples of a process', () => {
    const { rss, descriptors, threads } = takeSample(process.pid, 0);
    expect(Math.min(rss, descriptors, threads)).to.be.greaterThan(0);
  });
});
