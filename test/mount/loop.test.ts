/** `mount --loop`: the disk as a loop device with its partitions, from one command to the other. */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { useCleanUp } from '../support/clean-up.js';
import { expectUntouched, rememberFiles } from '../support/files.js';
import { patient } from '../support/grace-periods.js';
import { checkImage, createImage, type Image, imagePath, MiB, qemuImg } from '../support/images.js';
import { attachLoop } from '../support/loops.js';
import { daemonOf, isRunning, mountsAt, umountOfKilled } from '../support/mounts.js';
import { expectQcow2fs, qcow2fs } from '../support/qcow2fs.js';
import { run, SBIN, tool, tryTool } from '../support/run.js';
import { useScratch } from '../support/scratch.js';
import { useOrdinaryUser } from '../support/users.js';
import { waitUntil } from '../support/wait.js';
import { useLoops } from './loops.js';

describe('mount --loop', () => {
  const scratch = useScratch();
  const defer = useCleanUp();
  const ordinary = useOrdinaryUser(scratch.path('home'));

  const { partitioned, attach, loopsOf, logText, expectNothing } = useLoops(scratch, defer);

  /** A file system on a partition, mounted. */
  function mountPartition(device: string): string {
    const inside = scratch.subdir();
    tool('mkfs.ext4', '-q', device);
    tool('mount', device, inside);
    defer(() => spawnSync('umount', ['-q', '-l', inside]));
    return inside;
  }

  it('prints the device and its partitions, which can be used until umount gives them back', () => {
    const image = partitioned();
    const { mountpoint, disk, devices } = attach(image);
    const [loop, first, second] = devices;
    expect(devices).to.have.length(3);
    expect([first, second]).to.deep.equal([`${loop}p1`, `${loop}p2`]);
    expect(loopsOf(disk)).to.deep.equal([loop]);
    const { mounts } = JSON.parse(expectQcow2fs(['list', '--json'])) as { mounts: Record<string, unknown>[] };
    expect(mounts.find((mount) => mount['disk'] === disk)).to.include({ loop });
    const inside = mountPartition(first!);
    fs.writeFileSync(path.join(inside, 'hello'), 'on the first partition');
    tool('umount', inside);
    expectQcow2fs(['umount', mountpoint]);
    expectNothing(mountpoint);
    checkImage(image);

    const again = attach(image, ['-r']);
    expect(again.devices).to.have.length(3);
    tool('mount', '-o', 'ro', again.devices[1]!, inside);
    expect(fs.readFileSync(path.join(inside, 'hello'), 'utf8')).to.equal('on the first partition');
    tool('umount', inside);
    expect(tool('blockdev', '--getro', again.devices[0]!).trim()).to.equal('1');
    expectQcow2fs(['umount', again.mountpoint]);
    expectNothing(again.mountpoint);
  });

  it('touches no evidence', () => {
    const image = partitioned();
    const before = rememberFiles(image.dir);
    const { mountpoint } = attach(image, ['-r']);
    expectQcow2fs(['umount', mountpoint]);
    expectUntouched(image.dir, before);
  });

  it('works where a regular file is the disk, over libfuse, and for a disk without partitions', () => {
    const image = partitioned();
    const file = scratch.path('disk.img');
    fs.writeFileSync(file, '');
    for (const args of [[], ['--transport', 'libfuse']]) {
      const attached = attach(image, args, args.length === 0 ? file : scratch.subdir());
      expect(attached.devices).to.have.length(3);
      expectQcow2fs(['umount', attached.mountpoint]);
      expectNothing(attached.mountpoint);
    }
    const plain = attach(createImage(scratch.subdir(), { size: MiB }));
    expect(plain.devices).to.have.length(1);
    expectQcow2fs(['umount', plain.mountpoint]);
    expectNothing(plain.mountpoint);
  });

  it('has the sectors that the partition table was made for, unless --sector-size says otherwise', () => {
    const raw = scratch.path('4kn.raw');
    fs.writeFileSync(raw, '');
    fs.truncateSync(raw, 16 * MiB);
    const maker = attachLoop(defer, raw, '--sector-size', '4096');
    const table = 'label: gpt\nstart=256,size=1024\nstart=1280\n';
    run('sfdisk', ['-q', maker], { input: table, env: { ...process.env, PATH: SBIN } });
    tool('losetup', '--detach', maker);
    const image: Image = { dir: scratch.subdir(), name: 'image.qcow2', openOptions: [] };
    qemuImg(image.dir, ['convert', '-f', 'raw', '-O', 'qcow2', raw, image.name]);
    const expectSectors = (size: string, count: number, from: Image, ...args: string[]): void => {
      const { mountpoint, devices } = attach(from, args);
      expect(tool('blockdev', '--getss', devices[0]!).trim()).to.equal(size);
      expect(devices).to.have.length(count);
      expectQcow2fs(['umount', mountpoint]);
    };
    expectSectors('4096', 3, image, '-r');
    expectSectors('4096', 3, image, '--transport', 'libfuse');
    expectSectors('512', 1, image, '--sector-size', '512');
    expectSectors('512', 3, partitioned());
    expectSectors('4096', 3, image, '-o', 'sector-size=4096');
  });

  it('is not unmounted while a partition is mounted, and says which and where', () => {
    const { mountpoint, disk, devices } = attach(partitioned());
    const inside = mountPartition(devices[2]!);
    const { status, stderr } = qcow2fs(['umount', mountpoint]);
    expect(stderr).to.equal(
      `qcow2fs: ${devices[2]} is mounted on ${inside}; unmount that first: umount ${inside}\n`,
    );
    expect(status).to.equal(9);
    expect(loopsOf(disk)).to.deep.equal([devices[0]]);
    fs.writeFileSync(path.join(inside, 'still'), 'there');
    tool('umount', inside);
    expectQcow2fs(['umount', mountpoint]);
    expectNothing(mountpoint);
  });

  it('is kept, and so is the mount, while another device is attached to the disk', () => {
    const { mountpoint, disk, devices } = attach(partitioned());
    const other = tool('losetup', '--find', '--show', disk).trim();
    defer(() => void spawnSync('losetup', ['--detach', other]));
    const { status, stderr } = qcow2fs(['umount', mountpoint]);
    expect(stderr)
      .to.match(/^qcow2fs: [^\n]* is attached to the disk, too; [^\n]*\n$/)
      .and.contain(other);
    expect(status).to.equal(9);
    expect(loopsOf(disk).sort()).to.deep.equal([devices[0], other].sort());
    tool('losetup', '--detach', other);
    expectQcow2fs(['umount', mountpoint]);
    expectNothing(mountpoint);
  });

  it('gives everything back when the daemon is told to stop', async () => {
    const { mountpoint } = attach(partitioned());
    const daemon = daemonOf(mountpoint);
    process.kill(daemon, 'SIGTERM');
    process.kill(daemon, 'SIGTERM');
    await waitUntil('the daemon has ended', () => !isRunning(daemon));
    expectNothing(mountpoint);
  });

  it('loses nothing of a partition that is mounted when the daemon is told to stop', async () => {
    const image = partitioned();
    const { mountpoint, devices } = attach(image, [], scratch.subdir(), { env: patient });
    const inside = mountPartition(devices[1]!);
    fs.writeFileSync(path.join(inside, 'hello'), 'before the end');
    const daemon = daemonOf(mountpoint);
    process.kill(daemon, 'SIGTERM');
    // Its name is gone at once; who uses it has some seconds.
    await waitUntil('the disk is detached', () => mountsAt(mountpoint).length === 0);
    tool('umount', inside);
    await waitUntil('the daemon has ended', () => !isRunning(daemon));
    expectNothing(mountpoint);
    checkImage(image);
    const again = attach(image, ['-r']);
    tool('mount', '-o', 'ro', again.devices[1]!, inside);
    expect(fs.readFileSync(path.join(inside, 'hello'), 'utf8')).to.equal('before the end');
    tool('umount', inside);
    expectQcow2fs(['umount', again.mountpoint]);
  });

  it('is cleared away by umount when the daemon was killed, also when others mounted since', () => {
    const { mountpoint } = attach(partitioned());
    process.kill(daemonOf(mountpoint), 'SIGKILL');
    const other = attach(partitioned());
    expectQcow2fs(['umount', other.mountpoint]);
    umountOfKilled(mountpoint);
    expectNothing(mountpoint);
  });

  it('is known by more than a path: under a name that ends with a blank, in a directory that moves', () => {
    const place = scratch.subdir();
    const mountpoint = path.join(place, 'x');
    fs.mkdirSync(mountpoint);
    const image = partitioned();
    expectQcow2fs([
      'mount',
      '--log',
      `${place}.log`,
      '--loop',
      '--name',
      'disk ',
      imagePath(image),
      mountpoint,
    ]);
    expectQcow2fs(['umount', mountpoint]);
    expectNothing(place);
    const moved = attach(image, [], mountpoint);
    fs.renameSync(place, `${place}-moved`);
    defer(() => void spawnSync('umount', ['-l', path.join(`${place}-moved`, 'x')]));
    expectQcow2fs(['umount', path.join(`${place}-moved`, 'x')]);
    expect(moved.isAttached()).to.equal(false);
  });

  it('says that the device is gone when the disk is open otherwise, and list knows', () => {
    const { mountpoint, disk, devices } = attach(partitioned());
    const fd = fs.openSync(disk, 'r');
    try {
      const { status, stderr } = qcow2fs(['umount', mountpoint]);
      expect(stderr)
        .to.match(/^qcow2fs: [^\n]*in use[^\n]*\n$/)
        .and.contain(`${devices[0]} is detached already`);
      expect(status).to.equal(9);
      const { mounts } = JSON.parse(expectQcow2fs(['list', '--json'])) as {
        mounts: Record<string, unknown>[];
      };
      expect(mounts.find((mount) => mount['disk'] === disk)).to.include({ loop: null });
    } finally {
      fs.closeSync(fd);
    }
    expectQcow2fs(['umount', mountpoint]);
    expectNothing(mountpoint);
  });

  it('leaves a device alone that somebody else has by now', () => {
    const image = partitioned();
    const other = scratch.path('other.img');
    fs.writeFileSync(other, Buffer.alloc(MiB));
    let attached = attach(image);
    // Another process may have taken the device in between; then try again.
    while (!giveTo(other, attached.devices[0]!)) {
      expectQcow2fs(['umount', attached.mountpoint]);
      attached = attach(image);
    }
    const { mountpoint, disk, devices } = attached;
    const { mounts } = JSON.parse(expectQcow2fs(['list', '--json'])) as { mounts: Record<string, unknown>[] };
    expect(mounts.find((mount) => mount['disk'] === disk)).to.include({ loop: null });
    expectQcow2fs(['umount', mountpoint]);
    expect(loopsOf(other)).to.deep.equal([devices[0]]);
  });

  /** Detaches a device and attaches it to another file. @returns false if another process took it first */
  function giveTo(file: string, device: string): boolean {
    tool('losetup', '--detach', device);
    if (tryTool('losetup', device, file).status !== 0) return false;
    defer(() => void spawnSync('losetup', ['--detach', device]));
    return true;
  }

  it('stays when a copy of the mount goes', () => {
    const { mountpoint, disk, devices } = attach(partitioned());
    const copy = scratch.subdir();
    tool('mount', '--bind', mountpoint, copy);
    defer(() => void spawnSync('umount', ['-q', '-l', copy]));
    expectQcow2fs(['umount', copy]);
    expect(loopsOf(disk)).to.deep.equal([devices[0]]);
    expectQcow2fs(['umount', mountpoint]);
    expectNothing(mountpoint);
  });

  it('is given back by a daemon that was unmounted lazily and is told to stop', async () => {
    const { mountpoint, isAttached } = attach(partitioned());
    const daemon = daemonOf(mountpoint);
    tool('umount', '--lazy', '--internal-only', mountpoint);
    expect(isAttached()).to.equal(true);
    process.kill(daemon, 'SIGTERM');
    await waitUntil('the daemon has ended', () => !isRunning(daemon));
    expect(isAttached()).to.equal(false);
  });

  it('is given back after a lazy unmount: at once, or when the last user is gone', async () => {
    const image = partitioned();
    const { mountpoint, devices, isAttached } = attach(image);
    const inside = mountPartition(devices[1]!);
    fs.writeFileSync(path.join(inside, 'hello'), 'after the mount');
    const daemon = daemonOf(mountpoint);
    tool('umount', '--lazy', mountpoint);
    await waitUntil('the device goes with its last user', () => /is detached when/.test(logText(mountpoint)));
    expect(fs.readFileSync(path.join(inside, 'hello'), 'utf8')).to.equal('after the mount');
    tool('umount', inside);
    await waitUntil('the daemon has ended', () => !isRunning(daemon));
    expect(isAttached()).to.equal(false);
    checkImage(image);

    const unused = attach(image, ['-r']);
    const second = daemonOf(unused.mountpoint);
    tool('umount', '--lazy', unused.mountpoint);
    await waitUntil('the second daemon has ended', () => !isRunning(second));
    expect(unused.isAttached()).to.equal(false);
  });

  it('is refused to ordinary users before anything is opened', () => {
    const { status, stderr } = ordinary(['mount', '--loop', '/nowhere.qcow2', '/tmp']);
    expect(stderr).to.match(/^qcow2fs: --loop: only root may attach loop devices[^\n]*\n$/);
    expect(status).to.equal(2);
  });
});
