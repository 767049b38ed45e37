/** A thread of the daemon dies: the mount ends, nobody waits for ever, and what was acknowledged is there. */

import fs from 'node:fs';
import { expect } from 'chai';
import { useCleanUp } from '../support/clean-up.js';
import { withFile } from '../support/files.js';
import { convertToRaw, createImage, expectNoCorruption, imagePath, removeLeaks } from '../support/images.js';
import { lane } from '../support/lane.js';
import {
  daemonOf,
  daemonsOf,
  endDaemon,
  isRunning,
  logLines,
  mountsAt,
  mountWritableOn,
} from '../support/mounts.js';
import { withNodeOptions } from '../support/node-options.js';
import { SECTOR_SIZE } from '../support/pattern.js';
import { expectQcow2fs, qcow2fs } from '../support/qcow2fs.js';
import { useScratch } from '../support/scratch.js';
import { waitUntil } from '../support/wait.js';
import type { DyingWay } from './dying-thread.js';
import { LOADED_BYTES, writeUntilEnded } from './stamping-load.js';
import { ExpectedDisk } from './stamps.js';

const PRELOAD = new URL('./dying-thread.js', import.meta.url).href;
/** Lines that the writers print before it happens. */
const LINES = 60;
const SEED = 3;

const WAYS: readonly { readonly way: DyingWay; readonly name: string; readonly reason: RegExp }[] = [
  { way: 'request', name: 'of an exception at a request', reason: /: the mount broke down: injected$/ },
  { way: 'reply', name: 'of an exception at a reply', reason: /: the mount broke down: injected$/ },
  { way: 'data', name: 'in the middle of a write', reason: /: the mount broke down: a thread died/ },
  { way: 'sync', name: 'in the middle of a flush', reason: /: the mount broke down: a thread died/ },
];

const LOADS = [
  [1, 'direct'],
  [2, 'buffered'],
  [8, 'synchronous'],
] as const;

describe('a thread of the daemon that dies', () => {
  const scratch = useScratch();
  const defer = useCleanUp();

  for (const [index, { way, name, reason }] of WAYS.entries()) {
    // Pairwise: two loads for each way of dying.
    const some = LOADS.filter((_, number) => number !== index % LOADS.length);
    for (const [threads, mode] of lane<readonly (typeof LOADS)[number][]>(some, LOADS)) {
      it(`${name} ends the mount, but loses nothing: one of ${threads}, ${mode} writers`, async () => {
        const image = createImage(scratch.subdir(), { size: LOADED_BYTES });
        const mountpoint = scratch.subdir();
        const trigger = `${mountpoint}.trigger`;
        const env = {
          ...withNodeOptions(`--import ${PRELOAD}`),
          DYING_WAY: way,
          DYING_TRIGGER: trigger,
        };
        const args = ['--threads', String(threads)];
        const { disk, log } = mountWritableOn(defer, imagePath(image), mountpoint, args, { env });
        const daemon = daemonOf(mountpoint);
        const file = fs.openSync(disk, fs.constants.O_RDWR | fs.constants.O_DIRECT);
        defer(() => closeDead(file));
        defer(() => endDaemon(daemon));
        const expected = new ExpectedDisk(LOADED_BYTES / SECTOR_SIZE);
        const { acknowledged } = await writeUntilEnded(defer, disk, daemon, mode, expected, {
          until: LINES,
          seed: SEED,
          next: 1,
          end: () => fs.writeFileSync(trigger, ''),
        });
        expect(fs.existsSync(`${trigger}.taken`), 'a thread died').to.equal(true);
        expect(acknowledged).to.be.greaterThan(0);

        // Who has the disk open learns that it is no more.
        const gone = /ENOTCONN|ECONNABORTED|EIO/;
        expect(() => fs.readSync(file, Buffer.alloc(512), 0, 512, 0)).to.throw(gone);
        expect(() => fs.writeSync(file, Buffer.alloc(512), 0, 512, 0)).to.throw(gone);
        expect(() => fs.fsyncSync(file)).to.throw(gone);
        expect(logLines(log).filter((line) => reason.test(line))).to.have.lengthOf(1);

        await waitUntil('the daemon has ended', () => !isRunning(daemon));
        expect(mountsAt(mountpoint)).to.deep.equal([]);
        expect(daemonsOf(mountpoint)).to.deep.equal([]);
        expect(qcow2fs(['list', '--json']).stdout).not.to.contain(mountpoint);
        expectNoCorruption(image);
        expected.verify(convertToRaw(image));

        const again = mountWritableOn(defer, imagePath(image), mountpoint);
        withFile(again.disk, 'r+', (fd) => fs.writeSync(fd, Buffer.alloc(9000), 0, 9000, 4000));
        expectQcow2fs(['umount', mountpoint]);
        removeLeaks(image);
      });
    }
  }
});

/** close(2) asks a daemon that is no more; the descriptor is gone all the same. */
function closeDead(fd: number): void {
  try {
    fs.closeSync(fd);
  } catch (error) {
    if (!/ENOTCONN|ECONNABORTED|EIO/.test(String(error))) throw error;
  }
}
