/** `qcow2fs hash` of damaged images: everything that can be read counts, and the map tells exactly what cannot. */

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import {
  hostOffset,
  patchBytes,
  patchField,
  patchL2,
  readBytes,
  readField,
  readL2,
  truncateImage,
} from '../support/damage.js';
import { DAMAGES, DISK_SIZE, FULL } from '../support/damaged-images.js';
import {
  convertToRaw,
  createImage,
  type Image,
  imagePath,
  KiB,
  MiB,
  openArgs,
  type Step,
  takeSnapshot,
  writeSecret,
  writeSteps,
} from '../support/images.js';
import { expectInProcess, runInProcess } from '../support/in-process.js';
import { withNodeOptions } from '../support/node-options.js';
import { qcow2fs } from '../support/qcow2fs.js';
import { useScratch } from '../support/scratch.js';

const PRELOAD = new URL('./failing-host.js', import.meta.url).href;
/** Of a thread in failing-host.ts. */
const EXIT_CODE = 3;

const GRAIN = 4 * KiB;
const CLUSTER = 64 * KiB;
const EIO = /Input\/output error/;

/** What a mapfile says, without comments: the status, then offset, length and mark of each range. */
function readMap(file: string): { status: string[]; ranges: [number, number, string][] } {
  const [status, ...ranges] = fs
    .readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => line.split(/ +/));
  return { status: status!, ranges: ranges.map(([at, length, mark]) => [Number(at), Number(length), mark!]) };
}

/** Whether the reference can read there: in a process of its own, for it gives up an image that it finds damaged. */
function referenceReads(image: Image, offset: number): boolean {
  const args = ['-r', ...openArgs(image), '-c', `read ${offset} ${GRAIN}`];
  const { stdout, stderr } = spawnSync('qemu-io', args, { cwd: image.dir, encoding: 'utf8' });
  const said = stdout + stderr;
  if (said.includes(`read ${GRAIN}/${GRAIN} bytes`)) return true;
  expect(said).to.match(EIO);
  return false;
}

