/** Reading needs no write, however much of the cache of L2 slices is dirty. */
import fs from 'node:fs';
import { expect } from 'chai';
import { Qcow2fsError } from '../../src/errors.js';
import { readImage } from '../../src/qcow2/image.js';
import { qcow2Parameters } from '../../src/qcow2/parameters.js';
import { Qcow2Disk } from '../../src/qcow2/qcow2-disk.js';
import { MemoryFile, WitnessedStorage } from '../support/crash/files.js';
import { checkImage, createImage, type Image, imagePath, KiB, MiB } from '../support/images.js';
import { useScratch } from '../support/scratch.js';

const CLUSTER = 512;
/** Guest bytes that one slice maps. */
const SLICE = 32 * KiB;
const SLICES = 12;
/** Slots: all are in one set. */
const SLOTS = 4;

/** Between a read and its return, something else may happen once. */
class OvertakenStorage extends WitnessedStorage {
  overtake: (() => void) | undefined;

  override read(target: Buffer, at: number, length: number, position: number): number {
    const read = super.read(target, at, length, position);
    const { overtake } = this;
    this.overtake = undefined;
    overtake?.();
    return read;
  }
}

/** A disk whose cache has few slots, and a cluster in each slice, full of a byte of its own. */
function crowded(image: Image) {
  const file = new MemoryFile(fs.readFileSync(imagePath(image)));
  const host: { fails: 'write' | 'sync' | undefined } = { fails: undefined };
  const storage = new OvertakenStorage(imagePath(image), file, (call) => {
    if (call.do === host.fails) throw new Qcow2fsError('host-io', `${call.do} failed`);
  });
  const read = readImage(storage);
  const share = { l2CacheBytes: SLOTS * CLUSTER, clusters: new Map(), depth: 0 };
  const options = { share, access: 'writing' } as const;
  const parameters = qcow2Parameters(read, read.header, options);
  const disk = new Qcow2Disk(parameters, storage, undefined, undefined);
  const write = (byte: number, offset: number) => disk.write(Buffer.alloc(CLUSTER, byte), 0, CLUSTER, offset);
  const change = (slice: number) => write(0xee, slice * SLICE + CLUSTER);
  for (let slice = 0; slice < SLICES; slice++) write(slice + 1, slice * SLICE);
  disk.flush();
  /** @param last slices before it were changed */
  const expectAll = (last: number) => {
    for (let slice = 0; slice < SLICES; slice++) {
      const bytes = Buffer.alloc(CLUSTER);
      disk.read(bytes, 0, CLUSTER, slice * SLICE);
      expect(
        bytes.every((byte) => byte === slice + 1),
        `slice ${slice}`,
      ).to.equal(true);
    }
    const bytes = Buffer.alloc(CLUSTER);
    for (let slice = 0; slice < last; slice++) {
      disk.read(bytes, 0, CLUSTER, slice * SLICE + CLUSTER);
      expect(bytes[0], `change in slice ${slice}`).to.equal(0xee);
    }
  };
  return { disk, parameters, storage, file, host, change, expectAll };
}

describe('a cache full of changes', () => {
  const scratch = useScratch();
  const build = () => createImage(scratch.subdir(), { size: MiB, clusterSize: CLUSTER });

  it('lets everything be read while the host takes no writes, and be changed afterwards', () => {
    const image = build();
    const { disk, file, host, change, expectAll } = crowded(image);
    for (const slice of [0, 1, 2, 3]) change(slice);
    host.fails = 'write';
    expect(() => change(4)).to.throw('write failed');
    expectAll(4);
    host.fails = undefined;
    for (let slice = 4; slice < SLICES; slice++) change(slice);
    expectAll(SLICES);
    disk.close();
    fs.writeFileSync(imagePath(image), file.content);
    checkImage(image);
  });

  it('lets everything be read after a sync that failed', () => {
    const { disk, host, change, expectAll } = crowded(build());
    for (const slice of [0, 1, 2, 3]) change(slice);
    host.fails = 'sync';
    expect(() => disk.flush()).to.throw('sync failed');
    host.fails = undefined;
    expect(() => change(4)).to.throw('a sync of the image failed');
    expectAll(4);
  });

  it('takes no slice for new that changed, and had to go, while a reader read it', () => {
    const { disk, parameters, storage, expectAll } = crowded(build());
    const other = new Qcow2Disk(parameters, storage, undefined, undefined);
    expectAll(0);
    storage.overtake = () => {
      other.write(Buffer.alloc(CLUSTER, 0xee), 0, CLUSTER, CLUSTER);
      other.flush();
      for (let slice = 1; slice < SLICES; slice++) other.read(Buffer.alloc(1), 0, 1, slice * SLICE);
    };
    const bytes = Buffer.alloc(CLUSTER);
    disk.read(bytes, 0, CLUSTER, 0);
    expect(storage.overtake).to.equal(undefined);
    disk.read(bytes, 0, CLUSTER, CLUSTER);
    expect(bytes.every((byte) => byte === 0xee)).to.equal(true);
  });
});
