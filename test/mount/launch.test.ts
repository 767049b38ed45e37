/** The processes of a mount in the background: who waits, who serves, and what happens when one of them goes too early. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { useCleanUp } from '../support/clean-up.js';
import { createImage, imagePath, MiB } from '../support/images.js';
import { lane } from '../support/lane.js';
import { daemonOf, daemonsOf, endMount, isRunning, mountsAt, openFilesOf } from '../support/mounts.js';
import { BIN, expectQcow2fs, ROOT } from '../support/qcow2fs.js';
import { type Scratch, useScratch } from '../support/scratch.js';
import { waitUntil } from '../support/wait.js';

const EXAMPLE = path.join(ROOT, 'contrib/example');
const IMAGE = path.join(EXAMPLE, 'example.qcow2');
const FOREGROUND = ['-f', '-rf', '--foreground', '-oforeground'];

const PROGRAMS = [
  { name: 'bin/qcow2fs', command: [BIN], flags: FOREGROUND },
  { name: 'node bin/qcow2fs', command: [process.execPath, BIN], flags: lane(['-f'], FOREGROUND) },
] as const;

/** The file in a checkout is readable by everybody, which causes a warning. */
function copySecret(scratch: Scratch): string {
  const key = scratch.path('secret');
  fs.writeFileSync(key, fs.readFileSync(path.join(EXAMPLE, 'secret')), { mode: 0o600 });
  return key;
}