describe('qcow2fs hash of a damaged image', () => {
  const scratch = useScratch();

  function makeImage(spec = {}, guest: readonly Step[] = FULL): { image: Image; expected: Buffer } {
    const image = createImage(scratch.subdir(), { size: DISK_SIZE, ...spec });
    writeSteps(image, 1, guest);
    return { image, expected: fs.readFileSync(convertToRaw(image)) };
  }

  for (const { title, spec, guest, apply, lost, log: words, isNoneToReference } of DAMAGES) {
    it(`with ${title} takes exactly that range for zeros`, async () => {
      const { image, expected } = makeImage(spec, guest);
      apply(imagePath(image));
      const [start, end] = lost;
      const near = [start - GRAIN, start, end - GRAIN, end].filter((at) => at >= 0 && at < DISK_SIZE);
      const failing = isNoneToReference ? [] : [start, end - GRAIN];
      expect(near.filter((at) => !referenceReads(image, at))).to.deep.equal(failing);

      const map = path.join(image.dir, 'map');
      const args = ['hash', '--error-map', map, '--threads', '3', imagePath(image)];
      const { status, stdout, stderr } = await runInProcess(args);
      expected.fill(0, start, end);
      const digest = createHash('sha256').update(expected).digest('hex');
      expect([status, stdout]).to.deep.equal([4, `${digest}  disk.raw\n`]);
      const [line, summary, nothing] = stderr.split('\n');
      expect(line).to.contain(`bytes ${start}-${end - 1} `);
      for (const word of words) expect(line).to.contain(word);
      expect(summary).to.contain(`${end - start} bytes replaced by zeros`);
      expect(nothing).to.equal('');
      const marked = [
        [0, start, '+'],
        [start, end - start, '-'],
        [end, DISK_SIZE - end, '+'],
      ].filter(([, length]) => length !== 0);
      expect(readMap(map)).to.deep.equal({ status: ['0x00800000', '+', '1'], ranges: marked });
      expect(fs.readdirSync(image.dir).filter((name) => name.startsWith('map'))).to.deep.equal(['map']);
    });
  }

  it('that lost its snapshot table to the end of the file reads the disk, and tells', async () => {
    const { image, expected } = makeImage();
    takeSnapshot(image, 'one', '1');
    truncateImage(imagePath(image), Number(readField(imagePath(image), 'snapshotsOffset')));
    const digest = createHash('sha256').update(expected).digest('hex');
    expect(fs.readFileSync(convertToRaw(image)).equals(expected)).to.equal(true);
    const told =
      /^qcow2fs: [^\n]*image\.qcow2: snapshot table entry 0 [^\n]*; the disk itself is read[^\n]*\n$/;
    const { status, stdout, stderr } = await runInProcess(['hash', imagePath(image)]);
    expect([status, stdout]).to.deep.equal([0, `${digest}  disk.raw\n`]);
    expect(stderr).to.match(told);
    const mapped = await runInProcess(['map', '--output=json', imagePath(image)]);
    expect(mapped.status).to.equal(0);
    expect(mapped.stderr).to.match(told);
  });

  it('has a map of its own for each snapshot', async () => {
    const { image } = makeImage();
    takeSnapshot(image, 'one', '1');
    const map = path.join(image.dir, 'map');
    await expectInProcess(['hash', '--error-map', map, '--snapshot', 'one', imagePath(image)]);
    const before = fs.readFileSync(map, 'utf8');
    const { status, stderr } = await runInProcess(['hash', '--error-map', map, imagePath(image)]);
    expect([status, stderr.split('\n').length]).to.deep.equal([3, 2]);
    expect(stderr).to.contain('a map of another image or snapshot');
    expect(fs.readFileSync(map, 'utf8')).to.equal(before);
    await expectInProcess(['hash', '--error-map', map, '--snapshot', 'one', imagePath(image)]);
  });

  it('whose file was cut off within its data counts what is missing as zeros, and the map knows where', async () => {
    for (const secret of [undefined, writeSecret(scratch.subdir(), 'key')]) {
      const encryption = ['encrypt.format=luks', 'encrypt.iter-time=10'];
      const image = createImage(scratch.subdir(), { size: 4 * MiB, ...(secret && { secret, encryption }) });
      writeSteps(image, 1, [{ do: 'data', offset: 0, length: 4 * MiB }]);
      const file = imagePath(image);
      // In the middle of a cluster: what is there of it counts, as in the last cluster of any file.
      truncateImage(file, hostOffset(file, MiB) + 512);
      const map = path.join(image.dir, 'map');
      const key = secret === undefined ? [] : ['--secret-file', secret.file];
      const { status, stdout } = await runInProcess(['hash', '--json', '--error-map', map, ...key, file]);
      const expected = createHash('sha256')
        .update(fs.readFileSync(convertToRaw(image)))
        .digest('hex');
      const { digests, unreadable } = JSON.parse(stdout);
      expect([status, digests.sha256]).to.deep.equal([4, expected]);
      const [offset, length] = [MiB + CLUSTER, 3 * MiB - CLUSTER];
      expect(unreadable).to.deep.include({ bytes: length, count: 1 });
      expect(unreadable.ranges[0]).to.include({ offset, length });
      expect(readMap(map).ranges).to.deep.equal([
        [0, offset, '+'],
        [offset, length, '-'],
      ]);
    }
  });

  it('counts once what is missing, though it is read again because of damage beside it', async () => {
    const { image } = makeImage();
    const file = imagePath(image);
    const first = DISK_SIZE - MiB + 2 * CLUSTER;
    patchL2(file, DISK_SIZE - CLUSTER, readL2(file, DISK_SIZE - CLUSTER) | 0x200n);
    truncateImage(file, hostOffset(file, first));
    const { unreadable } = JSON.parse((await runInProcess(['hash', '--json', file])).stdout);
    expect(unreadable).to.deep.include({ bytes: DISK_SIZE - first, count: 1 });
  });

  it('of which the end of the file cuts off the L1 table is read as far as that goes', async () => {
    const image = createImage(scratch.subdir(), { size: 8 * MiB, clusterSize: 4 * KiB });
    writeSteps(image, 1, [{ do: 'data', offset: 0, length: 8 * MiB }]);
    const file = imagePath(image);
    const expected = fs.readFileSync(convertToRaw(image));
    const end = fs.statSync(file).size;
    // Two of its four entries, each of 2 MiB, and a half of the third.
    patchBytes(file, end, readBytes(file, Number(readField(file, 'l1TableOffset')), 2 * 8 + 4));
    patchField(file, 'l1TableOffset', end);
    expected.fill(0, 4 * MiB);
    const map = path.join(image.dir, 'map');
    const { status, stdout, stderr } = await runInProcess(['hash', '--error-map', map, file]);
    const digest = createHash('sha256').update(expected).digest('hex');
    expect([status, stdout]).to.deep.equal([4, `${digest}  disk.raw\n`]);
    expect(stderr).to.contain('lies outside the file from entry 2 on');
    const ranges = [
      [0, 4 * MiB, '+'],
      [4 * MiB, 4 * MiB, '-'],
    ];
    expect(readMap(map).ranges).to.deep.equal(ranges);
    const mountpoint = scratch.subdir();
    const { status: refused, stderr: why } = await runInProcess(['mount', '--foreground', file, mountpoint]);
    expect(refused).to.equal(4);
    expect(why).to.contain('the L1 table');
  });

  it('keeps a link to an error map, and replaces none that leads nowhere', async () => {
    const { image } = makeImage();
    const real = path.join(image.dir, 'real');
    const link = path.join(image.dir, 'link');
    fs.writeFileSync(real, '');
    fs.symlinkSync('real', link);
    await expectInProcess(['hash', '--error-map', link, imagePath(image)]);
    expect(fs.lstatSync(link).isSymbolicLink()).to.equal(true);
    expect(readMap(real).ranges).to.deep.equal([[0, DISK_SIZE, '+']]);
    fs.rmSync(real);
    const { status, stdout } = await runInProcess(['hash', '--error-map', link, imagePath(image)]);
    expect([status, stdout]).to.deep.equal([3, '']);
    expect(fs.lstatSync(link).isSymbolicLink()).to.equal(true);
  });

  /** Every second cluster. */
  function riddle(image: Image): number {
    let count = 0;
    for (let at = 0; at < DISK_SIZE; at += 2 * CLUSTER, count++) {
      patchL2(imagePath(image), at, readL2(imagePath(image), at) | 0x200n);
    }
    return count;
  }

  it('that is damaged in many places gets a bounded number of lines', async () => {
    const { image, expected } = makeImage();
    const count = riddle(image);
    for (let at = 0; at < DISK_SIZE; at += 2 * CLUSTER) expected.fill(0, at, at + CLUSTER);
    const map = path.join(image.dir, 'map');
    const { stdout, stderr } = await runInProcess(['hash', '--error-map', map, imagePath(image)]);
    expect(stdout.slice(0, 64)).to.equal(createHash('sha256').update(expected).digest('hex'));
    const lines = stderr.trimEnd().split('\n');
    expect(lines).to.have.length(22);
    expect(lines[20]).to.contain(`and ${count - 20} more ranges, ${(count - 20) * CLUSTER} bytes`);
    expect(lines[21]).to.contain(`${count * CLUSTER} bytes replaced by zeros`);
    expect(readMap(map).ranges).to.have.length(2 * count);
  });

  it('gives the same digests in pieces, tells programs what is lost, and verifies', async () => {
    const { image, expected } = makeImage();
    const count = riddle(image);
    for (let at = 0; at < DISK_SIZE; at += 2 * CLUSTER) expected.fill(0, at, at + CLUSTER);
    const pieces = qcow2fs(['hash', '--piecewise', '3M', imagePath(image)]);
    expect(pieces.status).to.equal(4);
    const digests = [0, 3, 6].map((mib) =>
      createHash('sha256')
        .update(expected.subarray(mib * MiB, (mib + 3) * MiB))
        .digest('hex'),
    );
    expect(pieces.stdout.split('\n').map((line) => line.slice(0, 64))).to.deep.equal([...digests, '']);
    const sums = path.join(image.dir, 'sums');
    fs.writeFileSync(sums, pieces.stdout);
    const verified = await runInProcess(['hash', '--verify', sums, imagePath(image)]);
    expect([verified.status, verified.stdout]).to.deep.equal([4, 'disk.raw: OK\n']);
    const json = JSON.parse((await runInProcess(['hash', '--json', imagePath(image)])).stdout);
    expect(json.unreadable).to.include({ bytes: count * CLUSTER, count });
    expect(json.unreadable.ranges[1]).to.include({ offset: 2 * CLUSTER, length: CLUSTER });
    expect(json.unreadable.ranges[1].problem).to.contain('L2 entry 2 ');
  });

  it('whose tables are all gone is done with soon, in one range', async () => {
    const image = createImage(scratch.subdir(), { size: 512 * MiB, clusterSize: 4 * KiB });
    writeSteps(image, 1, [{ do: 'data', offset: 0, length: MiB }]);
    const l1 = fs.openSync(imagePath(image), 'r+');
    const entries = Buffer.alloc(8 * 256);
    for (let i = 0; i < 256; i++) entries.writeBigUInt64BE((1n << 63n) | (1n << 40n), 8 * i);
    const at = Buffer.alloc(8);
    fs.readSync(l1, at, 0, 8, 40);
    fs.writeSync(l1, entries, 0, entries.length, Number(at.readBigUInt64BE()));
    fs.closeSync(l1);
    const map = path.join(image.dir, 'map');
    expect((await runInProcess(['hash', '--error-map', map, imagePath(image)])).status).to.equal(4);
    expect(readMap(map).ranges).to.deep.equal([[0, 512 * MiB, '-']]);
  });

  it('--error-map of a sound image says that everything was read, also in place of an older map', async () => {
    const { image } = makeImage();
    const map = path.join(image.dir, 'map');
    for (let round = 0; round < 2; round++) {
      await expectInProcess(['hash', '--error-map', map, imagePath(image)]);
      expect(readMap(map).ranges).to.deep.equal([[0, DISK_SIZE, '+']]);
    }
  });

  /** Where guest bytes lie that begin a cluster, in a file whose clusters lie in the order of the disk. */
  const hostRange = (image: Image, start: number, end: number): string => {
    const shift = hostOffset(imagePath(image), start - (start % CLUSTER)) + (start % CLUSTER) - start;
    return `${start + shift}-${end + shift}`;
  };
  const withHost = (env: NodeJS.ProcessEnv): NodeJS.ProcessEnv => ({
    ...withNodeOptions(`--import ${PRELOAD}`),
    ...env,
  });

  it('on a bad disk loses the sectors that fail and no other', () => {
    const { image, expected } = makeImage();
    const bad = [
      [3 * CLUSTER + 512, 3 * CLUSTER + 1024],
      [20 * CLUSTER + 8 * KiB, 23 * CLUSTER - 512],
      [DISK_SIZE - 512, DISK_SIZE],
    ] as const;
    const ranges = bad.map(([start, end]) => hostRange(image, start, end)).join(',');
    const map = path.join(image.dir, 'map');
    for (const threads of ['1', '3']) {
      const args = ['hash', '--error-map', map, '--threads', threads, imagePath(image)];
      const { status, stdout, stderr } = qcow2fs(args, { env: withHost({ FAILING_RANGES: ranges }) });
      for (const [start, end] of bad) expected.fill(0, start, end);
      const digest = createHash('sha256').update(expected).digest('hex');
      expect([status, stdout]).to.deep.equal([4, `${digest}  disk.raw\n`]);
      expect(stderr).to.match(/cannot be read: \S+: read failed at 0x[0-9a-f]+: EIO: i\/o error\n/);
      const lost = readMap(map).ranges.filter(([, , mark]) => mark !== '+');
      expect(lost.map(([start, length]) => [start, start + length])).to.deep.equal(bad);
    }
  });

  for (const threads of ['1', '2', '3']) {
    for (const pieces of [[], ['--piecewise', '64K']]) {
      it(`ends in one line when one of ${threads} threads dies${pieces.length > 0 ? ', in pieces too' : ''}`, () => {
        const { image } = makeImage();
        const at = hostRange(image, 100 * CLUSTER, 101 * CLUSTER).split('-')[0];
        const args = ['hash', ...pieces, '--threads', threads, imagePath(image)];
        const { status, stderr } = qcow2fs(args, { env: withHost({ DYING_AT: at }) });
        expect([status, stderr]).to.deep.equal([1, `qcow2fs: a thread died with exit code ${EXIT_CODE}\n`]);
      });
    }
  }

  for (const [what, place] of [
    ['the image itself', 'IMAGE'],
    ['a directory', '/'],
    ['a device', '/dev/null'],
    ['a place that is not there', '/nowhere/map'],
  ] as const) {
    it(`--error-map refuses ${what}, and leaves it as it is`, async () => {
      const { image } = makeImage();
      const before = fs.readFileSync(imagePath(image));
      const target = place === 'IMAGE' ? imagePath(image) : place;
      const { status, stdout, stderr } = await runInProcess([
        'hash',
        '--error-map',
        target,
        imagePath(image),
      ]);
      expect([status, stdout]).to.deep.equal([3, '']);
      expect(stderr).to.match(/^qcow2fs: [^\n]+\n$/);
      expect(fs.readFileSync(imagePath(image)).equals(before)).to.equal(true);
      expect(fs.statSync('/dev/null').isCharacterDevice()).to.equal(true);
    });
  }
});
