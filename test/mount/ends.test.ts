/** How a mount ends: asked, told, or killed. */

import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { convertToRaw, createImage, imagePath, KiB, MiB, writeSteps } from '../support/images.js';
import { BIN, expectQcow2fs, qcow2fs, ROOT } from '../support/qcow2fs.js';
import { useScratch } from '../support/scratch.js';
import {
  attachLoop,
  daemonOf,
  daemonsOf,
  endMount,
  isRunning,
  logLines,
  mountOn,
  mountsAt,
  sha256,
  tool,
  useCleanUp,
  waitUntil,
} from './support.js';

const TRANSPORTS = ['kernel', 'libfuse'] as const;

describe('the end of a mount', () => {
  const scratch = useScratch();
  const defer = useCleanUp();
  const dir = scratch.subdir();
  let image: string;
  let raw: Buffer;
  let expected: string;

  before(() => {
    const made = createImage(dir, { size: 8 * MiB });
    writeSteps(made, 1, [{ do: 'data', offset: 0, length: 7 * MiB }]);
    image = imagePath(made);
    const converted = convertToRaw(made);
    raw = fs.readFileSync(converted);
    expected = sha256(converted);
  });

  function open(disk: string): { fd: number; close: () => void } {
    const fd = fs.openSync(disk, 'r');
    let isOpen = true;
    const close = (): void => {
      if (isOpen) fs.closeSync(fd);
      isOpen = false;
    };
    defer(close);
    return { fd, close };
  }

  function expectBytes(fd: number, offset: number): void {
    const bytes = Buffer.alloc(64 * KiB);
    expect(fs.readSync(fd, bytes, 0, bytes.length, offset)).to.equal(bytes.length);
    expect(bytes.equals(raw.subarray(offset, offset + bytes.length))).to.equal(true);
  }

  /** What is true after every clean end. */
  async function expectEnded(mountpoint: string, daemon: number, log: string): Promise<void> {
    await waitUntil(`daemon ${daemon} has ended`, () => !isRunning(daemon));
    expect(mountsAt(mountpoint)).to.deep.equal([]);
    expect(fs.readdirSync(mountpoint)).to.deep.equal([]);
    expect(logLines(log).at(-1)).to.equal(`${image}: unmounted`);
    expect(stateFiles(daemon)).to.deep.equal([]);
  }

  const ways: readonly { name: string; end: (mountpoint: string, daemon: number) => void }[] = [
    { name: 'qcow2fs umount', end: (mountpoint) => void expectQcow2fs(['umount', mountpoint]) },
    { name: 'umount(8)', end: (mountpoint) => void tool('umount', mountpoint) },
    { name: 'fusermount3 -u', end: (mountpoint) => void tool('fusermount3', '-u', mountpoint) },
    { name: 'a lazy umount(8) of an idle disk', end: (mountpoint) => void tool('umount', '-l', mountpoint) },
    ...(['SIGTERM', 'SIGINT', 'SIGHUP'] as const).map((signal) => ({
      name: `${signal} to the daemon`,
      end: (_: string, daemon: number) => void process.kill(daemon, signal),
    })),
  ];
  for (const transport of TRANSPORTS) {
    for (const { name, end } of ways) {
      it(`comes with ${name}, with the ${transport} transport`, async () => {
        const args = ['--transport', transport];
        const { mountpoint, disk, log } = mountOn(defer, image, scratch.subdir(), args);
        const daemon = daemonOf(mountpoint);
        expectBytes(open(disk).fd, 3 * MiB);
        for (const fd of [disk]) expect(sha256(fd)).to.equal(expected);
        closeAll(disk);
        end(mountpoint, daemon);
        await expectEnded(mountpoint, daemon, log);
      });
    }
  }

  /** Closes what this process has open of the mounted disk. */
  function closeAll(disk: string): void {
    for (const name of fs.readdirSync('/proc/self/fd')) {
      try {
        if (fs.readlinkSync(`/proc/self/fd/${name}`) === disk) fs.closeSync(Number(name));
      } catch {
        // The directory's own descriptor is gone by now.
      }
    }
  }

  it('is complete when qcow2fs umount returns: the daemon has gone', () => {
    for (const transport of TRANSPORTS) {
      const { mountpoint } = mountOn(defer, image, scratch.subdir(), ['--transport', transport]);
      const daemon = daemonOf(mountpoint);
      expectQcow2fs(['umount', mountpoint]);
      expect(isRunning(daemon), transport).to.equal(false);
    }
  });
});
