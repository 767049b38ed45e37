/** `qcow2fs mount`: presents an image as one raw file. */
import path from 'node:path';
import type { Command } from 'commander';
import { type DaemonConfig, DEFAULT_MODE } from '../daemon/config.js';
import type { ReadyListener } from '../daemon/daemon.js';
import { hasLauncher, launch } from '../daemon/launch.js';
import { inOwnDirectory } from '../daemon/state-directory.js';
import { hostReason, Qcow2fsError, toErrorRecord } from '../errors.js';
import fs from '../fs.js';
import { descriptorOf, nameOfOpenFile } from '../host/descriptors.js';
import { hasFuseDevice } from '../host/fuse-device.js';
import { refuseWithoutLoops } from '../host/loop-device.js';
import { CommandEnd, EXIT_FAILURE } from './exit-status.js';
import {
  addKeyOptions,
  addNamedFileOptions,
  collect,
  keysOf,
  namedFilesOf,
  readLockOf,
} from './image-options.js';
import {
  applyOptionLists,
  type MountFlags,
  parseAccess,
  parseFileName,
  parseMode,
  parseSectorSize,
  parseThreads,
  parseTransport,
  TEMPORARY_OVERLAY,
} from './mount-options.js';
import { warn } from './output.js';
import { absolutePath, resolveMountpoint } from './paths.js';

const STDOUT = 1;
const DEFAULT_NAME = 'disk.raw';
const DEFAULT_THREADS = '2';

export function addMountCommand(program: Command): void {
  const command = program
    .command('mount')
    .summary('present an image as one raw file')
    .description(
      'Presents IMAGE as one raw file. MOUNTPOINT is an empty directory, which then holds the file disk.raw, ' +
        'or a regular file, which then is the disk. Returns when the disk can be opened.',
    )
    .argument('IMAGE', 'a qcow2 image: a file or a block device')
    .argument('MOUNTPOINT', 'an empty directory, or a regular file')
    .option('-r, --read-only', 'open everything read-only and change nothing, not even a time stamp')
    .option(
      '-o, --option <list>',
      'options as mount(8) takes them: ro,allow_other,secret-file=FILE,...',
      collect,
    );
  addKeyOptions(command)
    .option('--snapshot <name>', 'present the internal snapshot of this ID or name')
    .option(
      '--overlay <file>',
      'send all writes to FILE, a new image above IMAGE; temp: gone after unmounting',
    )
    .option('--resizable', 'let the disk grow: truncate(1) and writes past its end')
    .option('--force-share', 'with -r: look at an image that a virtual machine is writing')
    .option('--ignore-locks', 'with -r: look at an image whatever locks others hold')
    .option(
      '--error-map <file>',
      'with -r: keep in FILE what could not be read, as a mapfile of GNU ddrescue',
    );
  addNamedFileOptions(command)
    .option('--loop', 'as root: attach the disk to a loop device with its partitions, and print the devices')
    .option(
      '--sector-size <bytes>',
      'with --loop: sectors of 512 or 4096 bytes (default: as the partition table says)',
    )
    .option('--allow-other', 'let other users open the disk, as --mode allows')
    .option(
      '--mode <mode>',
      'permissions of the disk, such as 0640, as far as the image grants them to the same people (default: 0600)',
    )
    .option('--name <name>', `the name of the file in a directory mountpoint (default: ${DEFAULT_NAME})`)
    .option('--threads <n>', `threads that serve requests (default: ${DEFAULT_THREADS})`)
    .option('--transport <kind>', 'kernel (fast, Linux) or libfuse (portable)')
    .option('--log <file>', 'where the daemon logs')
    .option('-f, --foreground', 'stay in the foreground and log to standard error')
    .addHelpText(
      'after',
      `
Examples:
  qcow2fs mount disk.qcow2 /mnt/x                               then use /mnt/x/disk.raw as a disk
  qcow2fs mount -r disk.qcow2 /mnt/x                            the same, and nothing can change
  qcow2fs mount -r --loop disk.qcow2 /mnt/x                     and its partitions as /dev/loop0p1, ...
  qcow2fs mount --overlay changes.qcow2 disk.qcow2 /mnt/x       what is written goes elsewhere
  qcow2fs mount -r --secret-file key.txt luks.qcow2 /mnt/x      a LUKS image
  qcow2fs mount -r --secret-file base.qcow2=base.key --secret-file key.txt luks.qcow2 /mnt/x
                                                                one whose backing file has another key
  qcow2fs mount -r --snapshot before-upgrade vm.qcow2 /mnt/x    a snapshot`,
    )
    .action(mount);
}

