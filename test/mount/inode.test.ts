/** Size, times and holes of the disk, as programs see them through the kernel's caches. */

import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { expect } from 'chai';
import { FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, fallocate } from '../../src/host/libc.js';
import { useCleanUp } from '../support/clean-up.js';
import { refusalOf, withFile } from '../support/files.js';
import { checkImage, convertToRaw, createImage, imagePath, MiB } from '../support/images.js';
import { mountWritableOn } from '../support/mounts.js';
import { patternBytes } from '../support/pattern.js';
import { expectQcow2fs } from '../support/qcow2fs.js';
import { tool } from '../support/run.js';
import { useScratch } from '../support/scratch.js';
import { waitUntil } from '../support/wait.js';

const { O_APPEND, O_RDWR, O_SYNC, O_WRONLY } = fs.constants;
const SIZE = 8 * MiB;
const LONG_AGO = 1000;
/** The kernel asks for attributes while it holds the inode's lock. */
const SEEK_AND_CHOWN = `
import os, sys
os.lseek(os.open(sys.argv[1], os.O_RDONLY), 0, os.SEEK_END)
try: os.chown(sys.argv[1], 12345, -1)
except PermissionError: pass
`;

/** The kernel forgets inodes that nobody uses. */
function evict(): void {
  fs.writeFileSync('/proc/sys/vm/drop_caches', '2');
}

const PLACES = [
  { name: 'in a directory', args: [], file: false },
  { name: 'in a directory, and may grow', args: ['--resizable'], file: false },
  { name: 'on a file', args: [], file: true },
  { name: 'on a file, and may grow', args: ['--resizable'], file: true },
  { name: 'through libfuse', args: ['--transport', 'libfuse'], file: false },
] as const;

const put = (flags: number) => (disk: string) =>
  withFile(disk, flags, (fd) => void fs.writeSync(fd, Buffer.alloc(4096, 'x'), 0, 4096, 4096));

const WAYS: readonly { readonly name: string; readonly kernel?: true; change(disk: string): void }[] = [
  { name: 'a write of a descriptor that may read', change: put(O_RDWR) },
  { name: 'a write of a descriptor that may not read', change: put(O_WRONLY) },
  { name: 'a write with O_SYNC', change: put(O_RDWR | O_SYNC) },
  {
    name: 'dd with O_DIRECT',
    change: (disk) =>
      tool('dd', 'if=/dev/zero', `of=${disk}`, 'bs=4k', 'count=1', 'oflag=direct', 'conv=notrunc'),
  },
  {
    name: 'a shared mapping',
    change: (disk) =>
      void execFileSync('python3', [
        '-c',
        'import mmap, sys\nwith open(sys.argv[1], "r+b") as f: mmap.mmap(f.fileno(), 4096)[0:4] = b"abcd"',
        disk,
      ]),
  },
  {
    name: 'a hole',
    kernel: true,
    change: (disk) =>
      withFile(disk, O_RDWR, (fd) => fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 65536)),
  },
];

