/** Names that are not UTF-8: as image, backing file, overlay, secret, log, mountpoint and name of the disk. */

import { isUtf8 } from 'node:buffer';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { useCleanUp } from '../support/clean-up.js';
import { createImage, imagePath, MiB, writeSecret, writeSteps } from '../support/images.js';
import { BIN } from '../support/qcow2fs.js';
import { useScratch } from '../support/scratch.js';
import { NOBODY, programFor, useOrdinaryUser } from '../support/users.js';

/** Every byte above 0x7f, but for those that would be UTF-8 together. */
const ODD = Buffer.concat([Buffer.from('o d\\d'), Buffer.from([0xe9, 0x80, 0xff, 0xc3])]);
/** As JSON has them: `src/names.ts`. */
const ODD_TEXT = 'o d\\d\udce9\udc80\udcff\udcc3';
/** The name for a shell, whose arguments can be bytes as those of spawn cannot. */
const SHELL = `odd="$(printf 'o d\\\\d\\351\\200\\377\\303')"\n`;

describe('names that are not UTF-8', () => {
  const scratch = useScratch();
  const defer = useCleanUp();
  const home = scratch.path('home');
  useOrdinaryUser(home);
  let dir: string;
  let program: string;

  /** `dir` is the working directory, `odd` the name. */
  function shell(script: string, user: object = {}): string {
    const { status, stdout, stderr } = spawnSync('sh', ['-ec', `${SHELL}${script}`], {
      cwd: dir,
      env: { PATH: `${process.env['PATH']}:/usr/sbin:/sbin`, HOME: home, qcow2fs: program },
      timeout: 60_000,
      ...user,
    });
    expect(stderr.toString()).to.equal('');
    expect(status).to.equal(0);
    expect(isUtf8(stdout)).to.equal(true);
    return stdout.toString();
  }

  const listed = (text: string): Record<string, unknown> | undefined =>
    (JSON.parse(text).mounts as Record<string, unknown>[]).find(
      ({ mountpoint }) => mountpoint === `${dir}/${ODD_TEXT}.m`,
    );

  beforeEach(() => {
    dir = fs.mkdtempSync(path.join(scratch.dir, 'dir-'));
    fs.chmodSync(dir, 0o777);
    program = BIN;
    const mountpoint = Buffer.concat([Buffer.from(`${dir}/`), ODD, Buffer.from('.m')]);
    fs.mkdirSync(mountpoint, 0o777);
    fs.chmodSync(mountpoint, 0o777);
    defer(() => spawnSync('sh', ['-c', `${SHELL} cd "${dir}" && umount -q -l "$odd.m"`]));
  });

  it('are mounted, shown, and unmounted, with everything that such names lead to', () => {
    const key = writeSecret(dir, 'open sesame', 'key');
    const made = createImage(dir, {
      name: 'base',
      size: 2 * MiB,
      secret: key,
      encryption: ['encrypt.format=luks', 'encrypt.iter-time=10'],
    });
    writeSteps(made, 1, [{ do: 'data', offset: 0, length: MiB }]);
    const output = shell(`
      mv base "$odd"; mv key "$odd.key"
      qemu-img create -q -u -f qcow2 -b "$odd" -F qcow2 "$odd.top" 2M
      "$qcow2fs" mount --overlay "$odd.new" --name "$odd.raw" --log "$odd.log" --secret-file "$odd.key" "$odd.top" "$odd.m"
      "$qcow2fs" list --json
      sha256sum < "$odd.m/$odd.raw" > sum
      "$qcow2fs" umount "$odd.m"
      "$qcow2fs" hash --secret-file "$odd.key" "$odd.new" > hash
      test -s "$odd.log"
      test "$(cut -c1-64 sum)" = "$(cut -c1-64 hash)"`);
    expect(listed(output)).to.include({
      image: `${dir}/${ODD_TEXT}.top`,
      disk: `${dir}/${ODD_TEXT}.m/${ODD_TEXT}.raw`,
      log: `${dir}/${ODD_TEXT}.log`,
      state: 'mounted',
    });
    // QEMU finds the backing files by the bytes that the images hold.
    shell('test "$(qemu-img info --backing-chain "$odd.new" | grep -c ^image:)" = 3');
    expect(fs.readdirSync(dir).sort()).to.have.length(8);
  });

  it('can be attached to a loop device, and unmounted from within a directory of such a name', () => {
    createImage(dir, { name: 'image', size: 2 * MiB });
    const output = shell(`
      mkdir "$odd"; mv image "$odd/image"
      cd "$odd"
      "$qcow2fs" mount --loop --log log image ../"$odd.m"
      "$qcow2fs" list --json
      "$qcow2fs" umount ../"$odd.m"`);
    expect(output).to.match(/^\/dev\/loop\d+\n\{/);
    const { loop, image } = listed(output.slice(output.indexOf('{')))!;
    expect(output.startsWith(`${loop}\n`)).to.equal(true);
    expect(image).to.equal(`${dir}/${ODD_TEXT}/image`);
  });

  it('are mounted by ordinary users, by a descriptor too', () => {
    const image = imagePath(createImage(dir, { name: 'image', size: 2 * MiB }));
    fs.chmodSync(image, 0o666);
    fs.chownSync(Buffer.concat([Buffer.from(`${dir}/`), ODD, Buffer.from('.m')]), NOBODY.uid, NOBODY.gid);
    const command = programFor(home);
    program = command.join(' ');
    const output = shell(
      `cp image "$odd"
       $qcow2fs mount --log "$odd.log" /dev/fd/7 "$odd.m" 7<> "$odd"
       $qcow2fs list --json
       $qcow2fs umount "$odd.m"
       $qcow2fs mount -o ro --log "$odd.log" "$odd" "$odd.m"
       $qcow2fs umount "$odd.m"`,
      NOBODY,
    );
    expect(listed(output)).to.include({ image: `${dir}/${ODD_TEXT}`, userId: NOBODY.uid });
  });
});
