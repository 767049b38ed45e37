/**
 * The life of a mount: open the image, mount, serve until unmounted or told to stop, release everything. Runs in a
 * process of its own in the background, or in the command itself with --foreground.
 */
import path from 'node:path';
import type { Disk } from '../disk.js';
import { toErrorRecord } from '../errors.js';
import type { DiskFsOptions } from '../fuse/disk-fs.js';
import { allocateInode } from '../fuse/inode.js';
import type { OpenFile } from '../host/file-storage.js';
import { usableGroup } from '../host/grants.js';
import { becomeIoFlusher } from '../host/io-flusher.js';
import { exitAtOnce } from '../host/libc.js';
import { processStartTime } from '../host/processes.js';
import { notifyServiceManager } from '../host/service-manager.js';
import { onNotice } from '../notice.js';
import { attachDisk, filesOf, type Layers, openLayers } from '../qcow2/chain.js';
import { wipeKey } from '../qcow2/encryption.js';
import { removeOverlay } from '../qcow2/writing/overlay.js';
import { WatchedDisk } from '../watched-disk.js';
import type { DaemonConfig } from './config.js';
import { BlockCount } from './counting.js';
import { MountErrorMap } from './error-map.js';
import { startKernelSession } from './kernel-session.js';
import { startLibfuseSession } from './libfuse-session.js';
import { assertNoLog, FailureLog, log } from './log.js';
import { detachWhenUnmounted, type Loop, startLoop } from './loop.js';
import { claimMountpoint, type Mountpoint } from './mountpoint.js';
import { grantedMode } from './permissions.js';
import { detectSectorSize } from './sector-size.js';
import type { Session, SessionOptions } from './session.js';
import { type MountState, removeOwnState, writeState } from './state.js';
import { StopOnSignal } from './stop.js';
import type { ThreadPool } from './thread-pool.js';

/**
 * @param disk its path
 * @param devices what it is attached to: a loop device, and its partitions
 */
export type ReadyListener = (disk: string, devices: readonly string[]) => void;

/** How long what was written may wait for stable storage when nobody asks for it: milliseconds. */
const FLUSH_INTERVAL = 5000;
/** How long `list` may show what a disk had before it grew: milliseconds. */
const SIZE_INTERVAL = 1000;

/**
 * @param threads of `startThreads`; they end with the mount
 * @param onReady called once, when the disk can be opened
 * @returns when the file system is unmounted and every file is closed
 * @throws Qcow2fsError when the disk cannot be mounted; nothing is left then. When the service of a mounted disk breaks
 * down later, the process ends, after a line in the log.
 */
export async function runDaemon(
  config: DaemonConfig,
  threads: ThreadPool,
  onReady: ReadyListener,
): Promise<void> {
  let disk: Disk | undefined;
  let stop: StopOnSignal | undefined;
  let session: Session | undefined;
  let madeOverlay: OpenFile | undefined;
  let errorMap: MountErrorMap | undefined;
  try {
    const mountpoint = claimMountpoint(config.mountpoint, config.nonEmpty);
    // A signal that came while a new file is made must not leave it behind.
    if (config.overlay !== undefined) stop = new StopOnSignal(config.image);
    const failures = FailureLog.allocate();
    const noteFailure = new FailureLog(failures).note;
    onNotice(noteFailure);
    const layers = openAndWipe(config);
    assertNoLog(filesOf(layers));
    madeOverlay = config.overlay === undefined ? undefined : layers[0].file;
    disk = await attachDisk(layers);
    if (config.errorMap !== undefined) {
      errorMap = new MountErrorMap(config.errorMap, config.image, config.snapshot, disk.size);
      threads.onLosses(errorMap.add);
      if (config.transport === 'libfuse') {
        const watched = new WatchedDisk(disk, errorMap.add);
        onNotice((message, missing) => {
          noteFailure(message);
          if (missing !== undefined) watched.miss(missing, message);
        });
        disk = watched;
      }
    }
    stop ??= new StopOnSignal(config.image);
    const fsOptions = fsOptionsOf(config, layers, disk, mountpoint);
    const count = disk.readOnly ? new BlockCount(disk, fsOptions.inode) : undefined;
    const started = await startSession(config, mountpoint, layers, disk, fsOptions, threads, failures);
    const opened = disk;
    const file = diskFile(config, mountpoint);
    const attaching = config.loop
      ? startLoop(started, file, disk.readOnly, config.sectorSize ?? detectSectorSize(disk))
      : Promise.resolve(undefined);
    stop.mounted(started, {
      flush() {
        errorMap?.save();
        opened.flush();
      },
      release: async () => (await attaching.catch(() => undefined))?.detach(),
    });
    const loop = await attaching;
    session = started;
    if (!disk.readOnly) becomeIoFlusher();
    mountpoint.release();
    const flushing = flushRegularly(disk, new FailureLog(failures));
    try {
      await serve(config, session, disk, file, onReady, count, loop);
    } finally {
      clearInterval(flushing);
      errorMap?.save();
      wipeKeys(layers);
    }
  } catch (error) {
    threads.terminate();
    if (session === undefined) {
      if (madeOverlay !== undefined) removeOverlay(madeOverlay);
      errorMap?.discard();
      disk?.close();
    }
    throw error;
  } finally {
    stop?.dispose();
  }
}

