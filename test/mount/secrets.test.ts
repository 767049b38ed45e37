/** Keys: one for each image of a chain, from files, descriptors and credentials, and nowhere else afterwards. */
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { useCleanUp } from '../support/clean-up.js';
import { patchLuksSlot } from '../support/damage-luks.js';
import { sha256 } from '../support/files.js';
import { createImage, MiB, qemuImg, writeSecret, writeSteps } from '../support/images.js';
import { daemonOf, endMount, isRunning } from '../support/mounts.js';
import { BIN, type Outcome, qcow2fs, ROOT } from '../support/qcow2fs.js';
import { run } from '../support/run.js';
import { useScratch } from '../support/scratch.js';
import { NOBODY, useOrdinaryUser } from '../support/users.js';

const LUKS = ['encrypt.format=luks', 'encrypt.iter-time=10'];

// SECURITY.md: "A secret comes from a file, a descriptor or a systemd credential, never from an argument, the
// environment or a prompt."
describe('secrets', () => {
  const scratch = useScratch();
  const defer = useCleanUp();
  const home = scratch.path('home');
  const asUser = useOrdinaryUser(home);
  /** Unlike anything else in memory, and valid in a file name. */
  const passphrase = `passphrase-${randomBytes(24).toString('hex')}`;
  let dir: string;
  let overlay: string;
  let expected: string;
  let mountpoint: string;

  /** base.qcow2 (LUKS, base.key) below overlay.qcow2 (LUKS, overlay.key). */
  before(() => {
    dir = scratch.subdir();
    fs.chmodSync(dir, 0o755);
    const secret = writeSecret(dir, passphrase, 'base.key');
    const base = createImage(dir, { name: 'base.qcow2', size: 4 * MiB, secret, encryption: LUKS });
    writeSteps(base, 1, [{ do: 'data', offset: 0, length: MiB }]);
    overlay = path.join(dir, 'overlay.qcow2');
    writeSecret(dir, 'another one', 'overlay.key');
    const objects = ['base', 'overlay'].flatMap((name) => [
      '--object',
      `secret,id=${name},file=${dir}/${name}.key`,
    ]);
    const options = `${LUKS.join(',')},encrypt.key-secret=overlay`;
    qemuImg(dir, [
      ...['create', ...objects, '-q', '-f', 'qcow2', '-o', options],
      ...['-u', '-b', 'base.qcow2', '-F', 'qcow2', overlay, '4M'],
    ]);
    const opened = (name: string): object => ({
      driver: 'qcow2',
      file: { driver: 'file', filename: path.join(dir, `${name}.qcow2`) },
      'encrypt.key-secret': name,
    });
    const chain = `json:${JSON.stringify({ ...opened('overlay'), backing: opened('base') })}`;
    run('qemu-io', [...objects, '-c', 'write -P 0x5a 2M 1M', chain]);
    run('qemu-img', ['convert', ...objects, '-O', 'raw', chain, `${dir}/expected`]);
    expected = sha256(`${dir}/expected`);
  });
  beforeEach(() => {
    mountpoint = fs.mkdtempSync(path.join(dir, 'mnt-'));
    defer(() => endMount(mountpoint));
  });

  function mount(args: readonly string[], image = overlay, env: NodeJS.ProcessEnv = {}): Outcome {
    const log = ['--log', `${dir}/log`];
    return qcow2fs(['mount', '-r', ...log, ...args, image, mountpoint], {
      cwd: dir,
      env: { ...process.env, ...env },
    });
  }

  function expectDisk({ status, stderr }: Outcome): void {
    expect(stderr).to.equal('');
    expect(status).to.equal(0);
    expect(sha256(`${mountpoint}/disk.raw`)).to.equal(expected);
  }

  function expectRefusal({ status, stderr }: Outcome, ...words: string[]): void {
    expect(stderr).to.match(/^qcow2fs: [^\n]*\n$/);
    for (const word of words) expect(stderr).to.include(word);
    expect(stderr).not.to.include(passphrase);
    expect(status).to.be.oneOf([2, 7]);
  }

  for (const [title, args] of [
    ['one for the base, the other for all others', ['base.qcow2=base.key', 'overlay.key']],
    ['one for the overlay, the other for all others', ['overlay.qcow2=overlay.key', 'base.key']],
    ['each by the path of its image', ['./base.qcow2=base.key', './overlay.qcow2=./overlay.key']],
  ] as const) {
    it(`open a chain: ${title}`, () => {
      expectDisk(mount(args.flatMap((word) => ['--secret-file', word])));
    });
  }

  it('open a chain from the words of mount(8)', () => {
    expectDisk(mount(['-o', 'secret-file=base.qcow2=base.key,secret-file=overlay.key']));
  });

  it('come from a file whose name has an equals sign', () => {
    fs.copyFileSync(`${dir}/overlay.key`, `${dir}/a=b`);
    expectDisk(mount(['--secret-file', 'a=b', '--secret-file', 'base.qcow2=base.key']));
  });

  it('come from descriptors, pipes too', () => {
    const script = `exec 3<overlay.key; cat base.key |
      "${BIN}" mount -r --secret-file /dev/fd/3 --secret-file base.qcow2=/dev/stdin overlay.qcow2 "${mountpoint}"`;
    const { status, stderr, stdout } = spawnSync('sh', ['-c', script], { cwd: dir, encoding: 'utf8' });
    expectDisk({ status, stderr, stdout });
  });

  it('come from a pipe when Node was started with the script, too', () => {
    const script = `cat base.key | "${process.execPath}" "${BIN}" mount -r --secret-file overlay.qcow2=overlay.key \\
      --secret-file /dev/stdin overlay.qcow2 "${mountpoint}"`;
    const { status, stderr, stdout } = spawnSync('sh', ['-c', script], { cwd: dir, encoding: 'utf8' });
    expectDisk({ status, stderr, stdout });
  });

  it('come from the credentials of a unit', () => {
    const args = ['--secret-file', 'credential:base.key', '--secret-file', 'overlay.qcow2=overlay.key'];
    expectDisk(mount(args, overlay, { CREDENTIALS_DIRECTORY: dir }));
  });

  it('are refused where they are missing, and the line tells how to give this one', () => {
    expectRefusal(mount([]), 'overlay.qcow2', '--secret-file FILE');
    expectRefusal(mount(['--secret-file', 'overlay.qcow2=overlay.key']), '--secret-file base.qcow2=FILE');
    expectRefusal(mount(['--secret-file', 'overlay.key']), 'wrong secret', '--secret-file base.qcow2=FILE');
  });

  it('are refused where nothing wants them', () => {
    const both = ['--secret-file', 'base.qcow2=base.key', '--secret-file', 'overlay.key'];
    expectRefusal(mount([...both, '--secret-file', 'other.qcow2=base.key']), 'other.qcow2');
    expectRefusal(mount([...both, '--secret-file', 'base.key']), 'more than one', 'IMAGE=FILE');
    expectRefusal(
      mount([...both, '--secret-file', 'base.qcow2=overlay.key']),
      'more than one for base.qcow2',
    );
    expectRefusal(
      mount(['--secret-file', 'credential:x'], overlay, { CREDENTIALS_DIRECTORY: '' }),
      'LoadCredential=x',
    );
    expectRefusal(
      mount(['--secret-file', 'credential:../x'], overlay, { CREDENTIALS_DIRECTORY: dir }),
      '"/"',
    );
  });

  // SECURITY.md: "You are warned about a file that everyone may read"
  it('are read with a word of warning from a file that everybody may read', () => {
    fs.copyFileSync(`${dir}/base.key`, `${dir}/open.key`);
    fs.chmodSync(`${dir}/open.key`, 0o644);
    const { status, stderr } = mount(['--secret-file', 'open.key'], `${dir}/base.qcow2`);
    expect(stderr).to.match(/^qcow2fs: warning: [^\n]*open\.key: chmod 600 open\.key\n$/);
    expect(status).to.equal(0);
  });

  // SECURITY.md: "it is found nowhere in the daemon's memory, its log, its entry in `list` or its
  // environment"
  it('are nowhere afterwards: not in the memory of the daemon, its log, its list and its environment', () => {
    for (const format of ['raw', 'base64']) {
      const text = format === 'raw' ? passphrase : Buffer.from(passphrase).toString('base64');
      writeSecret(dir, text, 'one.key');
      const args = ['--secret-file', 'one.key', '--secret-format', format];
      expect(mount(args, `${dir}/base.qcow2`).stderr).to.equal('');
      const daemon = daemonOf(mountpoint);
      expect(occurrencesIn(daemon, passphrase), `as it is, from ${format}`).to.equal(0);
      if (format === 'base64') expect(occurrencesIn(daemon, text), 'in base64').to.equal(0);
      // Something that must be found, so that the search itself is seen to work.
      expect(occurrencesIn(daemon, 'base.qcow2')).to.be.above(0);
      for (const file of ['cmdline', 'environ']) {
        expect(fs.readFileSync(`/proc/${daemon}/${file}`, 'utf8')).not.to.include(passphrase);
      }
      expect(qcow2fs(['list', '--json']).stdout).not.to.include(passphrase);
      expect(fs.readFileSync(`${dir}/log`, 'utf8')).not.to.include(passphrase);
      endMount(mountpoint);
    }
  });

  // SECURITY.md: "A process that was given a secret leaves no core dump, opens no debugger, and only root can
  // look into its memory"
  it('and keys are out of reach of other processes of the same user, and of core dumps', () => {
    mountpoint = fs.mkdtempSync(path.join(home, 'mnt-'));
    defer(() => endMount(mountpoint));
    for (const name of ['base.qcow2', 'base.key']) {
      fs.copyFileSync(`${dir}/${name}`, path.join(home, name));
      fs.chownSync(path.join(home, name), NOBODY.uid, NOBODY.gid);
    }
    fs.chownSync(mountpoint, NOBODY.uid, NOBODY.gid);
    const key = path.join(home, 'base.key');
    const outcome = asUser(['mount', '--secret-file', key, path.join(home, 'base.qcow2'), mountpoint]);
    expect(outcome.stderr).to.equal('');
    const daemon = daemonOf(mountpoint);
    const look = spawnSync('head', ['-c', '0', `/proc/${daemon}/mem`], { ...NOBODY, encoding: 'utf8' });
    expect(look.stderr).to.include('Permission denied');
    // Node would open a debugger.
    spawnSync('kill', ['-USR1', String(daemon)], NOBODY);
    expect(fs.readFileSync(path.join(home, '.local/state/qcow2fs/qcow2fs.log'), 'utf8')).not.to.match(
      /[Dd]ebugger/,
    );
    expect(isRunning(daemon)).to.equal(true);
    expect(asUser(['umount', mountpoint]).stderr).to.equal('');
  });

  it('are tried only as long as the header does not ask for too much, and --max-iterations says how much that is', () => {
    const image = path.join(dir, 'costly.qcow2');
    fs.copyFileSync(`${dir}/base.qcow2`, image);
    patchLuksSlot(image, 0, 'iterations', 2_000_000_000);
    expectRefusal(mount(['--secret-file', 'base.key'], image), 'key slot 0', '--max-iterations');
    fs.copyFileSync(`${dir}/base.qcow2`, image);
    expectRefusal(mount(['--secret-file', 'base.key', '--max-iterations', '100'], image), '100 are allowed');
    expectRefusal(mount(['--secret-file', 'base.key', '--max-iterations', '0'], image), 'whole number');
    expect(mount(['--secret-file', 'base.key', '--max-iterations', '4000000000'], image).stderr).to.equal('');
  });

  /** How often the text is in the memory of a process. */
  function occurrencesIn(pid: number, text: string): number {
    const found = spawnSync(
      process.execPath,
      [path.join(ROOT, 'dist/test/mount/memory-search.js'), String(pid)],
      {
        input: text,
        encoding: 'utf8',
      },
    );
    if (found.status !== 0) throw new Error(found.stderr);
    return Number(found.stdout);
  }
});
