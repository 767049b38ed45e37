/** `qcow2fs IMAGE MOUNTPOINT -o LIST`, as mount(8) and /etc/fstab have it. */

import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { useCleanUp } from '../support/clean-up.js';
import { sha256 } from '../support/files.js';
import { createImage, imagePath, MiB, takeSnapshot, writeSecret, writeSteps } from '../support/images.js';
import { endMount, mountsAt } from '../support/mounts.js';
import { BIN, expectQcow2fs, type Outcome, qcow2fs } from '../support/qcow2fs.js';
import { tool } from '../support/run.js';
import { useScratch } from '../support/scratch.js';

describe('the short form', () => {
  const scratch = useScratch();
  const defer = useCleanUp();
  const dir = scratch.subdir();
  let plain: string;
  let plainHash: string;
  let luks: string;
  let key: string;
  let mountpoint: string;

  before(() => {
    const made = createImage(dir, { size: MiB });
    writeSteps(made, 1, [{ do: 'data', offset: 0, length: MiB / 2 }]);
    plainHash = takeSnapshotHash(made);
    plain = imagePath(made);
    const secret = writeSecret(dir, 'open, sesame', 'secret, file');
    key = secret.file;
    // QEMU takes a comma in a secret's file name doubled.
    const forQemu = { ...secret, file: secret.file.replaceAll(',', ',,') };
    fs.writeFileSync(path.join(dir, 'plain-secret'), 'open, sesame');
    const encryption = ['encrypt.format=luks', 'encrypt.iter-time=10'];
    const usable = { ...forQemu, file: path.join(dir, 'plain-secret') };
    luks = imagePath(createImage(dir, { name: 'luks.qcow2', size: MiB, secret: usable, encryption }));
  });
  beforeEach(() => {
    mountpoint = scratch.subdir();
    defer(() => endMount(mountpoint));
  });

  function takeSnapshotHash(made: Parameters<typeof takeSnapshot>[0]): string {
    const { expected } = takeSnapshot(made, 'first', '1');
    return sha256(expected);
  }

  function expectMounted({ status, stderr }: Outcome, file = 'disk.raw'): string {
    expect(stderr).to.equal('');
    expect(status).to.equal(0);
    expect(fs.readdirSync(mountpoint)).to.deep.equal([file]);
    return path.join(mountpoint, file);
  }

  it('mounts with the words of -o', () => {
    const disk = expectMounted(qcow2fs([plain, mountpoint, '-o', 'ro']));
    expect(sha256(disk)).to.equal(plainHash);
  });

  it('takes every option as a word, commas behind a backslash', () => {
    const words = [
      'ro',
      `secret-file=${key.replaceAll(',', '\\,')}`,
      'secret_format=raw',
      'name=a\\,b.img',
      'threads=3',
      'transport=kernel',
      `log=${dir}/log`,
      `allow-dir=${dir}`,
      'allow_other',
    ];
    expectMounted(qcow2fs([luks, mountpoint, '-o', words.join(',')]), 'a,b.img');
    const listed = JSON.parse(expectQcow2fs(['list', '--json'])).mounts as Record<string, unknown>[];
    expect(listed.find((entry) => entry['mountpoint'] === mountpoint)).to.include({
      disk: path.join(mountpoint, 'a,b.img'),
      threads: 3,
      transport: 'kernel',
      log: `${dir}/log`,
    });
  });

  it('takes the options before the arguments, and in several lists', () => {
    const disk = expectMounted(qcow2fs(['-o', 'ro', plain, '-o', 'name=x,snapshot=first', mountpoint]), 'x');
    expect(sha256(disk)).to.equal(plainHash);
  });

  it('accepts what fstab and mount(8) add: defaults, nofail, x-systemd and the like', () => {
    const words =
      'ro,defaults,noauto,user,nofail,_netdev,dev,suid,exec,relatime,x-systemd.automount,comment=x';
    expectMounted(qcow2fs([plain, mountpoint, '-o', words]));
  });

  it('takes what other FUSE file systems take: owner, name in the mount table, a directory with files', () => {
    const hidden = path.join(mountpoint, 'hidden');
    fs.writeFileSync(hidden, '');
    expect(qcow2fs([plain, mountpoint, '-o', 'ro']).stderr).to.contain('not empty');
    for (const transport of ['kernel', 'libfuse']) {
      const words = `ro,nonempty,uid=1234,gid=2345,fsname=a name,max_read=4096,transport=${transport}`;
      const disk = expectMounted(qcow2fs([plain, mountpoint, '-o', words]));
      expect(fs.statSync(disk)).to.include({ uid: 1234, gid: 2345 });
      expect(tool('findmnt', '-no', 'SOURCE', mountpoint).trim()).to.equal('a name');
      const listed = JSON.parse(expectQcow2fs(['list', '--json'])).mounts as Record<string, unknown>[];
      expect(listed.find((entry) => entry['mountpoint'] === mountpoint)).to.include({ image: plain });
      expectQcow2fs(['umount', mountpoint]);
    }
    expect(fs.existsSync(hidden)).to.equal(true);
  });

  it('is what mount(8) calls, through mount.fuse3, for the type fuse.qcow2fs', () => {
    const bin = scratch.path('bin');
    fs.mkdirSync(bin);
    fs.symlinkSync(BIN, path.join(bin, 'qcow2fs'));
    const options = `ro,secret-file=${path.join(dir, 'plain-secret')}`;
    const script = 'PATH="$1:$PATH" mount.fuse3 "$3" "$4" -t fuse.qcow2fs -o "$2"';
    tool('sh', '-c', script, 'sh', bin, options, luks, mountpoint);
    expect(fs.readdirSync(mountpoint)).to.deep.equal(['disk.raw']);
    tool('umount', mountpoint);
    expect(mountsAt(mountpoint)).to.deep.equal([]);
  });

  it('without -r or ro mounts a disk that can be written', () => {
    const { status, stderr } = qcow2fs([plain, mountpoint]);
    expect({ status, stderr }).to.deep.equal({ status: 0, stderr: '' });
    const fd = fs.openSync(path.join(mountpoint, 'disk.raw'), 'r+');
    fs.closeSync(fd);
  });
});
