import zlib from 'node:zlib';
import { expect } from 'chai';
import { allocateCompression, CompressedClusters, inflateByNode } from '../../../src/qcow2/compressed.js';
import { host } from '../../../src/qcow2/format/units.js';
import { Run, RunKind } from '../../../src/qcow2/mapping.js';
import { Random } from '../../support/random.js';
import { expectError } from '../support/errors.js';
import { MemoryStorage } from '../support/memory-storage.js';

const CLUSTER = 4096;
const AT = 77;

function run(compressedBytes: number, hostOffset = AT): Run {
  const made = new Run();
  made.kind = RunKind.compressed;
  made.hostOffset = host(hostOffset);
  made.compressedBytes = compressedBytes;
  made.clusterStart = 0x50000;
  return made;
}

function clustersOf(storage: MemoryStorage): CompressedClusters {
  return new CompressedClusters(
    storage,
    allocateCompression({ compressionType: 'zlib', clusterSize: CLUSTER }),
  );
}

/** All of the cluster, or a part of it, as `read` gives it to a larger buffer. */
function contentOf(clusters: CompressedClusters, cluster: Run, start = 0, length = CLUSTER): Buffer {
  const target = Buffer.alloc(length + 2, '.');
  cluster.length = length;
  clusters.read(cluster, target, 1, cluster.clusterStart + start);
  expect(`${target[0]} ${target.at(-1)}`).to.equal('46 46');
  return target.subarray(1, -1);
}

function read(stored: Buffer, compressedBytes = stored.length): Buffer {
  const storage = new MemoryStorage(Buffer.concat([Buffer.alloc(AT, 0xff), stored]));
  return contentOf(clustersOf(storage), run(compressedBytes));
}

describe('a compressed cluster', () => {
  const content = new Random(1).bytes(CLUSTER);
  const stream = zlib.deflateRawSync(content);

  it('is inflated, whatever follows the stream', () => {
    expect(read(stream).equals(content)).to.equal(true);
    expect(read(Buffer.concat([stream, Buffer.alloc(300, 0x5a)])).equals(content)).to.equal(true);
  });

  it('is inflated at the end of a file that is shorter than its sectors', () => {
    expect(read(stream, stream.length + 500).equals(content)).to.equal(true);
  });

  it('is damaged when its stream is cut short, short, or no stream', () => {
    const words = ['image.qcow2', '0x50000', '0x4d', 'does not inflate'];
    expectError('corrupt', words, () => read(stream.subarray(0, -100)));
    expectError('corrupt', words, () => read(zlib.deflateRawSync(content.subarray(1))));
    expectError('corrupt', words, () => read(Buffer.alloc(100, 0xff)));
    expectError('corrupt', words, () => read(Buffer.alloc(0), 512));
  });

  it('is the beginning of a stream that gives more, as QEMU takes it', () => {
    const long = zlib.deflateRawSync(Buffer.concat([content, content]));
    expect(read(long).equals(content)).to.equal(true);
  });

  it('is the beginning even of a bomb, of which no more is inflated', () => {
    const bomb = zlib.deflateRawSync(Buffer.concat([content, Buffer.alloc(100 * CLUSTER)]));
    expect(read(bomb).equals(content)).to.equal(true);
  });

  it('is inflated by node:zlib where its own zlib cannot be called, except from a bomb', () => {
    const inflated = (source: Buffer): Buffer | undefined => {
      const target = Buffer.alloc(CLUSTER + 2, '.');
      const written = inflateByNode(source, target, 1, CLUSTER);
      expect(`${target[0]} ${target.at(-1)}`).to.equal('46 46');
      return written === CLUSTER ? target.subarray(1, -1) : undefined;
    };
    const long = zlib.deflateRawSync(Buffer.concat([content, content]));
    const bomb = zlib.deflateRawSync(Buffer.concat([content, Buffer.alloc(100 * CLUSTER)]));
    for (const source of [stream, long, Buffer.concat([stream, Buffer.alloc(300)])])
      expect(inflated(source)?.equals(content)).to.equal(true);
    for (const source of [bomb, stream.subarray(0, -100), Buffer.alloc(100, 0xff)])
      expect(inflated(source)).to.equal(undefined);
  });

  it('is inflated once for many small reads, and a damaged one is not remembered', () => {
    const storage = new MemoryStorage(Buffer.concat([Buffer.alloc(AT, 0xff), stream]));
    const clusters = clustersOf(storage);
    for (let start = 0; start < CLUSTER; start += 256) {
      const part = contentOf(clusters, run(stream.length), start, 256);
      expect(part.equals(content.subarray(start, start + 256))).to.equal(true);
    }
    expect(storage.reads).to.equal(1);
    for (let round = 0; round < 2; round++)
      expectError('corrupt', [], () => contentOf(clusters, run(40, 0), 0, 9));
    expectError('corrupt', [], () => contentOf(clusters, run(40, 0)));
  });

  it('is not taken for another one that starts at the same place', () => {
    const clusters = clustersOf(new MemoryStorage(stream));
    contentOf(clusters, run(stream.length, 0), 0, 9);
    expectError('corrupt', [], () => contentOf(clusters, run(100, 0), 0, 9));
  });

  it('is found by whoever reads it when it was fetched before', () => {
    const storage = new MemoryStorage(Buffer.concat([Buffer.alloc(AT, 0xff), stream]));
    const clusters = clustersOf(storage);
    clusters.prefetch(run(stream.length));
    clusters.prefetch(run(stream.length));
    expect(contentOf(clusters, run(stream.length)).equals(content)).to.equal(true);
    expect(contentOf(clusters, run(stream.length), 100, 1).equals(content.subarray(100, 101))).to.equal(true);
    expect(storage.reads).to.equal(1);
    expectError('corrupt', [], () => clusters.prefetch(run(40, 0)));
    expectError('corrupt', [], () => contentOf(clusters, run(40, 0)));
  });

  it('is right whatever was read before it', () => {
    const random = new Random(3);
    const contents = Array.from({ length: 300 }, () => random.bytes(CLUSTER));
    const streams = contents.map((bytes) => zlib.deflateRawSync(bytes));
    const clusters = clustersOf(new MemoryStorage(Buffer.concat(streams)));
    const offsets = streams.map((_, index) =>
      streams.slice(0, index).reduce((sum, { length }) => sum + length, 0),
    );
    for (let round = 0; round < 3000; round++) {
      const index = random.below(300);
      const cluster = run(streams[index]!.length, offsets[index]);
      if (random.below(4) === 0) clusters.prefetch(cluster);
      const start = random.below(2) * random.below(CLUSTER);
      const found = contentOf(clusters, cluster, start, 1 + random.below(CLUSTER - start));
      expect(found.equals(contents[index]!.subarray(start, start + found.length))).to.equal(true);
    }
  });
});
