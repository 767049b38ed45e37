/** A mount namespace of its own, where a test may change what mount(8) finds below /usr/sbin and in /etc/fstab. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { BIN, type Outcome, ROOT, type RunAs } from './qcow2fs.js';
import type { Scratch } from './scratch.js';

/**
 * A shell command that drops the mounts of other tests, which a new namespace copies. As long as a copy exists, the
 * daemon of a disk that was unmounted elsewhere does not end, and a loop device stays attached.
 */
export const LET_GO = String.raw`{
sed -nE 's|^([^ ]+ ){4}([^ ]*/qcow2fs-test-[^ ]*) .*|\2|p' /proc/self/mountinfo |
  xargs -rd '\n' umount --no-mtab --no-canonicalize --internal-only --lazy
umount --no-mtab --internal-only --lazy --all --types fuse.qcow2fs
} 2>/dev/null || :`;

/** As LET_GO, but for the mount on `$1`. */
export const LET_GO_OF_OTHERS = String.raw`
sed -nE 's|^([^ ]+ ){4}([^ ]*/qcow2fs-test-[^ ]*) .*|\2|p' /proc/self/mountinfo | grep -vxF "$1" |
  xargs -rd '\n' umount --no-mtab --no-canonicalize --internal-only --lazy 2>/dev/null || :
`;

/**
 * As LET_GO, for namespaces in which root mounts disks: also gives them their own directory of mount states. A mount
 * removes the states of dead mounts that are not in its namespace, and other tests need theirs.
 */
export const ON_OUR_OWN = `${LET_GO}
mkdir -p -m 700 /run/qcow2fs
mount -t tmpfs -o mode=700 none /run/qcow2fs`;

/** /usr/sbin with everything that it had, the helpers and the program; and a table of file systems. */
const SETUP = `
set -e
${ON_OUR_OWN}
mount --bind /usr/sbin "$1/host-sbin"
cp -rs "$1/host-sbin/." "$1/sbin/"
[ -z "$2" ] || cp "$2"/*mount.fuse.qcow2fs "$1/sbin/"
mount --bind "$1/sbin" /usr/sbin
mount --bind "$1/fstab" /etc/fstab
echo ready
exec cat
`;

export interface MountNamespace {
  /** What /etc/fstab says from now on. */
  fstab(...lines: readonly string[]): void;
  /** Runs a program in it, whatever its outcome. */
  run(command: readonly string[], options?: RunAs): Outcome;
}

/**
 * Is there while the surrounding `describe` runs. To be called there.
 * @param program what `qcow2fs` is, as words of a command
 * @param helpers whether mount(8) finds the program's own helpers
 */
export function useMountNamespace(
  scratch: Scratch,
  program: () => readonly string[] = () => [BIN],
  helpers = true,
): MountNamespace {
  const dir = scratch.subdir();
  const fstab = path.join(dir, 'fstab');
  let holder: ChildProcess | undefined;

  before(async () => {
    for (const name of ['host-sbin', 'sbin']) fs.mkdirSync(path.join(dir, name));
    fs.writeFileSync(fstab, '');
    fs.writeFileSync(path.join(dir, 'sbin/qcow2fs'), `#!/bin/sh\nexec ${program().join(' ')} "$@"\n`, {
      mode: 0o755,
    });
    const words = ['-c', SETUP, 'sh', dir, helpers ? path.join(ROOT, 'contrib', 'mount') : ''];
    holder = spawn('unshare', ['--mount', 'sh', ...words], { stdio: ['pipe', 'pipe', 'inherit'] });
    const [ready] = await Promise.race([once(holder.stdout!, 'data'), once(holder, 'exit')]);
    if (!String(ready).startsWith('ready')) throw new Error('there is no namespace');
  });
  after(async () => {
    if (holder === undefined) return;
    const ended = once(holder, 'exit');
    holder.stdin!.end();
    await ended;
  });

  return {
    fstab: (...lines) => fs.writeFileSync(fstab, `${lines.join('\n')}\n`),
    run([command, ...args], { uid, gid, ...options } = {}) {
      const user = uid === undefined ? [] : ['setpriv', `--reuid=${uid}`, `--regid=${gid}`, '--clear-groups'];
      const words = ['--target', String(holder!.pid), '--mount', ...user, command!, ...args];
      const result = spawnSync('nsenter', words, { encoding: 'utf8', timeout: 120_000, ...options });
      if (result.error) throw result.error;
      return { status: result.status, stdout: result.stdout, stderr: result.stderr };
    },
  };
}
