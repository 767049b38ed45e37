import { expect } from 'chai';
import {
  allocateMetadataMap,
  enlargedMetadataMap,
  MetadataMap,
} from '../../../../src/qcow2/writing/metadata-map.js';
import { Random } from '../../../support/random.js';

const CLUSTER = 4096;

describe('the map of metadata', () => {
  it('always knows the header', () => {
    const map = new MetadataMap(allocateMetadataMap(1), CLUSTER);
    expect(map.find(0, 1)).to.equal(0);
    expect(map.find(CLUSTER - 1, 2)).to.equal(0);
    expect(map.find(CLUSTER, 10 * CLUSTER)).to.equal(undefined);
    expect(map.add(0, CLUSTER)).to.equal(0);
  });

  it('finds every cluster that a range touches, and says where', () => {
    const map = new MetadataMap(allocateMetadataMap(1), CLUSTER);
    expect(map.add(10 * CLUSTER, CLUSTER + 1)).to.equal(undefined);
    expect(map.find(9 * CLUSTER, CLUSTER)).to.equal(undefined);
    expect(map.find(9 * CLUSTER, CLUSTER + 1)).to.equal(10 * CLUSTER);
    expect(map.find(11 * CLUSTER + 5, 1)).to.equal(11 * CLUSTER);
    expect(map.find(12 * CLUSTER, 99 * CLUSTER)).to.equal(undefined);
    expect(map.add(8 * CLUSTER, 4 * CLUSTER)).to.equal(10 * CLUSTER);
  });

  it('agrees with a set after many changes, also in another thread’s eyes', () => {
    const shared = allocateMetadataMap(3000);
    const [map, other] = [new MetadataMap(shared, CLUSTER), new MetadataMap(shared, CLUSTER)];
    const known = new Set<number>();
    const random = new Random(3);
    const cluster = (): number => 1 + random.below(2000) + (random.below(2) ? 2 ** 33 : 0);
    for (let round = 0; round < 20_000; round++) {
      const subject = cluster();
      switch (random.below(3)) {
        case 0:
          if (known.size < 3000) {
            const present = map.add(subject * CLUSTER, 1);
            expect(present).to.equal(known.has(subject) ? subject * CLUSTER : undefined);
            known.add(subject);
          }
          break;
        case 1:
          if (round % 10 === 0) {
            map.remove(subject * CLUSTER, CLUSTER);
            known.delete(subject);
          }
          break;
        default:
          expect(other.find(subject * CLUSTER, CLUSTER) !== undefined).to.equal(known.has(subject));
      }
    }
  });

  it('that is full goes on protecting what it has', () => {
    const map = new MetadataMap(allocateMetadataMap(1), CLUSTER);
    for (let cluster = 1; cluster < 5000; cluster++) map.add(cluster * CLUSTER, 1);
    expect(map.find(CLUSTER, 1)).to.equal(CLUSTER);
    expect(map.find(9999 * CLUSTER, 1)).to.equal(undefined);
  });

  it('keeps what stays, whoever else names it or gives it up, also when it is enlarged', () => {
    let shared = allocateMetadataMap(1);
    let map = new MetadataMap(shared, CLUSTER);
    expect(map.add(5 * CLUSTER, CLUSTER)).to.equal(undefined);
    expect(map.add(6 * CLUSTER, CLUSTER, true)).to.equal(undefined);
    expect(map.add(5 * CLUSTER, CLUSTER, true), 'a clash').to.equal(5 * CLUSTER);
    expect(map.add(6 * CLUSTER, CLUSTER, true), 'no clash').to.equal(undefined);
    expect(map.add(6 * CLUSTER, CLUSTER), 'no clash').to.equal(undefined);
    for (let expected = 1; expected < 100_000; expected *= 3) {
      map.remove(4 * CLUSTER, 4 * CLUSTER);
      expect(map.find(5 * CLUSTER, CLUSTER)).to.equal(undefined);
      expect(map.find(6 * CLUSTER, CLUSTER)).to.equal(6 * CLUSTER);
      shared = enlargedMetadataMap(shared, expected);
      map = new MetadataMap(shared, CLUSTER);
      expect(map.find(6 * CLUSTER, CLUSTER)).to.equal(6 * CLUSTER);
      map.add(5 * CLUSTER, CLUSTER);
    }
  });
});
