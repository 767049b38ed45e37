/** What the tests of `mount --loop` share: disks with partitions, attached, and what must be left of them. */

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import type { Defer } from '../support/clean-up.js';
import { type Image, imagePath, MiB, qemuImg } from '../support/images.js';
import { logLines, mountsAt } from '../support/mounts.js';
import { expectQcow2fs, type RunAs } from '../support/qcow2fs.js';
import { run, SBIN, tool } from '../support/run.js';
import type { Scratch } from '../support/scratch.js';

const PARTITIONS = 'label: gpt\n,16M\n,16M\n';

export interface Attached {
  readonly mountpoint: string;
  readonly disk: string;
  /** The loop device, and its partitions. */
  readonly devices: readonly string[];
  /** Whether the disk is still attached: by then another process may use a device of the same name. */
  isAttached(): boolean;
}

export interface Loops {
  partitioned(): Image;
  attach(image: Image, args?: readonly string[], mountpoint?: string, runAs?: RunAs): Attached;
  loopsOf(place: string): string[];
  logText(mountpoint: string): string;
  expectNothing(place: string): void;
}

function makeTemplate(dir: string): string {
  const raw = path.join(dir, 'disk.raw');
  fs.writeFileSync(raw, '');
  fs.truncateSync(raw, 64 * MiB);
  run('sfdisk', ['-q', raw], { input: PARTITIONS, env: { ...process.env, PATH: SBIN } });
  qemuImg(dir, ['convert', '-f', 'raw', '-O', 'qcow2', raw, 'image.qcow2']);
  return path.join(dir, 'image.qcow2');
}

export function useLoops(scratch: Scratch, defer: Defer): Loops {
  let template: string | undefined;

  /** A new image with two partitions. */
  function partitioned(): Image {
    const image: Image = { dir: scratch.subdir(), name: 'image.qcow2', openOptions: [] };
    template ??= makeTemplate(scratch.subdir());
    fs.copyFileSync(template, imagePath(image));
    return image;
  }

  function attach(
    image: Image,
    args: readonly string[] = [],
    mountpoint = scratch.subdir(),
    runAs: RunAs = {},
  ): Attached {
    const log = `${mountpoint}.log`;
    defer(() => {
      for (const loop of loopsOf(mountpoint)) spawnSync('losetup', ['--detach', loop]);
      spawnSync('umount', ['-l', mountpoint]);
    });
    const words = ['mount', '--log', log, '--loop', ...args, imagePath(image), mountpoint];
    const output = expectQcow2fs(words, runAs);
    const disk = fs.statSync(mountpoint).isFile() ? mountpoint : path.join(mountpoint, 'disk.raw');
    const devices = output.trimEnd().split('\n');
    const sequence = sequenceOf(devices[0]!);
    const isAttached = (): boolean => sequenceOf(devices[0]!) === sequence;
    defer(() => {
      // Unmounted lazily it has no path any more.
      if (isAttached()) spawnSync('losetup', ['--detach', devices[0]!]);
    });
    return { mountpoint, disk, devices, isAttached };
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

  return { partitioned, attach, loopsOf, logText, expectNothing };
}
