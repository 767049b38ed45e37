import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import {
  isAlive,
  type MountState,
  readFailure,
  readState,
  removeState,
  writeState,
} from '../../../src/daemon/state.js';
import { processStartTime } from '../../../src/host/processes.js';

/** No file system has this major number. */
const DEVICE = `4095:${process.pid}`;

function state(changes: Partial<MountState> = {}): MountState {
  return {
    pid: process.pid,
    startTime: processStartTime(process.pid) ?? '',
    since: 1,
    image: '/i',
    mountpoint: '/m',
    disk: '/m/disk.raw',
    size: 512,
    transport: 'kernel',
    threads: 2,
    log: '/l',
    ...changes,
  };
}

describe('the state of a mount', () => {
  const userId = process.getuid!();
  afterEach(() => removeState(DEVICE, userId, process.pid));

  it('is read as it was written, until it is removed', () => {
    expect(readState(DEVICE, userId)).to.equal(undefined);
    writeState(DEVICE, state());
    expect(readState(DEVICE, userId)).to.deep.equal(state());
    writeState(DEVICE, state({ size: 1024 }));
    expect(readState(DEVICE, userId)?.size).to.equal(1024);
    removeState(DEVICE, userId, process.pid);
    removeState(DEVICE, userId, process.pid);
    expect(readState(DEVICE, userId)).to.equal(undefined);
  });

  it('stays when it tells of another process', () => {
    writeState(DEVICE, state());
    removeState(DEVICE, userId, process.pid + 1);
    expect(readState(DEVICE, userId)).to.deep.equal(state());
  });

  it('is not mistaken for that of the next mount with the same device number', () => {
    const later = process.ppid;
    writeState(DEVICE, state());
    writeState(DEVICE, state({ pid: later, startTime: processStartTime(later)!, since: 2, image: '/j' }));
    writeState(DEVICE, state({ failure: 'no space' }));
    try {
      expect(readState(DEVICE, userId)?.image).to.equal('/j');
      expect(readFailure(DEVICE, userId, later)).to.equal(undefined);
      expect(readFailure(DEVICE, userId, process.pid)).to.equal('no space');
      removeState(DEVICE, userId, process.pid);
      expect(readState(DEVICE, userId)?.image).to.equal('/j');
    } finally {
      removeState(DEVICE, userId, later);
    }
  });

  it('of a killed daemon goes when the next one writes its own, and a failure is kept', () => {
    const { pid } = spawnSync('true');
    const failed = spawnSync('true').pid;
    try {
      writeState(DEVICE, state({ pid }));
      writeState(DEVICE, state({ pid: failed, since: 2, failure: 'no space' }));
      writeState(DEVICE, state({ since: 0 }));
      expect(readState(DEVICE, userId)?.pid).to.equal(process.pid);
      expect(readFailure(DEVICE, userId, pid)).to.equal(undefined);
      expect(readFailure(DEVICE, userId, failed)).to.equal('no space');
      removeState(DEVICE, userId, failed);
      expect(readState(DEVICE, userId)?.pid).to.equal(process.pid);
    } finally {
      removeState(DEVICE, userId, failed);
    }
  });

  it('is nothing when the file is no state', () => {
    writeState(DEVICE, state());
    const file = ['/run/qcow2fs', `/tmp/qcow2fs-${userId}`, `/run/user/${userId}/qcow2fs`]
      .map((directory) => path.join(directory, `${DEVICE.replace(':', '-')}.${process.pid}.json`))
      .find((candidate) => fs.existsSync(candidate))!;
    const sound = fs.readFileSync(file, 'utf8');
    for (const text of ['null', '{', '{"pid":"1"}', '[]', sound.padEnd(100_000)]) {
      fs.writeFileSync(file, text);
      expect(readState(DEVICE, userId), text).to.equal(undefined);
    }
    fs.rmSync(file);
    spawnSync('mkfifo', [file]);
    expect(readState(DEVICE, userId), 'a FIFO').to.equal(undefined);
    fs.rmSync(file);
    fs.writeFileSync(`${file}.elsewhere`, sound);
    fs.symlinkSync(`${file}.elsewhere`, file);
    expect(readState(DEVICE, userId), 'a link').to.equal(undefined);
    fs.rmSync(file);
    fs.renameSync(`${file}.elsewhere`, file);
    expect(readState(DEVICE, userId), 'the same as a file').to.deep.equal(state());
  });

  it('of another user is not read from this user', () => {
    writeState(DEVICE, state());
    expect(readState(DEVICE, userId + 54321)).to.equal(undefined);
  });

  it('tells a live process from a dead one, and from a later one of the same number', () => {
    expect(isAlive(state())).to.equal(true);
    expect(isAlive(state({ startTime: '1' }))).to.equal(false);
    const { pid } = spawnSync('true');
    expect(isAlive(state({ pid }))).to.equal(false);
    expect(processStartTime(pid)).to.equal(undefined);
  });
});
