/** What was acknowledged survives the death of the daemon. */

import fs from 'node:fs';
import { expect } from 'chai';
import { useCleanUp } from '../support/clean-up.js';
import { withFile } from '../support/files.js';
import { hurried } from '../support/grace-periods.js';
import {
  checkImage,
  checkSnapshot,
  convertToRaw,
  createImage,
  expectNoCorruption,
  type Image,
  type ImageSpec,
  imagePath,
  MiB,
  removeLeaks,
  type TakenSnapshot,
  takeSnapshot,
  writeSecret,
} from '../support/images.js';
import { lane } from '../support/lane.js';
import {
  daemonOf,
  isRunning,
  logLines,
  mountsAt,
  mountWritableOn,
  umountOfKilled,
} from '../support/mounts.js';
import { patternBytes, SECTOR_SIZE } from '../support/pattern.js';
import { expectQcow2fs, keyOptions } from '../support/qcow2fs.js';
import { tool } from '../support/run.js';
import { useScratch } from '../support/scratch.js';
import { waitUntil } from '../support/wait.js';
import { LOADED_BYTES, writeUntilEnded } from './stamping-load.js';
import { ExpectedDisk, randomFrom } from './stamps.js';

const { O_DIRECT, O_DSYNC, O_RDWR, O_SYNC, O_WRONLY } = fs.constants;
const LUKS = ['encrypt.format=luks', 'encrypt.iter-time=10'];

/** More than one request, at no round place. */
const OFFSET = 3 * MiB + 5 * SECTOR_SIZE;
const DATA = patternBytes(7, 0, MiB + 300 * SECTOR_SIZE);

function put(fd: number): void {
  for (let done = 0; done < DATA.length; )
    done += fs.writeSync(fd, DATA, done, DATA.length - done, OFFSET + done);
}

function writeBehind(flags: number, finish: (fd: number, disk: string) => void): (disk: string) => void {
  return (disk) =>
    withFile(disk, flags, (fd) => {
      put(fd);
      finish(fd, disk);
    });
}

/** Every way to ask for stable storage. */
const WAYS: readonly { readonly name: string; readonly write: (disk: string) => void }[] = [
  { name: 'fsync', write: writeBehind(O_RDWR, (fd) => fs.fsyncSync(fd)) },
  { name: 'fdatasync', write: writeBehind(O_RDWR, (fd) => fs.fdatasyncSync(fd)) },
  {
    name: 'fdatasync after writes without a page cache',
    write: writeBehind(O_WRONLY, (fd) => fs.fdatasyncSync(fd)),
  },
  {
    name: 'fsync through another descriptor',
    write: writeBehind(O_RDWR, (_, disk) => withFile(disk, 'r', fs.fsyncSync)),
  },
  { name: 'close', write: writeBehind(O_RDWR, () => {}) },
  { name: 'close after writes without a page cache', write: writeBehind(O_WRONLY, () => {}) },
  { name: 'O_SYNC', write: writeBehind(O_RDWR | O_SYNC, () => {}) },
  { name: 'O_DSYNC', write: writeBehind(O_RDWR | O_DSYNC, () => {}) },
  { name: 'sync FILE', write: writeBehind(O_RDWR, (_, disk) => void tool('sync', disk)) },
];

/** `make test` runs only these over libfuse: one for each kind of request. */
const LIBFUSE_WAYS: readonly string[] = ['fsync', 'fdatasync', 'close', 'O_SYNC', 'O_DIRECT and O_DSYNC'];

/** As the others, but the daemon dies while the descriptor is open: nothing but the writes themselves was asked for. */
const OPEN_WAYS: readonly { readonly name: string; readonly flags: number }[] = [
  { name: 'O_SYNC', flags: O_RDWR | O_SYNC },
  { name: 'O_DSYNC', flags: O_RDWR | O_DSYNC },
  { name: 'O_DIRECT and O_DSYNC', flags: O_RDWR | O_DIRECT | O_DSYNC },
  { name: 'O_DSYNC for writing alone', flags: O_WRONLY | O_DSYNC },
];

async function kill(pid: number): Promise<void> {
  process.kill(pid, 'SIGKILL');
  await waitUntil(`daemon ${pid} has ended`, () => !isRunning(pid));
}

