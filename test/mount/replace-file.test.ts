import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { replaceFile } from '../../src/host/replace-file.js';
import { setAccess } from '../support/access-list.js';
import { useScratch } from '../support/scratch.js';
import { canRead, NOBODY, STRANGER } from '../support/users.js';

describe('a file that is replaced as a whole', () => {
  const scratch = useScratch();
  let dir: string;
  let file: string;

  before(() => {
    for (let at = scratch.dir; at.includes('qcow2fs-test-'); at = path.dirname(at)) fs.chmodSync(at, 0o755);
  });
  beforeEach(() => {
    dir = scratch.subdir();
    fs.chmodSync(dir, 0o755);
    file = path.join(dir, 'map');
    fs.writeFileSync(file, 'old');
  });

  function expectReplaced(): void {
    expect(fs.readFileSync(file, 'utf8')).to.equal('new');
    expect(fs.readdirSync(dir)).to.deep.equal(['map']);
  }

  it('keeps its owner, group and permissions', () => {
    fs.chownSync(file, NOBODY.uid, STRANGER.gid);
    fs.chmodSync(file, 0o2640);
    const inode = fs.statSync(file).ino;
    replaceFile(file, 'new');
    expectReplaced();
    const { uid, gid, mode, ino } = fs.statSync(file);
    expect([uid, gid, mode & 0o7777]).to.deep.equal([NOBODY.uid, STRANGER.gid, 0o2640]);
    expect(ino).not.to.equal(inode);
  });

  it('keeps its access control list', () => {
    fs.chmodSync(file, 0o640);
    fs.chownSync(file, 0, STRANGER.gid);
    // The bits of the group are those of the mask now: the group itself may nothing.
    setAccess(file, { user: 6, users: { [NOBODY.uid]: 4 }, group: 0, mask: 4, other: 0 });
    for (const text of ['middle', 'new']) {
      replaceFile(file, text);
      expect(fs.statSync(file).mode & 0o777).to.equal(0o640);
      expect(canRead(file, NOBODY), text).to.equal(true);
      expect(canRead(file, STRANGER), text).to.equal(false);
    }
    expectReplaced();
  });

  it('gets none from its directory', () => {
    const everybody = { user: 7, users: { [NOBODY.uid]: 7 }, group: 7, mask: 7, other: 7 };
    setAccess(dir, everybody, 'default');
    fs.chmodSync(file, 0o640);
    replaceFile(file, 'new');
    expectReplaced();
    expect(canRead(file, NOBODY)).to.equal(false);
  });

  it('is written to where an ordinary user cannot give a new one to the owner', () => {
    fs.chmodSync(dir, 0o777);
    fs.chownSync(file, NOBODY.uid, NOBODY.gid);
    fs.chmodSync(file, 0o602);
    const { ino } = fs.statSync(file);
    process.seteuid!(STRANGER.uid);
    try {
      replaceFile(file, 'new');
    } finally {
      process.seteuid!(0);
    }
    expectReplaced();
    const after = fs.statSync(file);
    expect([after.uid, after.mode & 0o777, after.ino]).to.deep.equal([NOBODY.uid, 0o602, ino]);
  });

  it('takes the place of a link, and leaves what that leads to', () => {
    const target = path.join(scratch.subdir(), 'target');
    fs.renameSync(file, target);
    fs.chownSync(target, NOBODY.uid, NOBODY.gid);
    fs.symlinkSync(target, file);
    replaceFile(file, 'new');
    expectReplaced();
    const { uid } = fs.lstatSync(file);
    expect(uid).to.equal(0);
    expect(fs.readFileSync(target, 'utf8')).to.equal('old');
  });
});