for (const { name, command, flags } of PROGRAMS) {
  describe(`a mount by ${name}`, () => {
    const scratch = useScratch();
    const defer = useCleanUp();
    const [file, ...first] = command;
    const key = copySecret(scratch);
    let mountpoint: string;
    let args: string[];

    beforeEach(() => {
      mountpoint = scratch.subdir();
      args = [...first, 'mount', '-r', '--log', `${mountpoint}.log`, '--secret-file', key, IMAGE, mountpoint];
      defer(() => endMount(mountpoint));
    });

    async function start(): Promise<{
      child: ChildProcess;
      daemon: number;
      stderr: () => string;
      ended: Promise<number | null>;
    }> {
      const child = spawn(file, args, { stdio: ['ignore', 'ignore', 'pipe'] });
      let stderr = '';
      child.stderr!.setEncoding('utf8').on('data', (text: string) => {
        stderr += text;
      });
      const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
      await waitUntil('there is a daemon', () => daemonsOf(mountpoint).length > 0);
      return { child, daemon: daemonOf(mountpoint), stderr: () => stderr, ended };
    }

    it('never begins when the command is killed before the disk is ready', async () => {
      const { child, daemon } = await start();
      process.kill(daemon, 'SIGSTOP');
      const exited = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGKILL');
      await exited;
      process.kill(daemon, 'SIGCONT');
      await waitUntil(`daemon ${daemon} has ended`, () => !isRunning(daemon));
      expect(mountsAt(mountpoint)).to.deep.equal([]);
    });

    it('fails with one line when the daemon is killed before the disk is ready', async () => {
      const { daemon, stderr, ended } = await start();
      process.kill(daemon, 'SIGKILL');
      expect(await ended).to.equal(1);
      expect(stderr()).to.match(/^qcow2fs: the daemon ended before [^\n]* log [^\n]*\n$/);
      expect(mountsAt(mountpoint)).to.deep.equal([]);
    });

    it('leaves a daemon that holds nothing of its caller', () => {
      const words = ['-c', '"$@"; echo done', 'sh', file, ...args];
      // Comes back only when nobody else has the pipes open.
      const { status, stdout, stderr } = spawnSync('sh', words, {
        cwd: mountpoint,
        encoding: 'utf8',
        timeout: 120_000,
      });
      expect({ status, stdout, stderr }).to.deep.equal({ status: 0, stdout: 'done\n', stderr: '' });
      const daemon = daemonOf(mountpoint);
      const at = (link: string): string => fs.readlinkSync(`/proc/${daemon}/${link}`);
      expect([at('cwd'), at('fd/0'), at('fd/1'), at('fd/2')]).to.deep.equal([
        '/',
        '/dev/null',
        `${mountpoint}.log`,
        `${mountpoint}.log`,
      ]);
      const stat = fs.readFileSync(`/proc/${daemon}/stat`, 'utf8').split(') ')[1]!.split(' ');
      expect(stat.slice(2, 4), 'process group and session').to.deep.equal([`${daemon}`, `${daemon}`]);
      expectQcow2fs(['umount', mountpoint]);
    });

    it('works without standard input and output', () => {
      const { status, stderr } = spawnSync('sh', ['-c', 'exec "$@" <&- >&-', 'sh', file, ...args], {
        encoding: 'utf8',
      });
      expect(stderr).to.equal('');
      expect(status).to.equal(0);
      expectQcow2fs(['umount', mountpoint]);
    });

    it('can read the key from standard input', () => {
      const words = [
        file,
        ...first,
        'mount',
        '-r',
        '--log',
        `${mountpoint}.log`,
        '--secret-file',
        '/dev/stdin',
      ];
      const command = ['-c', `exec "$@" <'${key}'`, 'sh', ...words, IMAGE, mountpoint];
      const { status, stderr } = spawnSync('sh', command, { encoding: 'utf8' });
      expect(stderr).to.equal('');
      expect(status).to.equal(0);
      expectQcow2fs(['umount', mountpoint]);
    });

    it('can read the key from a descriptor that the caller opened', () => {
      for (const fd of lane([3, 4, 9], [3, 4, 5, 9])) {
        const words = [
          file,
          ...first,
          'mount',
          '-r',
          '--log',
          `${mountpoint}.log`,
          '--secret-file',
          `/dev/fd/${fd}`,
        ];
        const command = ['-c', `exec "$@" ${fd}<'${key}'`, 'sh', ...words, IMAGE, mountpoint];
        const { status, stderr } = spawnSync('sh', command, { encoding: 'utf8' });
        expect(stderr).to.equal('');
        expect(status).to.equal(0);
        expectQcow2fs(['umount', mountpoint]);
      }
    });

    it('presents an image by a descriptor that the caller opened, shows its name, and lets go of it', () => {
      const lock = `${mountpoint}.image`;
      fs.copyFileSync(IMAGE, lock);
      for (const by of ['/dev/fd/3', '/proc/self/fd/9', '/dev/stdin']) {
        const fd = by === '/dev/stdin' ? 0 : by.slice(-1);
        const words = [...args.slice(0, -2), by, mountpoint];
        // A lock of the caller ends with the caller, though the mount goes on.
        const script = `exec ${fd}<'${lock}'; flock -n ${fd} || exit 99; exec "$@"`;
        const { status, stderr } = spawnSync('sh', ['-c', script, 'sh', file, ...words], {
          encoding: 'utf8',
        });
        expect({ status, stderr }, by).to.deep.equal({ status: 0, stderr: '' });
        expect(expectQcow2fs(['list'])).to.match(new RegExp(`${mountpoint}/disk\\.raw .* ${lock}$`, 'm'));
        expect(spawnSync('flock', ['-n', lock, 'true']).status).to.equal(0);
        expectQcow2fs(['umount', mountpoint]);
      }
    });

    it('leaves the pipes of its caller as they were', () => {
      const script = '{ "$@"; cat /proc/self/fdinfo/1 >&2; } | cat';
      const { stderr } = spawnSync('sh', ['-c', script, 'sh', file, ...args], { encoding: 'utf8' });
      const flags = Number.parseInt(/^flags:\s*([0-7]+)/m.exec(stderr)![1]!, 8);
      expect(flags & fs.constants.O_NONBLOCK).to.equal(0);
      expectQcow2fs(['umount', mountpoint]);
    });

    it('holds no lock and no pipe that its caller has open besides', () => {
      const lock = `${mountpoint}.lock`;
      const script = `exec 7>&1; "$@" 9>'${lock}'; echo done`;
      const { stdout } = spawnSync('sh', ['-c', script, 'sh', file, ...args], {
        encoding: 'utf8',
        timeout: 120_000,
      });
      expect(stdout).to.equal('done\n');
      const targets = [...openFilesOf(daemonOf(mountpoint)).values()];
      expect(targets).to.include(IMAGE);
      expect(targets).not.to.include(lock);
      expectQcow2fs(['umount', mountpoint]);
    });

    for (const flag of flags) {
      it(`is the process of the command itself with ${flag}`, async () => {
        const child = spawn(file, [...args, flag], { stdio: 'ignore' });
        defer(() => child.kill('SIGKILL'));
        const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
        await waitUntil('it is mounted', () => mountsAt(mountpoint).length > 0);
        await waitUntil('it can be read', () => fs.existsSync(path.join(mountpoint, 'disk.raw')));
        child.kill('SIGTERM');
        expect(await ended).to.equal(0);
        expect(mountsAt(mountpoint)).to.deep.equal([]);
      });
    }
  });
}

