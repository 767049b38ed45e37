import fs from 'node:fs';
import { expect } from 'chai';
import { claimMountpoint } from '../../../src/daemon/mountpoint.js';
import { foreign } from '../../../src/host/libc.js';
import { useScratch } from '../../support/scratch.js';
import { expectError } from '../support/errors.js';

const LOCK_EX = 2;

describe('a mountpoint', () => {
  const scratch = useScratch();

  it('is claimed by one daemon at a time, and another one is free meanwhile', () => {
    const [first, second] = [scratch.subdir(), scratch.subdir()];
    const claim = claimMountpoint(first);
    expectError('mountpoint', [first, 'another qcow2fs is mounting there'], () => claimMountpoint(first));
    claimMountpoint(second).release();
    claim.release();
    claimMountpoint(first).release();
  });

  it('is not kept from us by a lock that everybody may take', () => {
    const place = scratch.subdir();
    const fd = fs.openSync(place, 'r');
    expect(foreign('int flock(int fd, int operation)')(fd, LOCK_EX)).to.equal(0);
    claimMountpoint(place).release();
    fs.closeSync(fd);
  });
});
