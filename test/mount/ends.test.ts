/** How a mount ends: asked, told, or killed. */

import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { useCleanUp } from '../support/clean-up.js';
import { sha256, withFile } from '../support/files.js';
import { hurried, patient } from '../support/grace-periods.js';
import { convertToRaw, createImage, imagePath, KiB, MiB, writeSteps } from '../support/images.js';
import { attachLoop } from '../support/loops.js';
import { daemonOf, endMount, isRunning, logLines, mountOn, mountsAt } from '../support/mounts.js';
import { BIN, expectQcow2fs, qcow2fs } from '../support/qcow2fs.js';
import { tool, tryTool } from '../support/run.js';
import { useScratch } from '../support/scratch.js';
import { waitUntil } from '../support/wait.js';

const TRANSPORTS = ['kernel', 'libfuse'] as const;

describe('the end of a mount', () => {
  const scratch = useScratch();
  const defer = useCleanUp();
  const dir = scratch.subdir();
  let image: string;
  let raw: Buffer;
  let expected: string;

  before(() => {
    const made = createImage(dir, { size: 16 * MiB });
    writeSteps(made, 1, [{ do: 'data', offset: 0, length: 15 * MiB }]);
    image = imagePath(made);
    const converted = convertToRaw(made);
    raw = fs.readFileSync(converted);
    expected = sha256(converted);
  });

  /** A descriptor that is closed by the test or after it. */
  function open(file: string): { fd: number; close: () => void } {
    const fd = fs.openSync(file, 'r');
    let isOpen = true;
    const close = (): void => {
      if (!isOpen) return;
      isOpen = false;
      try {
        fs.closeSync(fd);
      } catch (error) {
        // close(2) asks a daemon that is no more; the descriptor is gone all the same.
        if (!/ENOTCONN|ECONNABORTED/.test(String(error))) throw error;
      }
    };
    defer(close);
    return { fd, close };
  }

  function read(fd: number, offset: number): Buffer {
    const bytes = Buffer.alloc(64 * KiB);
    return bytes.subarray(0, fs.readSync(fd, bytes, 0, bytes.length, offset));
  }

  function expectBytes(fd: number, offset: number): void {
    expect(read(fd, offset).equals(raw.subarray(offset, offset + 64 * KiB)), `bytes at ${offset}`).to.equal(
      true,
    );
  }

  /** What is true after every clean end. */
  async function expectEnded(mountpoint: string, daemon: number, log: string): Promise<void> {
    await waitUntil(`daemon ${daemon} has ended`, () => !isRunning(daemon));
    expect(mountsAt(mountpoint)).to.deep.equal([]);
    expect(fs.readdirSync(mountpoint)).to.deep.equal([]);
    expect(logLines(log).at(-1)).to.equal(`${image}: unmounted`);
    expect(stateFilesOf(daemon)).to.deep.equal([]);
  }

  /** Files that still say that this process serves a mount. */
  function stateFilesOf(pid: number): string[] {
    const { O_RDONLY, O_NONBLOCK } = fs.constants;
    const run = '/run/qcow2fs';
    const names = fs.existsSync(run) ? fs.readdirSync(run) : [];
    return names.filter((name) => {
      try {
        // Others mount, too: theirs may be gone by now, or be no regular files.
        const text = withFile(path.join(run, name), O_RDONLY | O_NONBLOCK, (fd) =>
          fs.readFileSync(fd, 'utf8'),
        );
        return text.includes(`"pid":${pid},`);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
        throw error;
      }
    });
  }

  const ways: readonly { name: string; end: (mountpoint: string, daemon: number) => void }[] = [
    { name: 'umount(8)', end: (mountpoint) => void tool('umount', mountpoint) },
    { name: 'fusermount3 -u', end: (mountpoint) => void tool('fusermount3', '-u', mountpoint) },
    { name: 'umount -l on an idle disk', end: (mountpoint) => void tool('umount', '-l', mountpoint) },
    ...(['SIGTERM', 'SIGINT', 'SIGHUP'] as const).map((signal) => ({
      name: `${signal} to the daemon`,
      end: (_: string, daemon: number) => void process.kill(daemon, signal),
    })),
  ];
  for (const transport of TRANSPORTS) {
    describe(`with the ${transport} transport`, () => {
      const args = ['--transport', transport];

      for (const { name, end } of ways) {
        it(`comes with ${name}`, async () => {
          const { mountpoint, disk, log } = mountOn(defer, image, scratch.subdir(), args);
          const daemon = daemonOf(mountpoint);
          expect(sha256(disk)).to.equal(expected);
          end(mountpoint, daemon);
          await expectEnded(mountpoint, daemon, log);
        });
      }

      it('is complete when qcow2fs umount returns', async () => {
        const { mountpoint, log } = mountOn(defer, image, scratch.subdir(), args);
        const daemon = daemonOf(mountpoint);
        expectQcow2fs(['umount', mountpoint]);
        expect(isRunning(daemon)).to.equal(false);
        await expectEnded(mountpoint, daemon, log);
      });

      it('is refused in one line while the disk is open, which stays readable', () => {
        const { mountpoint, disk } = mountOn(defer, image, scratch.subdir(), args);
        const file = open(disk);
        const { status, stdout, stderr } = qcow2fs(['umount', mountpoint]);
        expect(stderr).to.match(/^qcow2fs: [^\n]+ in use[^\n]+\n$/);
        expect(stderr).to.contain(mountpoint);
        expect(stdout).to.equal('');
        expect(status).to.equal(9);
        expectBytes(file.fd, 5 * MiB);
        expect(sha256(disk)).to.equal(expected);
        file.close();
        expectQcow2fs(['umount', mountpoint]);
      });

      it('waits after a lazy unmount for the last reader, who misses nothing', async () => {
        const { mountpoint, disk, log } = mountOn(defer, image, scratch.subdir(), args);
        const daemon = daemonOf(mountpoint);
        const file = open(disk);
        tool('umount', '-l', mountpoint);
        expect(mountsAt(mountpoint)).to.deep.equal([]);
        for (let offset = 0; offset < raw.length; offset += MiB) expectBytes(file.fd, offset);
        expect(isRunning(daemon)).to.equal(true);
        file.close();
        await expectEnded(mountpoint, daemon, log);
      });

      it('after SIGTERM takes a disk in use away at once and lets its reader finish', async () => {
        const { mountpoint, disk, log } = mountOn(defer, image, scratch.subdir(), args, { env: patient });
        const daemon = daemonOf(mountpoint);
        const file = open(disk);
        process.kill(daemon, 'SIGTERM');
        await waitUntil('the disk is gone', () => mountsAt(mountpoint).length === 0);
        expectBytes(file.fd, 12 * MiB);
        file.close();
        await expectEnded(mountpoint, daemon, log);
      });

      // contrib/docs/guide.md: "SIGTERM removes a busy disk at once, and its users have five seconds to finish."
      // The kernel transport waits the five seconds.
      it('comes to a reader who does not finish after SIGTERM', async () => {
        const env = transport === 'kernel' ? process.env : hurried;
        const { mountpoint, disk } = mountOn(defer, image, scratch.subdir(), args, { env });
        const daemon = daemonOf(mountpoint);
        const file = open(disk);
        process.kill(daemon, 'SIGTERM');
        await waitUntil(`daemon ${daemon} has ended`, () => !isRunning(daemon));
        expect(mountsAt(mountpoint)).to.deep.equal([]);
        expect(() => read(file.fd, 13 * MiB)).to.throw(/ENOTCONN|ECONNABORTED|EIO/);
        expect(stateFilesOf(daemon)).to.deep.equal([]);
      });
    });
  }

  it('does not wait for readers after a second signal', async () => {
    const { mountpoint, disk } = mountOn(defer, image, scratch.subdir());
    const daemon = daemonOf(mountpoint);
    const file = open(disk);
    process.kill(daemon, 'SIGTERM');
    await waitUntil('the disk is gone', () => mountsAt(mountpoint).length === 0);
    process.kill(daemon, 'SIGTERM');
    await waitUntil(`daemon ${daemon} has ended`, () => !isRunning(daemon));
    expect(() => read(file.fd, 13 * MiB)).to.throw(/ENOTCONN|ECONNABORTED|EIO/);
  });

  it('is refused while a loop device uses the disk', () => {
    const { mountpoint, disk } = mountOn(defer, image, scratch.subdir());
    const loop = attachLoop(defer, disk, '--read-only');
    const { status, stderr } = qcow2fs(['umount', mountpoint]);
    expect(stderr).to.match(/^qcow2fs: [^\n]*losetup[^\n]*\n$/);
    expect(status).to.equal(9);
    expect(sha256(loop)).to.equal(expected);
  });

  describe('by kill -9 of its daemon', () => {
    for (const transport of TRANSPORTS) {
      it(`leaves a mount that list calls dead and umount cleans up, with the ${transport} transport`, async () => {
        const { mountpoint } = mountOn(defer, image, scratch.subdir(), ['--transport', transport]);
        const daemon = daemonOf(mountpoint);
        process.kill(daemon, 'SIGKILL');
        await waitUntil(`daemon ${daemon} has ended`, () => !isRunning(daemon));
        const listed = JSON.parse(expectQcow2fs(['list', '--json'])).mounts as Record<string, unknown>[];
        const entry = listed.find((candidate) => candidate['mountpoint'] === mountpoint);
        expect(entry).to.include({ state: 'dead', pid: daemon, image });

        const refused = qcow2fs(['mount', '-r', image, mountpoint]);
        expect(refused.stderr).to.match(/^qcow2fs: [^\n]*qcow2fs umount[^\n]*\n$/);
        expect(refused.status).to.equal(9);

        expectQcow2fs(['umount', mountpoint]);
        expect(mountsAt(mountpoint)).to.deep.equal([]);
        expect(stateFilesOf(daemon)).to.deep.equal([]);
        const again = mountOn(defer, image, mountpoint);
        expect(sha256(again.disk)).to.equal(expected);
        expectQcow2fs(['umount', mountpoint]);
      });
    }

    it('gives an error, and no wait, to who has the disk open', async () => {
      const { mountpoint, disk } = mountOn(defer, image, scratch.subdir());
      const daemon = daemonOf(mountpoint);
      const file = open(disk);
      process.kill(daemon, 'SIGKILL');
      await waitUntil(`daemon ${daemon} has ended`, () => !isRunning(daemon));
      expect(() => read(file.fd, 14 * MiB)).to.throw(/ENOTCONN|ECONNABORTED|EIO/);
    });
  });

  describe('in the foreground', () => {
    for (const transport of TRANSPORTS) {
      it(`comes with SIGINT and status 0, and the log on standard error, with the ${transport} transport`, async () => {
        const mountpoint = scratch.subdir();
        const args = ['mount', '-r', '--foreground', '--transport', transport, image, mountpoint];
        const child = spawn(process.execPath, [BIN, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
        defer(() => {
          child.kill('SIGKILL');
          endMount(mountpoint);
        });
        let output = '';
        for (const stream of [child.stdout, child.stderr]) {
          stream.setEncoding('utf8').on('data', (text: string) => {
            output += text;
          });
        }
        const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
        await waitUntil('the log says that it is mounted', () => output.includes('mounted on'));
        const disk = path.join(mountpoint, 'disk.raw');
        expect((await fs.promises.readFile(disk)).equals(raw)).to.equal(true);
        child.kill('SIGINT');
        expect(await ended).to.equal(0);
        expect(output).to.match(
          /^\S+ qcow2fs\[\d+\]: .*: mounted on .*\n\S+ qcow2fs\[\d+\]: .*: unmounted\n$/,
        );
        expect(mountsAt(mountpoint)).to.deep.equal([]);
      });
    }

    it('comes with umount(8) and status 0', async () => {
      const mountpoint = scratch.subdir();
      const child = spawn(process.execPath, [BIN, 'mount', '-r', '-f', image, mountpoint], {
        stdio: 'ignore',
      });
      defer(() => {
        child.kill('SIGKILL');
        endMount(mountpoint);
      });
      const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
      await waitUntil('it is mounted', () => mountsAt(mountpoint).length > 0);
      await waitUntil('it can be unmounted', () => tryTool('umount', mountpoint).status === 0);
      expect(await ended).to.equal(0);
    });

    it('does not begin, with one line and a status, when the image is bad', () => {
      const mountpoint = scratch.subdir();
      const { status, stderr } = qcow2fs(['mount', '-r', '-f', BIN, mountpoint]);
      expect(stderr).to.match(/^qcow2fs: [^\n]*not a qcow2 image[^\n]*\n$/);
      expect(status).to.equal(4);
    });
  });

  it('is refused where nothing is mounted', () => {
    const { status, stderr } = qcow2fs(['umount', dir]);
    expect(stderr).to.match(/^qcow2fs: [^\n]*no qcow2fs disk is mounted there[^\n]*\n$/);
    expect(status).to.equal(9);
  });

  it('is refused for mounts of other programs, which stay', () => {
    const place = scratch.subdir();
    tool('mount', '-t', 'tmpfs', 'none', place);
    defer(() => void tool('umount', place));
    const { status, stderr } = qcow2fs(['umount', place]);
    expect(stderr).to.match(/^qcow2fs: [^\n]*no qcow2fs disk is mounted there[^\n]*\n$/);
    expect(status).to.equal(9);
    expect(mountsAt(place)).to.deep.equal([place]);
  });
});