async function mount(image: string, mountpoint: string, flags: MountFlags): Promise<void> {
  const options = applyOptionLists(flags);
  // Before anything is read: a secret that comes through a pipe comes once.
  if (!options.foreground && !hasLauncher()) throw new CommandEnd(await launch());
  const config = toConfig(image, mountpoint, options);
  warnOfDirectories();
  if (options.foreground) await serveInForeground(config);
  else await serveInBackground(config, options.log);
}

/** The log would tell whoever looks there. */
function warnOfDirectories(): void {
  try {
    inOwnDirectory(() => {});
  } catch (error) {
    warn(`warning: ${toErrorRecord(error).message}`);
  }
}

async function serve(config: DaemonConfig, onReady: ReadyListener): Promise<void> {
  const { startThreads } = await import('../daemon/thread-pool.js');
  const threads = startThreads(config);
  const { runDaemon } = await import('../daemon/daemon.js');
  await runDaemon(config, threads, onReady);
}

async function serveInForeground(config: DaemonConfig): Promise<void> {
  let failure: unknown;
  await serve(config, (_, devices) => {
    try {
      if (devices.length > 0) fs.writeSync(STDOUT, `${devices.join('\n')}\n`);
    } catch (error) {
      failure = new Qcow2fsError('host-io', `standard output: ${hostReason(error)}`);
      process.kill(process.pid, 'SIGTERM');
    }
  });
  if (failure !== undefined) throw failure;
}

async function serveInBackground(config: DaemonConfig, logFile: string | undefined): Promise<void> {
  const { Background } = await import('../daemon/background.js');
  const log = logFile === undefined ? undefined : absolutePath(logFile);
  if (log !== undefined) assertNotCovered(log, config.mountpoint);
  const background = new Background(log, descriptorOf(config.imagePath));
  let failure: unknown;
  const release: ReadyListener = (disk, devices) => {
    try {
      background.release(disk, devices);
    } catch (error) {
      failure = error;
      process.kill(process.pid, 'SIGTERM');
    }
  };
  try {
    await serve({ ...config, log: background.log }, release);
    if (failure !== undefined) throw failure;
  } catch (error) {
    if (background.isReleased) throw new CommandEnd(EXIT_FAILURE);
    background.giveBack();
    throw error;
  }
}

/** @throws Qcow2fsError `usage` for a log that nobody could see while the disk is mounted */
function assertNotCovered(log: string, mountpoint: string): void {
  const directory = path.dirname(log);
  const real = fs.existsSync(directory) ? path.join(fs.realpathSync(directory), path.basename(log)) : log;
  if (real !== mountpoint && !real.startsWith(`${mountpoint}/`)) return;
  throw new Qcow2fsError('usage', `--log ${log}: the mounted disk would cover it; name a file elsewhere`);
}

function toConfig(image: string, mountpoint: string, options: MountFlags): DaemonConfig {
  const access = parseAccess(options);
  if (options.loop) refuseWithoutLoops();
  const { overlay } = options;
  const imagePath = absolutePath(image);
  return {
    image: nameOfOpenFile(imagePath),
    imagePath,
    mountpoint: resolveMountpoint(mountpoint, 'make it first: mkdir or touch'),
    name: parseFileName(options.name ?? DEFAULT_NAME),
    ...keysOf(options),
    snapshot: options.snapshot,
    ...namedFilesOf(options),
    writable: access !== 'reading',
    resizable: options.resizable ?? false,
    overlay: overlay === undefined || overlay === TEMPORARY_OVERLAY ? overlay : absolutePath(overlay),
    readLock: readLockOf(options),
    errorMap: options.errorMap === undefined ? undefined : absolutePath(options.errorMap),
    allowOther: options.allowOther ?? false,
    mode: options.mode === undefined ? DEFAULT_MODE : parseMode(options.mode),
    loop: options.loop ?? false,
    sectorSize: parseSectorSize(options),
    mountWords: options.mountWords ?? [],
    uid: options.uid,
    gid: options.gid,
    source: options.source,
    nonEmpty: options.nonEmpty ?? false,
    threads: parseThreads(options.threads ?? DEFAULT_THREADS),
    transport: parseTransport(options.transport ?? (hasFuseDevice() ? 'kernel' : 'libfuse')),
    log: undefined,
  };
}
