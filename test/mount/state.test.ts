/** What other users write of their mounts, and root reads. */

import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { type MountState, readState, removeState } from '../../src/daemon/state.js';
import { useScratch } from '../support/scratch.js';

/** No file system has this major number, and nobody this number. */
const DEVICE = '4095:17';
const NAME = '4095-17';
const USER = 64099;

function state(changes: Partial<MountState> = {}): MountState {
  return {
    ...{ pid: 2 ** 30, startTime: '1', since: 1, image: '/i', mountpoint: '/m', disk: '/m/disk.raw' },
    ...{ size: 512, transport: 'kernel', threads: 2, log: '/l' },
    ...changes,
  };
}

describe('the state of a mount of another user', () => {
  const scratch = useScratch();
  const directory = `/tmp/qcow2fs-${USER}`;

  beforeEach(() => {
    fs.mkdirSync(directory, { mode: 0o700 });
    fs.chownSync(directory, USER, USER);
  });
  afterEach(() => fs.rmSync(directory, { recursive: true, force: true }));

  function write(name: string, content: MountState): string {
    const file = path.join(directory, name);
    fs.writeFileSync(file, JSON.stringify(content));
    fs.chownSync(file, USER, USER);
    return file;
  }

  it('is read from a directory that is his alone', () => {
    write(`${NAME}.1.json`, state());
    expect(readState(DEVICE, USER)).to.deep.equal(state());
    fs.chmodSync(directory, 0o770);
    expect(readState(DEVICE, USER), 'others may write').to.equal(undefined);
    fs.chmodSync(directory, 0o700);
    fs.chownSync(directory, USER + 1, USER);
    expect(readState(DEVICE, USER), 'of somebody else').to.equal(undefined);
    fs.chownSync(directory, USER, USER);
    const elsewhere = scratch.path('elsewhere');
    fs.renameSync(directory, elsewhere);
    fs.symlinkSync(elsewhere, directory);
    expect(readState(DEVICE, USER), 'a link').to.equal(undefined);
    removeState(DEVICE, USER, 1);
    expect(fs.readdirSync(elsewhere)).to.deep.equal([`${NAME}.1.json`]);
  });

  it('is not believed to be that of a process that is not his', () => {
    const startTime = fs.readFileSync('/proc/1/stat', 'utf8').replace(/.*\) /s, '').split(' ')[19]!;
    write(`${NAME}.1.json`, state({ pid: 1, startTime }));
    expect(readState(DEVICE, USER)).to.equal(undefined);
    write(`${NAME}.1.json`, state({ pid: 1, startTime: `${startTime}0` }));
    expect(readState(DEVICE, USER)?.pid, 'an earlier process of that number').to.equal(1);
  });

  it('has one of the known transports, and no endless texts', () => {
    for (const odd of [
      { transport: 'x' as 'kernel' },
      { disk: 'x'.repeat(10_000) },
      { failure: 'x'.repeat(10_000) },
    ]) {
      write(`${NAME}.1.json`, state(odd));
      expect(readState(DEVICE, USER)).to.equal(undefined);
    }
  });

  it('is looked for in so many files, and no more', () => {
    for (let pid = 0; pid < 1000; pid++) fs.writeFileSync(path.join(directory, `${NAME}.${pid}.json`), '');
    const open = fs.openSync;
    let opened = 0;
    fs.openSync = (...args) => {
      opened++;
      return open(...args);
    };
    try {
      expect(readState(DEVICE, USER)).to.equal(undefined);
    } finally {
      fs.openSync = open;
    }
    expect(opened).to.be.within(90, 120);
  });
});
