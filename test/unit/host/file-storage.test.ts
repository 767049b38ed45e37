import fs from 'node:fs';
import { expect } from 'chai';
import { FileStorage, openReadOnly } from '../../../src/host/file-storage.js';
import { run } from '../../support/run.js';
import { useScratch } from '../../support/scratch.js';
import { expectError } from '../support/errors.js';

const MiB = 2 ** 20;

describe('a file of the host', () => {
  const scratch = useScratch();

  function withStorage<T>(path: string, use: (storage: FileStorage) => T): T {
    const storage = new FileStorage(openReadOnly(path));
    try {
      return use(storage);
    } finally {
      storage.close();
    }
  }

  it('is refused in one line when it is missing, a directory or a FIFO', () => {
    const fifo = scratch.path('fifo');
    run('mkfifo', [fifo]);
    expectError('host-io', [scratch.path('x'), 'ENOENT'], () => openReadOnly(scratch.path('x')));
    expectError('host-io', [scratch.dir, 'a directory'], () => openReadOnly(scratch.dir));
    expectError('host-io', [fifo, 'a FIFO'], () => openReadOnly(fifo));
    expectError('named-file', [fifo], () => openReadOnly(fifo, 'named-file'));
    expectError('host-io', ['/dev/null', 'regular file'], () => openReadOnly('/dev/null'));
  });

  it('is the same file by all of its names', () => {
    const [one, two] = [scratch.path('one'), scratch.path('two')];
    fs.writeFileSync(one, 'x');
    fs.linkSync(one, two);
    const identities = [one, two, scratch.path('one')].map((path) => {
      const { fd, device, inode } = openReadOnly(path);
      fs.closeSync(fd);
      return `${device}:${inode}`;
    });
    expect(new Set(identities).size).to.equal(1);
  });

  it('gives fewer bytes at its end, and leaves the rest of the target alone', () => {
    const path = scratch.path('short');
    fs.writeFileSync(path, 'abcdef');
    withStorage(path, (storage) => {
      const target = Buffer.alloc(8, '.');
      expect(storage.size()).to.equal(6);
      expect(storage.read(target, 1, 4, 1)).to.equal(4);
      expect(target.toString()).to.equal('.bcde...');
      target.fill('.');
      expect(storage.read(target, 0, 8, 4)).to.equal(2);
      expect(target.toString()).to.equal('ef......');
      expect(storage.read(target, 0, 8, 6)).to.equal(0);
      expect(storage.read(target, 0, 8, 2 ** 40)).to.equal(0);
    });
  });

  it('tells its data from its holes', () => {
    const path = scratch.path('sparse');
    const fd = fs.openSync(path, 'w');
    fs.ftruncateSync(fd, 4 * MiB);
    fs.writeSync(fd, Buffer.alloc(MiB, 1), 0, MiB, MiB);
    fs.closeSync(fd);
    withStorage(path, (storage) => {
      expect([0, MiB, 2 * MiB - 1].map((at) => storage.nextData(at))).to.deep.equal([MiB, MiB, 2 * MiB - 1]);
      expect([0, MiB, 2 * MiB].map((at) => storage.nextHole(at))).to.deep.equal([0, 2 * MiB, 2 * MiB]);
      expect(storage.nextData(2 * MiB)).to.equal(4 * MiB);
      expect(storage.nextHole(4 * MiB)).to.equal(4 * MiB);
      expect(storage.allocatedBytes()).to.be.within(MiB, 2 * MiB);
    });
  });

  it('that was opened for reading fails to be written, by its name', () => {
    const path = scratch.path('read-only');
    fs.writeFileSync(path, 'x');
    withStorage(path, (storage) => {
      expectError('host-io', [path, 'write', '0x7', 'EBADF'], () => storage.write(Buffer.alloc(1), 0, 1, 7));
    });
  });

  it('says when the host cannot bring it to stable storage', () => {
    // fdatasync(2): "fd is bound to a special file which does not support synchronization."
    const fd = fs.openSync('/dev/null', 'r');
    const identity = { device: 0n, inode: 0n, gid: 0, mode: 0, mtimeMs: 0 };
    const storage = new FileStorage({ fd, path: '/dev/null', blockDevice: false, ...identity });
    expectError('host-io', ['/dev/null', 'sync failed', 'EINVAL'], () => storage.sync());
    storage.close();
  });

  if (process.getuid?.() === 0) {
    it('may be a block device, which has a size too', () => {
      const path = scratch.path('loop');
      fs.writeFileSync(path, Buffer.alloc(MiB, 7));
      const device = run('losetup', ['-f', '--show', path]).trim();
      try {
        withStorage(device, (storage) => {
          expect([storage.size(), storage.allocatedBytes()]).to.deep.equal([MiB, MiB]);
          expect([storage.nextData(512), storage.nextHole(512)]).to.deep.equal([512, MiB]);
          const target = Buffer.alloc(1024);
          expect(storage.read(target, 0, 1024, MiB - 512)).to.equal(512);
          expect(target[511]).to.equal(7);
        });
      } finally {
        run('losetup', ['-d', device]);
      }
    });
  }
});
