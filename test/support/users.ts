/** The ordinary users as whom tests run the program. */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { MARK } from './marked-processes.js';
import { BIN, type Outcome, ROOT, type RunAs } from './qcow2fs.js';
import { tool } from './run.js';

/** System users of Debian: fusermount3 mounts only for users that have a name. */
const USERS = ['nobody', 'games', 'news', 'proxy', 'irc', 'list', 'uucp', 'lp'] as const;

/**
 * The ordinary user of this test process. A user has one state directory and one log, so processes that run side by
 * side need different users: the runner gives each process a slot (QCOW2FS_SLOT).
 */
export const NOBODY = userOf(Number(process.env['QCOW2FS_SLOT'] ?? 0));

/** A user without a name, different from the ordinary user of every process. */
export const STRANGER = { uid: 64007, gid: 64007 } as const;

/** @throws Error when the system has no such user */
function userOf(slot: number): { readonly uid: number; readonly gid: number } {
  const name = USERS[slot % USERS.length]!;
  const ids = new RegExp(`^${name}:[^:]*:(\\d+):(\\d+):`, 'm').exec(fs.readFileSync('/etc/passwd', 'utf8'));
  if (ids === null) throw new Error(`/etc/passwd has no user ${name}, whom slot ${slot} needs`);
  return { uid: Number(ids[1]), gid: Number(ids[2]) };
}

/** Whether a user can read a file, asked of the kernel. */
export function canRead(file: string, user: { uid: number; gid: number }): boolean {
  return spawnSync('cat', [file], { ...user, stdio: 'ignore' }).status === 0;
}

/**
 * Lets ordinary users run the program and use /dev/fuse while the surrounding `describe` runs. To be called there.
 * @returns runs `qcow2fs ARGS` as NOBODY, whatever its outcome
 */
export function useOrdinaryUser(home: string): (args: readonly string[], options?: RunAs) => Outcome {
  let command: readonly string[] = [];
  let mode: number | undefined;
  let stateIsOurs = false;
  const state = `/tmp/qcow2fs-${NOBODY.uid}`;

  before(() => {
    mode = openDevice();
    stateIsOurs = !fs.existsSync(state);
    fs.mkdirSync(home);
    fs.chownSync(home, NOBODY.uid, NOBODY.gid);
    for (let dir = path.dirname(home); dir.includes('qcow2fs-test-'); dir = path.dirname(dir)) {
      fs.chmodSync(dir, 0o755);
    }
    command = programFor(home);
  });
  after(() => {
    if (mode !== undefined) fs.chmodSync('/dev/fuse', mode);
    if (stateIsOurs) fs.rmSync(state, { recursive: true, force: true });
  });

  return (args, options = {}) => {
    const env = { PATH: process.env['PATH'], HOME: home };
    const result = spawnSync(command[0]!, [...command.slice(1), ...args], {
      encoding: 'utf8',
      timeout: 120_000,
      cwd: '/',
      env,
      ...NOBODY,
      ...options,
    });
    if (result.error) throw result.error;
    return { status: result.status, stdout: result.stdout, stderr: result.stderr };
  };
}

/**
 * Gives everybody access to /dev/fuse.
 * @returns the mode to restore, or undefined: under the runner, other test files need the device as well
 */
function openDevice(): number | undefined {
  const mode = fs.statSync('/dev/fuse').mode & 0o7777;
  if (mode === 0o666) return undefined;
  fs.chmodSync('/dev/fuse', 0o666);
  return process.env[MARK] === undefined ? mode : undefined;
}

/** The program where NOBODY can run it: a checkout below /root is closed to others, so the program is copied then. */
export function programFor(home: string): string[] {
  const here = [process.execPath, BIN];
  if (canRun(here)) return here;
  const copy = path.join(path.dirname(home), 'program');
  const shipped = fs.existsSync(copy) ? [] : ['bin', 'dist/app', 'package.json', ...dependencies()];
  for (const name of shipped) {
    fs.cpSync(fs.realpathSync(path.join(ROOT, name)), path.join(copy, name), { recursive: true });
  }
  let node = process.execPath;
  if (!canRun([node])) {
    node = path.join(copy, 'node');
    if (!fs.existsSync(node)) fs.copyFileSync(process.execPath, node);
  }
  tool('chmod', '-R', 'go+rX', copy);
  return [node, path.join(copy, 'bin/qcow2fs')];
}

function canRun(command: readonly string[]): boolean {
  return spawnSync(command[0]!, [...command.slice(1), '--version'], { ...NOBODY, cwd: '/' }).status === 0;
}

/** Installed packages that the program needs, by package-lock.json. */
function dependencies(): string[] {
  const { packages } = JSON.parse(fs.readFileSync(path.join(ROOT, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { dev?: boolean }>;
  };
  const places = Object.entries(packages).filter(([place, { dev }]) => place !== '' && dev !== true);
  return places.map(([place]) => place).filter((place) => fs.existsSync(path.join(ROOT, place)));
}
