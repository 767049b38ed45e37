/** A clean root, booted by systemd in namespaces of its own, with the units and the line of fstab that a user would write. */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { LET_GO } from '../support/mount-namespace.js';
import { ROOT } from '../support/qcow2fs.js';
import { run } from '../support/run.js';
import type { CleanRoot } from './clean-root.js';

const SCRIPT = path.join(ROOT, 'test/system/boot.sh');
/** What systemd needs to boot, and to have sessions of users. */
export const SYSTEMD = ['systemd-sysv', 'dbus-user-session', 'libpam-systemd'] as const;
const UNITS = '/etc/systemd/system/multi-user.target.wants';
const MINUTES = 60_000;

const PROBE = `[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/bin/sh /share/boot.sh
`;

/**
 * Writes what mounts plain.qcow2 and fstab.qcow2 of the share, and the example image, when the system boots.
 * @param share a directory outside the system, in which it will find boot.sh, and leave what it says
 */
export function prepareBoot(system: CleanRoot, share: string, secret: Buffer): void {
  const write = (name: string, text: string | Buffer, mode = 0o644): void => {
    const file = system.path(name);
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.writeFileSync(file, text, { mode });
  };
  const wanted = (unit: string, instance = unit): void => {
    fs.mkdirSync(system.path(UNITS), { recursive: true });
    fs.symlinkSync(`/usr/lib/systemd/system/${unit}`, system.path(`${UNITS}/${instance}`));
  };
  write('/etc/qcow2fs/plain.conf', 'IMAGE=/share/plain.qcow2\nMOUNTPOINT=/mnt/plain\n');
  const words = 'ro,secret-file=credential:secret';
  write('/etc/qcow2fs/luks.conf', `IMAGE=/srv/example.qcow2\nMOUNTPOINT=/mnt/luks\nOPTIONS=${words}\n`);
  write('/etc/credstore/qcow2fs.luks', secret, 0o600);
  const after = 'nofail,x-systemd.requires-mounts-for=/share';
  // As for a file system on a disk, which has to go before it.
  const inner = 'tmpfs /mnt/inner tmpfs nofail,x-systemd.requires=qcow2fs@plain.service 0 0';
  write('/etc/fstab', `/share/fstab.qcow2 /mnt/fstab fuse.qcow2fs ${after} 0 0\n${inner}\n`);
  write('/etc/qcow2fs/a\\x20b.conf', 'IMAGE=/share/plain.qcow2\nMOUNTPOINT=/mnt\n');
  for (const name of ['plain', 'luks', 'fstab', 'inner']) fs.mkdirSync(system.path(`/mnt/${name}`));
  for (const name of ['plain', 'luks']) wanted('qcow2fs@.service', `qcow2fs@${name}.service`);
  write('/usr/lib/systemd/system/probe.service', PROBE);
  wanted('probe.service');
  fs.copyFileSync(SCRIPT, path.join(share, 'boot.sh'));
  // Ordinary users may open this one.
  run('mknod', ['--mode=666', path.join(share, 'fuse'), 'c', '10', '229']);
}

/** Boots, and returns when the system has powered itself off: what it said, by name. */
export function boot(system: CleanRoot, share: string): Record<string, string> {
  const machine = `qcow2fs-test-${process.pid}`;
  const options = [
    `--directory=${system.dir}`,
    `--machine=${machine}`,
    '--boot',
    '--register=no',
    '--keep-unit',
  ];
  const binds = [`--bind=${share}:/share`, `--bind=${path.join(share, 'fuse')}:/dev/fuse`];
  const powers = ['--capability=all', '--system-call-filter=@mount', '--property=DeviceAllow=/dev/fuse rw'];
  const command = ['systemd-nspawn', '--quiet', ...options, ...binds, ...powers];
  const { status, stdout, stderr } = spawnSync(
    'unshare',
    ['--mount', 'sh', '-c', `${LET_GO}; exec "$@"`, 'sh', ...command],
    {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: 5 * MINUTES,
      killSignal: 'SIGKILL',
    },
  );
  // Where /run is no file system of its own, it leaves this.
  fs.rmSync(`/run/systemd/nspawn/propagate/${machine}`, { recursive: true, force: true });
  const said = path.join(share, 'said');
  const text = fs.existsSync(said) ? fs.readFileSync(said, 'utf8') : '';
  if (status !== 0 || !text.includes('\ngone: ')) {
    throw new Error(`the system did not boot: status ${status}\n${text}\n${stderr}\n${stdout.slice(-4000)}`);
  }
  return Object.fromEntries(
    text.split('\n').map((line) => [line.split(': ', 1)[0], line.replace(/^\w+: /, '')]),
  );
}
