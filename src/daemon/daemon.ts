/**
 * The life of a mount: open the image, mount, serve until unmounted or told to stop, release everything. Runs in a
 * process of its own in the background, or in the command itself with --foreground.
 */
import path from 'node:path';
import type { Disk } from '../disk.js';
import { toErrorRecord } from '../errors.js';
import type { DiskFsOptions } from '../fuse/disk-fs.js';
import { attachDisk, type Layers, openLayers } from '../qcow2/chain.js';
import type { DaemonConfig } from './config.js';
import { startKernelSession } from './kernel-session.js';
import { startLibfuseSession } from './libfuse-session.js';
import { FailureLog, log } from './log.js';
import { checkMountpoint } from './mountpoint.js';
import type { Session, SessionOptions } from './session.js';
import { type MountState, processStartTime, removeOwnState, writeState } from './state.js';
import { endProcess, StopOnSignal } from './stop.js';
import { ThreadPool } from './thread-pool.js';

/**
 * @param onReady called once, with the path of the disk, when it can be opened
 * @returns when the file system is unmounted and every file is closed
 * @throws Qcow2fsError when the disk cannot be mounted; nothing is left then. When the service of a mounted disk breaks
 * down later, the process ends, after a line in the log.
 */
export async function runDaemon(config: DaemonConfig, onReady: (disk: string) => void): Promise<void> {
  const { singleFile } = checkMountpoint(config.mountpoint);
  const threads = new ThreadPool(config.transport === 'kernel' ? config.threads : 0);
  let disk: Disk | undefined;
  try {
    const layers = openLayers(config.image, config);
    disk = await attachDisk(layers);
    const session = await startSession(config, layers, disk, singleFile, threads);
    await serve(config, session, disk.size, singleFile, onReady);
  } catch (error) {
    threads.terminate();
    throw error;
  } finally {
    disk?.close();
  }
}

function startSession(
  config: DaemonConfig,
  layers: Layers,
  disk: Disk,
  singleFile: boolean,
  threads: ThreadPool,
): Promise<Session> {
  const { mountpoint, allowOther } = config;
  const options: SessionOptions = { mountpoint, singleFile, source: config.image, allowOther };
  const fsOptions: DiskFsOptions = {
    name: singleFile ? undefined : config.name,
    uid: process.getuid!(),
    gid: process.getgid!(),
    mode: layers[0].file.mode,
    mtimeMs: layers[0].file.mtimeMs,
  };
  if (config.transport === 'kernel') return startKernelSession(threads, layers, fsOptions, options);
  const failures = new FailureLog(FailureLog.allocate());
  return startLibfuseSession(disk, fsOptions, options, failures.add);
}

async function serve(
  config: DaemonConfig,
  session: Session,
  size: number,
  singleFile: boolean,
  onReady: (disk: string) => void,
): Promise<void> {
  const { image, mountpoint, transport, threads, log: logFile, name } = config;
  const disk = singleFile ? mountpoint : path.join(mountpoint, name);
  const stop = new StopOnSignal(session, image);
  try {
    keepState(session.device, { image, mountpoint, disk, size, transport, threads, log: logFile });
    log(`${image}: mounted on ${disk}`);
    onReady(disk);
    await session.ended;
    log(`${image}: unmounted`);
  } catch (error) {
    log(`${image}: the mount broke down: ${toErrorRecord(error).message}`);
    session.abort();
    removeOwnState(session.device);
    endProcess();
  } finally {
    stop.dispose();
    removeOwnState(session.device);
  }
}

/** Without it the disk works, but `list` knows less and `umount` does not wait: no reason to fail. */
function keepState(device: string, state: Omit<MountState, 'pid' | 'startTime'>): void {
  try {
    writeState(device, { ...state, pid: process.pid, startTime: processStartTime(process.pid) ?? '' });
  } catch (error) {
    log(`${state.image}: ${toErrorRecord(error).message}`);
  }
}