describe('the modification time of a disk', () => {
  const scratch = useScratch();
  const defer = useCleanUp();

  for (const { name: place, args, file } of PLACES) {
    it(`${place} is moved by every way to write, set by touch, and outlives the inode`, () => {
      const image = createImage(scratch.subdir(), { size: SIZE });
      const mountpoint = file ? scratch.path('disk') : scratch.subdir();
      if (file) fs.writeFileSync(mountpoint, '');
      const { disk } = mountWritableOn(defer, imagePath(image), mountpoint, args);
      const mtime = (): bigint => fs.statSync(disk, { bigint: true }).mtimeNs;
      for (const { name, kernel, change } of WAYS) {
        if (kernel && place === 'through libfuse') continue;
        fs.utimesSync(disk, LONG_AGO, LONG_AGO);
        change(disk);
        const moved = mtime();
        expect(moved > 1_700_000_000_000_000_000n, name).to.equal(true);
        evict();
        expect(mtime(), `${name}, seen anew`).to.equal(moved);
      }
      if (place !== 'through libfuse') {
        for (let again = 0; again < 2; again++) tool('touch', '-m', '--date=@0', disk);
        expect(mtime()).to.equal(0n);
      }
      tool('touch', '--date=@1234567890.123', disk);
      evict();
      expect(mtime()).to.equal(1_234_567_890_123_000_000n);
      expectQcow2fs(['umount', mountpoint]);
    });
  }

  for (const { name: place, args, file } of PLACES) {
    it(`${place} moves while a program that only writes keeps it open`, async () => {
      const image = createImage(scratch.subdir(), { size: SIZE });
      const mountpoint = file ? scratch.path('open') : scratch.subdir();
      if (file) fs.writeFileSync(mountpoint, '');
      const { disk } = mountWritableOn(defer, imagePath(image), mountpoint, args);
      fs.utimesSync(disk, LONG_AGO, LONG_AGO);
      const fd = fs.openSync(disk, O_WRONLY);
      fs.writeSync(fd, 'x', 0);
      await waitUntil('the time moves', () => fs.statSync(disk).mtimeMs > LONG_AGO * 1000);
      fs.closeSync(fd);
      expectQcow2fs(['umount', mountpoint]);
    });
  }

  it('is what a program sets after its writes past the page cache, and no one waits', () => {
    const image = createImage(scratch.subdir(), { size: SIZE });
    const { disk, mountpoint } = mountWritableOn(defer, imagePath(image), scratch.subdir());
    for (let round = 0; round < 5; round++) {
      withFile(disk, O_WRONLY, (fd) => {
        fs.writeSync(fd, 'x', round);
        execFileSync('python3', ['-c', SEEK_AND_CHOWN, disk]);
        fs.utimesSync(disk, LONG_AGO, LONG_AGO);
      });
      expect(fs.statSync(disk).mtimeMs).to.equal(LONG_AGO * 1000);
    }
    expectQcow2fs(['umount', mountpoint]);
  });

  it('does not go back when writes past the page cache and through it take turns', () => {
    const image = createImage(scratch.subdir(), { size: SIZE });
    const { disk, mountpoint } = mountWritableOn(defer, imagePath(image), scratch.subdir());
    let last = 0;
    for (let round = 0; round < 10; round++) {
      const direct = fs.openSync(disk, O_WRONLY);
      fs.writeSync(direct, 'x', round);
      const cached = fs.openSync(disk, O_RDWR);
      fs.writeSync(cached, 'y', 8192 + round);
      const order = round % 2 === 0 ? [direct, cached] : [cached, direct];
      for (const fd of order) {
        fs.closeSync(fd);
        const { mtimeMs } = fs.statSync(disk);
        expect(mtimeMs).to.be.at.least(last);
        last = mtimeMs;
      }
    }
    expectQcow2fs(['umount', mountpoint]);
  });
});