describe('bin/qcow2fs', () => {
  const scratch = useScratch();
  const defer = useCleanUp();

  it('says that Node is missing', () => {
    const { status, stderr } = spawnSync('/bin/sh', [BIN, '--version'], {
      env: { PATH: scratch.subdir() },
      encoding: 'utf8',
    });
    expect(stderr).to.match(/^qcow2fs: node is missing[^\n]*\n$/);
    expect(status).to.equal(1);
  });

  it('is found through links to it and to its directory', () => {
    const dir = scratch.subdir();
    fs.symlinkSync(BIN, path.join(dir, 'link'));
    fs.symlinkSync('link', path.join(dir, 'q'));
    fs.symlinkSync(path.dirname(BIN), path.join(dir, 'bin'));
    for (const command of [
      './q',
      './bin/qcow2fs',
      path.join(dir, 'bin/qcow2fs'),
      'sh q',
      'cd bin; sh qcow2fs',
    ]) {
      const { stderr, stdout } = spawnSync('sh', ['-c', `${command} --version`], {
        cwd: dir,
        encoding: 'utf8',
      });
      expect(stderr, command).to.equal('');
      expect(stdout, command).to.match(/^\d+\.\d+\.\d+\n$/);
    }
  });

  it('does not wait for a Node that is wrapped in a script', () => {
    const dir = scratch.subdir();
    const mountpoint = scratch.subdir();
    defer(() => endMount(mountpoint));
    fs.writeFileSync(path.join(dir, 'node'), `#!/bin/sh\n'${process.execPath}' "$@"\n`, { mode: 0o755 });
    const env = { ...process.env, PATH: `${dir}:${process.env['PATH']}` };
    const args = [
      'mount',
      '-r',
      '--log',
      `${mountpoint}.log`,
      '--secret-file',
      copySecret(scratch),
      IMAGE,
      mountpoint,
    ];
    // The script holds standard output and error as long as it lives.
    const { status } = spawnSync(BIN, args, { env, stdio: 'ignore', timeout: 120_000 });
    expect(status).to.equal(0);
    expect(daemonsOf(mountpoint)).to.have.length(1);
    expectQcow2fs(['umount', mountpoint]);
  });

  it('says that the program is not built', () => {
    const bin = path.join(scratch.subdir(), 'qcow2fs');
    fs.copyFileSync(BIN, bin);
    const { status, stderr } = spawnSync(bin, ['--version'], { encoding: 'utf8' });
    expect(stderr).to.match(/^qcow2fs: [^\n]*make build\n$/);
    expect(status).to.equal(1);
  });
});

describe('a daemon of an image without a key', () => {
  const scratch = useScratch();
  const defer = useCleanUp();

  it('opens no debugger for SIGUSR1', () => {
    const image = imagePath(createImage(scratch.subdir(), { size: MiB }));
    const mountpoint = scratch.subdir();
    const log = `${mountpoint}.log`;
    defer(() => endMount(mountpoint));
    expectQcow2fs(['mount', '-r', '--log', log, image, mountpoint]);
    const daemon = daemonOf(mountpoint);
    process.kill(daemon, 'SIGUSR1');
    // Node opens it in a thread of its own, which the process would wait for at its end.
    expectQcow2fs(['umount', mountpoint]);
    expect(fs.readFileSync(log, 'utf8')).to.match(/: unmounted\n$/);
    expect(fs.readFileSync(log, 'utf8')).not.to.match(/debugger/i);
  });
});