/** The secrets have done their work then, or will not. */
function openAndWipe(config: DaemonConfig): Layers {
  try {
    return openLayers(config.imagePath, config);
  } finally {
    config.secret?.fill(0);
    for (const { secret } of config.imageSecrets) secret.fill(0);
  }
}

/** When no thread needs them any more. */
function wipeKeys(layers: Layers): void {
  for (const layer of layers) if (layer.kind === 'qcow2') wipeKey(layer.parameters.encryption);
}

/** As a file system does it: a crash of the machine costs seconds, not everything since the mount. */
function flushRegularly(disk: Disk, failures: FailureLog): NodeJS.Timeout | undefined {
  if (disk.readOnly) return undefined;
  return setInterval(() => {
    try {
      disk.flush();
    } catch (error) {
      failures.add(error);
    }
  }, FLUSH_INTERVAL);
}

function startSession(
  config: DaemonConfig,
  mountpoint: Mountpoint,
  layers: Layers,
  disk: Disk,
  fsOptions: DiskFsOptions,
  threads: ThreadPool,
  failures: SharedArrayBuffer,
): Promise<Session> {
  const { allowOther, image, mountWords: words } = config;
  const options: SessionOptions = { mountpoint, source: config.source ?? image, allowOther, words };
  if (config.transport === 'kernel') {
    return startKernelSession(threads, layers, disk, fsOptions, failures, options);
  }
  return startLibfuseSession(disk, fsOptions, options, new FailureLog(failures).add);
}

function fsOptionsOf(
  config: DaemonConfig,
  layers: Layers,
  disk: Disk,
  { singleFile }: Mountpoint,
): DiskFsOptions {
  const { file } = layers[0];
  const [uid, gid] = [config.uid ?? process.getuid!(), config.gid ?? usableGroup(file.gid)];
  return {
    name: singleFile ? undefined : config.name,
    uid,
    gid,
    mode: grantedMode(config.mode, layers, uid, gid),
    inode: allocateInode(disk.size, file.mtimeMs),
    writeBack: config.transport === 'kernel' && !disk.readOnly && !disk.growable,
  };
}

/** The path of what looks like the raw disk. */
function diskFile({ name }: DaemonConfig, mountpoint: Mountpoint): string {
  return mountpoint.singleFile ? mountpoint.path : path.join(mountpoint.path, name);
}

async function serve(
  config: DaemonConfig,
  session: Session,
  disk: Disk,
  file: string,
  onReady: ReadyListener,
  count: BlockCount | undefined,
  loop: Loop | undefined,
): Promise<void> {
  const { image, mountpoint, transport, threads, log: logFile } = config;
  let state: State = {
    image,
    mountpoint,
    disk: file,
    size: disk.size,
    readOnly: disk.readOnly,
    transport,
    threads,
    log: logFile,
    ...(loop === undefined ? {} : { loop: { device: loop.device, sequence: loop.sequence } }),
    since: Number(process.hrtime.bigint() / 1000n),
  };
  keepState(session.device, state);
  const following = followSize(disk, (size) => {
    state = { ...state, size };
    keepState(session.device, state);
  });
  try {
    log(`${image}: mounted on ${file}${disk.readOnly ? ', read-only' : ''}`);
    onReady(file, loop?.devices ?? []);
    notifyServiceManager('READY=1', `STATUS=${image} on ${file}`, `MAINPID=${process.pid}`);
    count?.start();
    const complain = (error: unknown): void => log(`${image}: ${toErrorRecord(error).message}`);
    const watch = loop && detachWhenUnmounted(loop, session, complain);
    await session.ended;
    clearInterval(watch);
    clearInterval(following);
    count?.stop();
    await loop?.detach().catch(complain);
  } catch (error) {
    log(`${image}: the mount broke down: ${toErrorRecord(error).message}`);
    session.abort();
    removeOwnState(session.device);
    exitAtOnce(1);
  }
  complete(config, session, disk, state);
}

/** Threads make a disk larger on their own. */
function followSize(disk: Disk, onChange: (size: number) => void): NodeJS.Timeout | undefined {
  if (!disk.growable) return undefined;
  let told = disk.size;
  return setInterval(() => {
    const { size } = disk;
    if (size !== told) onChange(size);
    told = size;
  }, SIZE_INTERVAL);
}

/** Everything was answered: what is still in memory goes to the image. Whoever unmounts is told when it does not. */
function complete(config: DaemonConfig, session: Session, disk: Disk, state: State): void {
  try {
    disk.close();
  } catch (error) {
    const failure = toErrorRecord(error).message;
    log(`${config.image}: unmounted, but the last writes may be lost: ${failure}`);
    keepState(session.device, { ...state, failure });
    throw error;
  }
  log(`${config.image}: unmounted`);
  removeOwnState(session.device);
}

type State = Omit<MountState, 'pid' | 'startTime'>;

/** Without it the disk works, but `list` knows less and `umount` does not wait: no reason to fail. */
function keepState(device: string, state: State): void {
  try {
    writeState(device, { ...state, pid: process.pid, startTime: processStartTime(process.pid) ?? '' });
  } catch (error) {
    log(`${state.image}: ${toErrorRecord(error).message}`);
  }
}