// SECURITY.md: "After a crash of the program or the machine the image has no corruption, and what fsync(2)
// acknowledged is there"
describe('a daemon killed with -9', () => {
  const scratch = useScratch();
  const defer = useCleanUp();

  function expectWritten(image: Image): void {
    expectNoCorruption(image);
    const raw = fs.readFileSync(convertToRaw(image));
    const written = raw.subarray(OFFSET, OFFSET + DATA.length);
    expect(written.equals(DATA), 'what was written').to.equal(true);
    raw.fill(0, OFFSET, OFFSET + DATA.length);
    expect(
      raw.every((byte) => byte === 0),
      'the rest',
    ).to.equal(true);
  }

  /** The image can be used again at once, and made clean. */
  function expectUsable(image: Image, mountpoint: string): void {
    umountOfKilled(mountpoint);
    const again = mountWritableOn(defer, imagePath(image), mountpoint);
    withFile(again.disk, 'r+', (fd) => {
      const bytes = Buffer.alloc(DATA.length);
      fs.readSync(fd, bytes, 0, bytes.length, OFFSET);
      expect(bytes.equals(DATA)).to.equal(true);
      fs.writeSync(fd, DATA, 0, MiB, 9 * MiB);
      fs.writeSync(fd, Buffer.alloc(MiB), 0, MiB, 9 * MiB);
    });
    expectQcow2fs(['umount', mountpoint]);
    removeLeaks(image);
    expectWritten(image);
  }

  for (const transport of ['kernel', 'libfuse'] as const) {
    for (const { name, write } of WAYS) {
      // libfuse 2 has no request for it, and says so.
      // The other ways lead to the same requests, as the kernel transport shows.
      if (transport === 'libfuse' && !lane(LIBFUSE_WAYS, [name]).includes(name)) continue;
      it(`leaves in the image what was written before ${name}, with the ${transport} transport`, async () => {
        const image = createImage(scratch.subdir(), { size: 16 * MiB });
        const mountpoint = scratch.subdir();
        const { disk } = mountWritableOn(defer, imagePath(image), mountpoint, ['--transport', transport]);
        write(disk);
        await kill(daemonOf(mountpoint));
        expectWritten(image);
        if (lane(['fsync', 'close'], [name]).includes(name)) expectUsable(image, mountpoint);
        else umountOfKilled(mountpoint);
      });
    }
  }

  for (const transport of ['kernel', 'libfuse']) {
    for (const { name, flags } of OPEN_WAYS) {
      if (transport === 'libfuse' && !lane(LIBFUSE_WAYS, [name]).includes(name)) continue;
      it(`leaves in the image what was written with ${name} and is still open, with the ${transport} transport`, async () => {
        const image = createImage(scratch.subdir(), { size: 16 * MiB });
        const mountpoint = scratch.subdir();
        const { disk } = mountWritableOn(defer, imagePath(image), mountpoint, ['--transport', transport]);
        const fd = fs.openSync(disk, flags);
        defer(() => closeDead(fd));
        put(fd);
        await kill(daemonOf(mountpoint));
        expectWritten(image);
      });
    }
  }

  /** Of a mount whose daemon is gone: the descriptor goes, and close(2) complains. */
  function closeDead(fd: number): void {
    try {
      fs.closeSync(fd);
    } catch (error) {
      if (!/ENOTCONN|ECONNABORTED/.test(String(error))) throw error;
    }
  }

  describe('again and again, under load', () => {
    /** Hundreds by hand: KILL_CYCLES=400. */
    const CYCLES = Number(process.env['KILL_CYCLES'] ?? lane(16, 40));
    const SEED = Number(process.env['KILL_SEED'] ?? 1);
    const MODES = ['buffered', 'direct', 'synchronous'];
    /** One after the other. */
    const THREADS = [8, 1, 4, 2];
    /** Lines that the writers print before the daemon dies, at most. */
    const MAX_LINES = 120;

    const KINDS: readonly {
      readonly name: string;
      readonly snapshot?: true;
      spec(dir: string): ImageSpec;
    }[] = [
      { name: 'a plain image', spec: () => ({}) },
      {
        name: 'a LUKS image',
        spec: (dir) => ({ secret: writeSecret(dir, 'open sesame'), encryption: LUKS }),
      },
      { name: 'an image with a snapshot', snapshot: true, spec: () => ({}) },
      { name: 'an image with 512-byte clusters', spec: () => ({ clusterSize: 512 }) },
    ];

    for (const [index, { name, snapshot, spec }] of KINDS.entries()) {
      it(`never lose what was acknowledged: ${name}`, async function () {
        this.timeout(300_000 + CYCLES * 30_000);
        const random = randomFrom(SEED * 1000 + index);
        const image = createImage(scratch.subdir(), { size: LOADED_BYTES, ...spec(scratch.dir) });
        const expected = new ExpectedDisk(LOADED_BYTES / SECTOR_SIZE);
        let taken: TakenSnapshot | undefined;
        let next = 1;
        let acknowledged = 0;
        for (let cycle = 0; cycle < CYCLES / KINDS.length; cycle++) {
          const where = `seed ${SEED}, cycle ${cycle}`;
          // The first daemon fills the disk for the snapshot; the second one finds everything shared.
          if (snapshot && cycle === 1) {
            removeLeaks(image);
            taken = takeSnapshot(image, 'before', '1');
          }
          const mode = MODES[random(MODES.length)]!;
          const mountpoint = scratch.subdir();
          const threads = THREADS[cycle % THREADS.length]!;
          const options = ['--threads', String(threads), ...keyOptions(image)];
          const { disk, log } = mountWritableOn(defer, imagePath(image), mountpoint, options);
          const daemon = daemonOf(mountpoint);
          const until = 1 + random(MAX_LINES);
          const result = await writeUntilEnded(defer, disk, daemon, mode, expected, {
            until,
            end: (pid) => process.kill(pid, 'SIGKILL'),
            seed: random(1e9),
            next,
          });
          next = result.next;
          acknowledged += result.acknowledged;
          expect(
            logLines(log).filter((line) => !/mounted on/.test(line)),
            where,
          ).to.deep.equal([]);
          umountOfKilled(mountpoint);
          try {
            expectNoCorruption(image);
            expected.verify(convertToRaw(image));
          } catch (error) {
            throw new Error(`${where}, ${mode}: ${(error as Error).message}`);
          }
        }
        removeLeaks(image);
        expected.verify(convertToRaw(image));
        if (taken !== undefined) checkSnapshot(image, taken);
        if (process.env['KILL_CYCLES'] !== undefined) {
          process.stdout.write(`      ${name}: ${next - 1} operations, ${acknowledged} acknowledged\n`);
        }
        expect(acknowledged).to.be.greaterThan(0);
      });
    }
  });
});

