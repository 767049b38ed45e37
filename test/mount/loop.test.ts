/** `mount --loop`: the disk as a loop device with its partitions, from one command to the other. */
import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { checkImage, createImage, type Image, imagePath, MiB } from '../support/images.js';
import { BIN, expectQcow2fs, qcow2fs } from '../support/qcow2fs.js';
import { useScratch } from '../support/scratch.js';
import { waitUntil } from '../support/wait.js';
import {
  daemonOf,
  expectUntouched,
  isRunning,
  logLines,
  mountsAt,
  refusalOf,
  rememberFiles,
  tool,
  useCleanUp,
  useOrdinaryUser,
} from './support.js';

const PARTITIONS = 'label: gpt\n,16M\n,16M\n';

describe('mount --loop', () => {
  const scratch = useScratch();
  const defer = useCleanUp();
  const ordinary = useOrdinaryUser(scratch.path('home'));

  /** An image with two partitions. */
  function partitioned(): Image {
    const image = createImage(scratch.subdir(), { size: 64 * MiB });
    const mountpoint = scratch.subdir();
    expectQcow2fs(['mount', imagePath(image), mountpoint]);
    try {
      spawnSync('sfdisk', ['-q', path.join(mountpoint, 'disk.raw')], { input: PARTITIONS });
    } finally {
      expectQcow2fs(['umount', mountpoint]);
    }
    return image;
  }

  interface Attached {
    readonly mountpoint: string;
    readonly disk: string;
    readonly devices: readonly string[];
  }

  function attach(image: Image, args: readonly string[] = [], mountpoint = scratch.subdir()): Attached {
    const log = `${mountpoint}.log`;
    defer(() => {
      for (const loop of loopsOf(mountpoint)) spawnSync('losetup', ['--detach', loop]);
      spawnSync('umount', ['-l', mountpoint]);
    });
    const output = expectQcow2fs(['mount', '--log', log, '--loop', ...args, imagePath(image), mountpoint]);
    const disk = fs.statSync(mountpoint).isFile() ? mountpoint : path.join(mountpoint, 'disk.raw');
    const devices = output.trimEnd().split('\n');
    const attached = sequenceOf(devices[0]!);
    defer(() => {
      // Unmounted lazily it has no path any more.
      if (sequenceOf(devices[0]!) === attached) spawnSync('losetup', ['--detach', devices[0]!]);
    });
    return { mountpoint, disk, devices };
  }

  /** Counts what is attached, and detached (sysfs, diskseq). */
  function sequenceOf(device: string): string {
    return fs.readFileSync(`/sys/block/${path.basename(device)}/diskseq`, 'utf8');
  }

  /** Devices that are attached to a file at or below a path. */
  function loopsOf(place: string): string[] {
    const { loopdevices } = JSON.parse(tool('losetup', '--list', '--json') || '{"loopdevices":[]}') as {
      loopdevices: readonly { name: string; 'back-file': string }[];
    };
    return loopdevices.filter((loop) => loop['back-file'].startsWith(place)).map(({ name }) => name);
  }

  function logText(mountpoint: string): string {
    return logLines(`${mountpoint}.log`).join('\n');
  }

  function expectNothing(place: string): void {
    expect(loopsOf(place)).to.deep.equal([]);
    expect(mountsAt(place)).to.deep.equal([]);
  }

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
    const { mountpoint, devices } = attach(image);
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
    expectQcow2fs(['umount', mountpoint]);
    expectNothing(mountpoint);
  });

  /** An environment in which losetup is another program, which can call the real one as "$losetup". */
  function withLosetup(script: string): NodeJS.ProcessEnv {
    const programs = scratch.subdir();
    const real = tool('which', 'losetup').trim();
    fs.writeFileSync(path.join(programs, 'losetup'), `#!/bin/sh\nlosetup=${real}\n${script}\n`, {
      mode: 0o755,
    });
    return { ...process.env, PATH: `${programs}:${process.env['PATH']}` };
  }

  function startMount(image: Image, mountpoint: string, env: NodeJS.ProcessEnv): Promise<string> {
    const args = ['mount', '--log', `${mountpoint}.log`, '--loop', imagePath(image), mountpoint];
    const child = spawn(BIN, args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
    let text = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (bytes) => (text += bytes));
    return new Promise((resolve) => child.once('close', (status) => resolve(`${status}: ${text}`)));
  }

  it('attaches nothing else when it is unmounted meanwhile, and leaves nothing', async () => {
    const file = scratch.path('covered.img');
    fs.writeFileSync(file, Buffer.alloc(MiB));
    const gate = scratch.path('gate');
    const waiting = scratch.path('waiting');
    const wait = `case $1 in --find) : > ${waiting}; until [ -e ${gate} ]; do sleep 0.01; done ;; esac`;
    const outcome = startMount(partitioned(), file, withLosetup(`${wait}\nexec "$losetup" "$@"`));
    await waitUntil('losetup was started', () => fs.existsSync(waiting));
    tool('umount', file);
    fs.writeFileSync(gate, '');
    expect(await outcome).to.match(/^9: qcow2fs: [^\n]*unmounted while its loop device was made\n$/);
    expectNothing(file);
  });

  it('leaves nothing when losetup attaches and then dies', async () => {
    const mountpoint = scratch.subdir();
    const env = withLosetup('"$losetup" "$@" > /dev/null; case $1 in --find) kill -INT $$ ;; esac');
    expect(await startMount(partitioned(), mountpoint, env)).to.match(/^3: qcow2fs: losetup: [^\n]*\n$/);
    expectNothing(mountpoint);
  });

  it('gives those who have the disk open some seconds when no device can be had, and not more', async () => {
    const mountpoint = scratch.subdir();
    const gate = scratch.path('gate2');
    const env = withLosetup(`case $1 in --find) until [ -e ${gate} ]; do sleep 0.01; done; exit 1 ;; esac`);
    const outcome = startMount(partitioned(), mountpoint, env);
    await waitUntil('it is mounted', () => mountsAt(mountpoint).length === 1);
    const fd = fs.openSync(path.join(mountpoint, 'disk.raw'), 'r');
    try {
      fs.writeFileSync(gate, '');
      // Where the connection cannot be aborted, the process goes, and the log has the reason.
      expect(await outcome).to.match(/^[13]: /);
      expect(logText(mountpoint)).to.match(/losetup: it ended with 1|^$/);
    } finally {
      expect(refusalOf(() => fs.closeSync(fd))).to.be.oneOf(['nothing', 'ENOTCONN', 'ECONNABORTED']);
    }
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
    expect(loopsOf('/')).to.not.include(moved.devices[0]);
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
    const { mountpoint, disk, devices } = attach(partitioned());
    const device = devices[0]!;
    const other = scratch.path('other.img');
    fs.writeFileSync(other, Buffer.alloc(MiB));
    tool('losetup', '--detach', device);
    tool('losetup', device, other);
    defer(() => void spawnSync('losetup', ['--detach', device]));
    const { mounts } = JSON.parse(expectQcow2fs(['list', '--json'])) as { mounts: Record<string, unknown>[] };
    expect(mounts.find((mount) => mount['disk'] === disk)).to.include({ loop: null });
    expectQcow2fs(['umount', mountpoint]);
    expect(loopsOf(other)).to.deep.equal([device]);
  });

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
    const { mountpoint, devices } = attach(partitioned());
    const daemon = daemonOf(mountpoint);
    tool('umount', '--lazy', '--internal-only', mountpoint);
    process.kill(daemon, 'SIGTERM');
    await waitUntil('the daemon has ended', () => !isRunning(daemon));
    expect(loopsOf('/')).to.not.include(devices[0]);
  });

  it('is given back after a lazy unmount: at once, or when the last user is gone', async () => {
    const image = partitioned();
    const { mountpoint, devices } = attach(image);
    const inside = mountPartition(devices[1]!);
    fs.writeFileSync(path.join(inside, 'hello'), 'after the mount');
    const daemon = daemonOf(mountpoint);
    tool('umount', '--lazy', mountpoint);
    await waitUntil('the device goes with its last user', () => /is detached when/.test(logText(mountpoint)));
    expect(fs.readFileSync(path.join(inside, 'hello'), 'utf8')).to.equal('after the mount');
    tool('umount', inside);
    await waitUntil('the daemon has ended', () => !isRunning(daemon));
    expect(loopsOf('/')).to.not.include(devices[0]);
    checkImage(image);

    const unused = attach(image, ['-r']);
    const second = daemonOf(unused.mountpoint);
    tool('umount', '--lazy', unused.mountpoint);
    await waitUntil('the second daemon has ended', () => !isRunning(second));
    expect(loopsOf('/')).to.not.include(unused.devices[0]);
  });

  it('leaves nothing when a daemon in the foreground cannot print the devices', () => {
    const mountpoint = scratch.subdir();
    const args = ['mount', '--foreground', '--loop', imagePath(partitioned()), mountpoint];
    const { status, stderr } = spawnSync('sh', ['-c', '"$@" > /dev/full', 'sh', BIN, ...args], {
      encoding: 'utf8',
    });
    expect(stderr).to.match(/qcow2fs: standard output: ENOSPC[^\n]*\n$/);
    expect(status).to.equal(3);
    expectNothing(mountpoint);
  });

  it('leaves nothing when no device can be had', () => {
    const image = partitioned();
    const mountpoint = scratch.subdir();
    const overlay = scratch.path('overlay.qcow2');
    const { status, stdout, stderr } = qcow2fs(
      ['mount', '--log', `${mountpoint}.log`, '--loop', '--overlay', overlay, imagePath(image), mountpoint],
      { env: withLosetup('echo "losetup: cannot find an unused loop device" >&2; exit 1') },
    );
    expect(stderr).to.equal('qcow2fs: losetup: cannot find an unused loop device\n');
    expect(stdout).to.equal('');
    expect(status).to.equal(3);
    expect(fs.existsSync(overlay)).to.equal(false);
    expectNothing(mountpoint);
    checkImage(image);
  });

  it('leaves nothing when nobody can be told the devices', () => {
    const image = partitioned();
    const mountpoint = scratch.subdir();
    const args = ['mount', '--log', `${mountpoint}.log`, '--loop', imagePath(image), mountpoint];
    const { status, stderr } = spawnSync('sh', ['-c', '"$@" > /dev/full', 'sh', BIN, ...args], {
      encoding: 'utf8',
    });
    expect(stderr).to.match(/^qcow2fs: standard output: ENOSPC[^\n]*\n$/);
    expect(status).to.equal(3);
    expectNothing(mountpoint);
  });

  it('is refused to ordinary users before anything is opened', () => {
    const { status, stderr } = ordinary(['mount', '--loop', '/nowhere.qcow2', '/tmp']);
    expect(stderr).to.match(/^qcow2fs: --loop: only root may attach loop devices[^\n]*\n$/);
    expect(status).to.equal(2);
  });
});