describe('a disk that grows while it is written', () => {
  const scratch = useScratch();
  const defer = useCleanUp();

  function use(act: (disk: string) => Buffer): void {
    const image = createImage(scratch.subdir(), { size: SIZE });
    const { disk, log, mountpoint } = mountWritableOn(defer, imagePath(image), scratch.subdir(), [
      '--resizable',
    ]);
    const appended = act(disk);
    const end = SIZE + appended.length;
    expect(fs.statSync(disk).size).to.equal(end);
    expect(fs.readFileSync(disk).subarray(SIZE).equals(appended), 'the mounted disk').to.equal(true);
    evict();
    expect(fs.statSync(disk).size, 'seen anew').to.equal(end);
    expectQcow2fs(['umount', mountpoint]);
    checkImage(image);
    const raw = fs.readFileSync(convertToRaw(image));
    expect(raw.length).to.equal(Math.ceil(end / 512) * 512);
    expect(raw.subarray(SIZE, end).equals(appended), 'as QEMU sees it').to.equal(true);
    expect(fs.readFileSync(log, 'utf8').split('\n')).to.have.length(3);
  }

  it('keeps whole pages that are synced one after the other', () => {
    const chunk = 3 * MiB;
    use((disk) =>
      withFile(disk, O_RDWR, (fd) => {
        const chunks = Array.from({ length: 40 }, (_, index) => Buffer.alloc(chunk, index + 1));
        for (const [index, bytes] of chunks.entries()) {
          expect(fs.writeSync(fd, bytes, 0, chunk, SIZE + index * chunk)).to.equal(chunk);
          fs.fsyncSync(fd);
        }
        return Buffer.concat(chunks);
      }),
    );
  });

  it('keeps records of odd length that are appended, without gaps', () => {
    use((disk) =>
      withFile(disk, O_RDWR | O_APPEND, (fd) => {
        const records = Array.from({ length: 200 }, (_, index) =>
          patternBytes(index, 0, 100 + index * 7, 'noise'),
        );
        for (const [index, record] of records.entries()) {
          fs.writeSync(fd, record);
          if (index % 3 === 0) fs.fsyncSync(fd);
          if (index % 10 === 0) evict();
        }
        return Buffer.concat(records);
      }),
    );
  });

  it('takes records of several programs that append at the same time', () => {
    use((disk) => {
      const script = 'for i in $(seq 50); do printf "%0511d\\n" "$1" >>"$0"; done';
      tool('sh', '-c', `for w in 1 2 3 4; do sh -c '${script}' "$0" $w & done; wait`, disk);
      const appended = fs.readFileSync(disk).subarray(SIZE);
      const lines = appended.toString('latin1').split('\n').slice(0, -1);
      expect(lines).to.have.length(200);
      for (const line of lines) expect(line).to.match(/^0{510}[1-4]$/);
      return appended;
    });
  });

  it('refuses at once what the image cannot describe, and shows none of it', () => {
    const image = createImage(scratch.subdir(), { size: SIZE, clusterSize: 512 });
    const { disk, mountpoint } = mountWritableOn(defer, imagePath(image), scratch.subdir(), ['--resizable']);
    withFile(disk, O_RDWR, (fd) => {
      expect(refusalOf(() => fs.writeSync(fd, 'x', 2 ** 50))).to.equal('EFBIG');
      fs.fsyncSync(fd);
    });
    expect(fs.statSync(disk).size).to.equal(SIZE);
    expectQcow2fs(['umount', mountpoint]);
    checkImage(image);
  });
});

describe('the holes of a disk', () => {
  const scratch = useScratch();
  const defer = useCleanUp();

  for (const args of [[], ['--resizable']]) {
    it(`are not where another program has written and not synced ${args}`, () => {
      const image = createImage(scratch.subdir(), { size: SIZE });
      const { disk, mountpoint } = mountWritableOn(defer, imagePath(image), scratch.subdir(), args);
      const copy = scratch.path('copy');
      const isSparse = (): boolean => {
        tool('cp', '--sparse=auto', disk, copy);
        return fs.statSync(copy).blocks < SIZE / 512;
      };
      const data = patternBytes(3, 0, 65536);
      withFile(disk, O_RDWR, (fd) => {
        fs.writeSync(fd, data, 0, data.length, MiB);
        expect(fs.statSync(disk).blocks * 512).to.be.at.least(data.length);
        tool('cp', '--sparse=auto', disk, copy);
      });
      expect(
        fs
          .readFileSync(copy)
          .subarray(MiB, MiB + data.length)
          .equals(data),
      ).to.equal(true);
      return waitUntil('the holes can be told again', isSparse).then(() => {
        expect(
          fs
            .readFileSync(copy)
            .subarray(MiB, MiB + data.length)
            .equals(data),
        ).to.equal(true);
        expectQcow2fs(['umount', mountpoint]);
      });
    });
  }
});