describe('SIGTERM to a daemon', () => {
  const scratch = useScratch();
  const defer = useCleanUp();

  async function expectAllThere(
    mode: string,
    env: NodeJS.ProcessEnv,
    end: (daemon: number, mountpoint: string) => void,
  ): Promise<void> {
    const image = createImage(scratch.subdir(), { size: LOADED_BYTES });
    const expected = new ExpectedDisk(LOADED_BYTES / SECTOR_SIZE);
    const mountpoint = scratch.subdir();
    const { disk } = mountWritableOn(defer, imagePath(image), mountpoint, ['--threads', '4'], { env });
    const load = { until: 300, seed: 1, next: 1, end: (daemon: number) => end(daemon, mountpoint) };
    await writeUntilEnded(defer, disk, daemonOf(mountpoint), mode, expected, load);
    checkImage(image);
    expected.verify(convertToRaw(image));
  }

  it('leaves a clean image with all that was acknowledged, although writers do not stop', () =>
    expectAllThere('buffered', hurried, (daemon) => process.kill(daemon, 'SIGTERM')));

  it('does so when it comes a second time and nobody waits for the writers', async () => {
    let second: Promise<void> | undefined;
    await expectAllThere('direct', process.env, (daemon, mountpoint) => {
      process.kill(daemon, 'SIGTERM');
      const isDetached = (): boolean => mountsAt(mountpoint).length === 0;
      second = waitUntil('the disk is gone', isDetached).then(() => void process.kill(daemon, 'SIGTERM'));
    });
    await second;
  });
});
