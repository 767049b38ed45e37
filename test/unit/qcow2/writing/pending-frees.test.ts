import { expect } from 'chai';
import { allocatePendingFrees, PendingFrees } from '../../../../src/qcow2/writing/pending-frees.js';

describe('pending frees', () => {
  const fresh = () => new PendingFrees(allocatePendingFrees());

  const clustersOf = (frees: PendingFrees) => {
    const clusters: number[] = [];
    frees.takeClusters((cluster) => clusters.push(cluster));
    return clusters.sort((a, b) => a - b);
  };

  it('are handed over once, cluster by cluster', () => {
    const frees = fresh();
    frees.addClusters(5, 2);
    frees.addClusters(7, 1);
    frees.addClusters(20, 1);
    frees.addPunch(4096, 4096);
    expect(frees.isEmpty).to.equal(false);
    expect(clustersOf(frees)).to.deep.equal([5, 6, 7, 20]);
    expect(frees.takePunches()).to.deep.equal([[4096, 4096]]);
    expect(frees.isEmpty).to.equal(true);
    expect(clustersOf(frees)).to.deep.equal([]);
    expect(frees.takePunches()).to.deep.equal([]);
  });

  it('count a cluster as often as it lost a reference', () => {
    const frees = fresh();
    frees.addClusters(5, 2);
    frees.addClusters(6, 2);
    expect(clustersOf(frees)).to.deep.equal([5, 6, 6, 7]);
  });

  it('keep what was not lowered when lowering fails in the middle of a run, and nothing else', () => {
    const frees = fresh();
    frees.addClusters(5, 4);
    frees.addClusters(20, 2);
    const lowered: number[] = [];
    const failing = (cluster: number) => {
      if (lowered.length === 3) throw new Error('no');
      lowered.push(cluster);
    };
    expect(() => frees.takeClusters(failing)).to.throw('no');
    expect([...lowered, ...clustersOf(frees)].sort((a, b) => a - b)).to.deep.equal([5, 6, 7, 8, 20, 21]);
  });

  it('spare bytes that are in use again, and only those', () => {
    const frees = fresh();
    frees.addPunch(0, 1000);
    frees.addPunch(2000, 1000);
    frees.addPunch(4000, 1000);
    frees.cancelPunches(500, 2000);
    expect(frees.takePunches()).to.deep.equal([
      [0, 500],
      [2500, 500],
      [4000, 1000],
    ]);
    frees.addPunch(0, 1000);
    frees.cancelPunches(200, 300);
    expect(frees.takePunches()).to.deep.equal([
      [0, 200],
      [500, 500],
    ]);
    frees.addPunch(1000, 1000);
    frees.cancelPunches(0, 1000);
    frees.cancelPunches(2000, 10);
    expect(frees.takePunches()).to.deep.equal([[1000, 1000]]);
  });

  it('ask for a commit long before they are full, and are other threads’ too', () => {
    const memory = allocatePendingFrees();
    const [frees, other] = [new PendingFrees(memory), new PendingFrees(memory)];
    for (let i = 0; i < 8191; i++) frees.addClusters(2 * i, 1);
    expect(other.isFull).to.equal(false);
    frees.addClusters(2 * 8191, 1);
    expect(other.isFull).to.equal(true);
    for (let i = 8192; i < 16_384; i++) frees.addClusters(2 * i, 1);
    expect(clustersOf(other).length).to.equal(16_384);
  });
});
