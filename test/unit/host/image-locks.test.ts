import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { expect } from 'chai';
import { openReadOnly } from '../../../src/host/file-storage.js';
import { type LockMode, lockImage } from '../../../src/host/image-locks.js';
import { lockForItself } from '../../support/exclusive-lock.js';
import { qemuImg } from '../../support/images.js';
import { run } from '../../support/run.js';
import { useScratch } from '../../support/scratch.js';
import { expectError } from '../support/errors.js';

const DEADLINE_MS = 60_000;
const WRITER = [100, 101, 103, 201, 203];
const READER = [100, 201, 203];

describe("QEMU's image locks", () => {
  const scratch = useScratch();
  const daemons: number[] = [];
  const descriptors: number[] = [];

  before(() => {
    qemuImg(scratch.dir, ['create', '-q', '-f', 'qcow2', 'disk.qcow2', '1M']);
    qemuImg(scratch.dir, ['create', '-q', '-f', 'raw', 'base.raw', '1M']);
    qemuImg(scratch.dir, ['create', '-q', '-f', 'qcow2', '-b', 'base.raw', '-F', 'raw', 'over-raw.qcow2']);
    qemuImg(scratch.dir, [
      ...['create', '-q', '-f', 'qcow2', '-b', 'disk.qcow2', '-F', 'qcow2', 'over-qcow2.qcow2'],
    ]);
    const data = scratch.path('data.raw');
    qemuImg(scratch.dir, ['create', '-q', '-f', 'qcow2', '-o', `data_file=${data}`, 'with-data.qcow2', '1M']);
  });

  afterEach(() => {
    for (const fd of descriptors.splice(0)) fs.closeSync(fd);
    for (const pid of daemons.splice(0)) end(pid);
  });

  function end(pid: number): void {
    process.kill(pid, 'SIGTERM');
    const deadline = Date.now() + DEADLINE_MS;
    const tick = new Int32Array(new SharedArrayBuffer(4));
    while (isAlive(pid)) {
      if (Date.now() > deadline) throw new Error(`qemu-storage-daemon ${pid} does not end`);
      Atomics.wait(tick, 0, 0, 5);
    }
  }

  /** A zombie holds nothing any more. */
  function isAlive(pid: number): boolean {
    try {
      return !/^State:\s+Z/m.test(fs.readFileSync(`/proc/${pid}/status`, 'utf8'));
    } catch {
      return false;
    }
  }

  /** QEMU as a guest's only disk would use it: `exclusive` lets nobody else write what is below. Returns its pid. */
  function qemuHolds(name: string, access: 'rw' | 'ro' | 'shared-ro', format = 'qcow2'): number {
    const readOnly = `read-only=${access === 'rw' ? 'off' : 'on'}`;
    const share = access === 'shared-ro' ? ',force-share=on' : '';
    const below = `driver=${format},node-name=disk,${readOnly}${share}`;
    const alone = access === 'shared-ro' ? '' : ',unshare-child-perms.0=write,unshare-child-perms.1=resize';
    const directory = scratch.subdir();
    const [socket, pidFile] = [`${directory}/socket`, `${directory}/pid`];
    // It detaches when all is open and exported.
    run('qemu-storage-daemon', [
      ...['--blockdev', `${below},file.driver=file,file.filename=${scratch.path(name)}`],
      ...['--blockdev', `driver=blkdebug,node-name=guest,image=disk,${readOnly}${alone}`],
      ...['--nbd-server', `addr.type=unix,addr.path=${socket}`],
      ...['--export', `type=nbd,id=nbd,node-name=guest,writable=${access === 'rw' ? 'on' : 'off'}`],
      ...['--daemonize', '--pidfile', pidFile],
    ]);
    const pid = Number(fs.readFileSync(pidFile, 'utf8'));
    daemons.push(pid);
    return pid;
  }

  function lock(name: string, mode: LockMode): number {
    const file = openReadOnly(scratch.path(name));
    descriptors.push(file.fd);
    lockImage(file, mode);
    return file.fd;
  }

  /** Bytes that the process holds of the file, through any descriptor. */
  function heldBytes(pid: number | 'self', name: string): number[] {
    const wanted = scratch.path(name);
    const bytes = fs.readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
      try {
        if (fs.readlinkSync(`/proc/${pid}/fd/${fd}`) !== wanted) return [];
        const info = fs.readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'utf8');
        return [...info.matchAll(/OFDLCK .* (\d+) (\d+)$/gm)].flatMap(([, first, last]) =>
          Array.from({ length: Number(last) - Number(first) + 1 }, (_, i) => Number(first) + i),
        );
      } catch {
        return []; // the descriptor that listed the directory
      }
    });
    return bytes.sort((a, b) => a - b);
  }

  /** What qemu-io says to opening the image; empty when it may. */
  function qemuRefusal(name: string, options: readonly string[], format = 'qcow2'): string {
    const args = [...options, '-f', format, '-c', 'read 0 512', scratch.path(name)];
    const { status, stderr } = spawnSync('qemu-io', args, { encoding: 'utf8' });
    expect(status === 0, stderr).to.equal(stderr === '');
    return stderr;
  }

  describe('are taken as QEMU takes them', () => {
    const cases: [string, string, 'rw' | 'ro' | 'shared-ro', string, LockMode, number[]][] = [
      ['by a writer', 'disk.qcow2', 'rw', 'disk.qcow2', 'write', WRITER],
      ['by a reader', 'disk.qcow2', 'ro', 'disk.qcow2', 'read', READER],
      ['by a reader that does not care', 'disk.qcow2', 'shared-ro', 'disk.qcow2', 'force-share', [100]],
      ['of a backing file', 'over-qcow2.qcow2', 'rw', 'disk.qcow2', 'read', READER],
      ['of a raw backing file', 'over-raw.qcow2', 'rw', 'base.raw', 'read', READER],
      ['of a data file that is written', 'with-data.qcow2', 'rw', 'data.raw', 'write', WRITER],
      ['of a data file that is read', 'with-data.qcow2', 'ro', 'data.raw', 'read', READER],
    ];
    for (const [what, opened, access, name, mode, bytes] of cases) {
      it(what, () => {
        const pid = qemuHolds(opened, access);
        expect(heldBytes(pid, name), 'QEMU').to.deep.equal(bytes);
        end(daemons.pop()!);
        lock(name, mode);
        expect(heldBytes('self', name), 'qcow2fs').to.deep.equal(bytes);
      });
    }
  });

  describe('keep QEMU off', () => {
    it('from an image that is written, but for a reader that does not care', () => {
      lock('disk.qcow2', 'write');
      expect(qemuRefusal('disk.qcow2', [])).to.include('Failed to get');
      expect(qemuRefusal('disk.qcow2', ['-r'])).to.include('Failed to get');
      expect(qemuRefusal('over-qcow2.qcow2', ['-r'])).to.include('Failed to get');
      expect(qemuRefusal('disk.qcow2', ['-r', '-U'])).to.equal('');
    });

    it('from writing an image that is read', () => {
      lock('disk.qcow2', 'read');
      expect(qemuRefusal('disk.qcow2', [])).to.include('Failed to get');
      expect(qemuRefusal('disk.qcow2', ['-r'])).to.equal('');
    });

    it('from writing a raw file that an image names', () => {
      lock('base.raw', 'read');
      expect(qemuRefusal('base.raw', [], 'raw')).to.include('Failed to get');
      expect(qemuRefusal('over-raw.qcow2', [])).to.equal('');
      lock('data.raw', 'write');
      expect(qemuRefusal('with-data.qcow2', ['-r'])).to.include('Failed to get');
    });

    it('from nothing by a reader that does not care', () => {
      lock('disk.qcow2', 'force-share');
      expect(qemuRefusal('disk.qcow2', [])).to.equal('');
    });

    it('until the last descriptor of the open file is closed', () => {
      lock('disk.qcow2', 'write');
      const other = fs.openSync(scratch.path('disk.qcow2'), 'r');
      fs.closeSync(other);
      expect(qemuRefusal('disk.qcow2', []), 'while it is open').not.to.equal('');
      fs.closeSync(descriptors.pop()!);
      expect(qemuRefusal('disk.qcow2', []), 'when it is closed').to.equal('');
    });
  });

  describe('are respected', () => {
    function expectRefusal(name: string, mode: LockMode, words: readonly string[]): void {
      expectError('locked', [`${scratch.path(name)}: `, ...words], () => lock(name, mode));
      expect(heldBytes('self', name), 'left after the failure').to.deep.equal([]);
    }

    it('by readers and writers when a QEMU writes the image, which the error names', () => {
      const pid = qemuHolds('disk.qcow2', 'rw');
      const words = [
        `in use by qemu-storage-da (process ${pid}), which writes it; `,
        '--force-share (mount: with -r)',
      ];
      expectRefusal('disk.qcow2', 'write', words);
      expectRefusal('disk.qcow2', 'read', words);
      lock('disk.qcow2', 'force-share');
    });

    it('with the name of who has this file, of all who have files', () => {
      qemuHolds('base.raw', 'rw', 'raw');
      const pid = qemuHolds('disk.qcow2', 'rw');
      expectRefusal('disk.qcow2', 'write', [`(process ${pid})`]);
    });

    it('by writers when a QEMU reads the image', () => {
      const pid = qemuHolds('disk.qcow2', 'ro');
      expectRefusal('disk.qcow2', 'write', [
        `qemu-storage-da (process ${pid}), which must not see`,
        'with -r',
      ]);
      lock('disk.qcow2', 'read');
      lock('disk.qcow2', 'force-share');
    });

    it('when a QEMU has the file as its backing file', () => {
      const pid = qemuHolds('over-raw.qcow2', 'rw');
      expectRefusal('base.raw', 'write', [`(process ${pid}), which must not see it change`]);
      lock('base.raw', 'read');
    });

    it('when a QEMU has the file as its data file', () => {
      const pid = qemuHolds('with-data.qcow2', 'rw');
      expectRefusal('data.raw', 'read', [`(process ${pid}), which writes it`]);
    });

    it('when a QEMU writes the raw file itself', () => {
      const pid = qemuHolds('base.raw', 'rw', 'raw');
      expectRefusal('base.raw', 'read', [`(process ${pid}), which writes it`]);
    });

    it('not when the QEMU does not care either', () => {
      qemuHolds('disk.qcow2', 'shared-ro');
      lock('disk.qcow2', 'write');
    });

    it('within one process, too', () => {
      const first = lock('disk.qcow2', 'read');
      lock('disk.qcow2', 'read');
      expectError('locked', ['twice in the chain'], () => lock('disk.qcow2', 'write'));
      expect(heldBytes('self', 'disk.qcow2')).to.deep.equal([...READER, ...READER].sort((a, b) => a - b));
      expect(descriptors[0]).to.equal(first);
    });

    it('when somebody locks the whole file for itself', () => {
      descriptors.push(lockForItself(scratch.path('disk.qcow2')));
      expectError('locked', ['disk.qcow2'], () => lock('disk.qcow2', 'force-share'));
    });

    it('not at all by who ignores locks, and takes none', () => {
      descriptors.push(lockForItself(scratch.path('disk.qcow2')));
      lock('disk.qcow2', 'ignore-locks');
      fs.closeSync(descriptors.shift()!);
      expect(heldBytes('self', 'disk.qcow2')).to.deep.equal([]);
    });

    if (process.getuid?.() === 0) {
      it('without the name of a process that belongs to another user', () => {
        qemuHolds('disk.qcow2', 'rw');
        const file = openReadOnly(scratch.path('disk.qcow2'));
        descriptors.push(file.fd);
        process.seteuid!(65534);
        try {
          expectError('locked', ['in use by another process, which writes it'], () =>
            lockImage(file, 'read'),
          );
        } finally {
          process.seteuid!(0);
        }
      });
    }
  });

  it('are a must for writers only where they cannot be had', () => {
    // A descriptor that cannot read cannot take shared locks.
    const path = scratch.path('disk.qcow2');
    const { fd: readable, device, inode } = openReadOnly(path);
    const fd = fs.openSync(path, fs.constants.O_WRONLY);
    descriptors.push(readable, fd);
    const file = { fd, path, device, inode };
    lockImage(file, 'read');
    lockImage(file, 'force-share');
    expectError('host-io', [path, 'cannot be locked (EBADF)', 'QEMU could write'], () =>
      lockImage(file, 'write'),
    );
  });
});
