/**
 * The life of a mount: open the image, mount, serve until unmounted or told to stop, release everything. Runs in a
 * process of its own in the background, or in the command itself with --foreground.
 */
import path from 'node:path';
import { hostReason, toErrorRecord } from '../errors.js';
import type { DiskFsOptions } from '../fuse/disk-fs.js';
import { attachDisk, type Layers, openLayers } from '../qcow2/chain.js';
import type { DaemonConfig } from './config.js';
import { startKernelSession } from './kernel-session.js';
import { startLibfuseSession } from './libfuse-session.js';
import { log, logOnce } from './log.js';
import { checkMountpoint } from './mountpoint.js';
import type { Session, SessionOptions } from './session.js';
import { processStartTime, removeState, writeState } from './state.js';

/** How long users of a disk that is told to stop may finish what they do: milliseconds. */
const GRACE = 5000;
/** How long an aborted connection may take to end its threads. */
const ABORT_GRACE = 2000;
const SIGNALS = ['SIGTERM', 'SIGINT', 'SIGHUP'] as const;

/**
 * @param onReady called once, with the path of the disk, when it can be opened
 * @returns when the file system is unmounted and every file is closed
 * @throws Qcow2fsError; nothing is mounted then
 */
export async function runDaemon(config: DaemonConfig, onReady: (disk: string) => void): Promise<void> {
  const { singleFile } = checkMountpoint(config.mountpoint);
  const layers = openLayers(config.image, config);
  const disk = await attachDisk(layers);
  try {
    const session = await startSession(config, layers, singleFile);
    const diskPath = singleFile ? config.mountpoint : path.join(config.mountpoint, config.name);
    const stop = new StopOnSignal(session, config.image);
    try {
      recordState(config, session, diskPath, disk.size);
      log(`${config.image}: mounted on ${diskPath}`);
      onReady(diskPath);
      await session.ended;
      log(`${config.image}: unmounted`);
    } catch (error) {
      log(`${config.image}: ${toErrorRecord(error).message}`);
      stop.abort();
      throw error;
    } finally {
      stop.dispose();
      removeState(session.device);
    }
  } finally {
    disk.close();
  }

  async function startSession(
    { transport, image, mountpoint, allowOther, threads, name }: DaemonConfig,
    opened: Layers,
    isFile: boolean,
  ): Promise<Session> {
    const options: SessionOptions = { mountpoint, singleFile: isFile, source: image, allowOther, threads };
    const fsOptions: DiskFsOptions = {
      name: isFile ? undefined : name,
      uid: process.getuid!(),
      gid: process.getgid!(),
      mode: opened[0].file.mode,
      mtimeMs: opened[0].file.mtimeMs,
    };
    if (transport === 'kernel') return startKernelSession(opened, fsOptions, options);
    return startLibfuseSession(disk, fsOptions, options, (error) => logOnce(toErrorRecord(error).message));
  }
}

function recordState(config: DaemonConfig, session: Session, disk: string, size: number): void {
  const { image, mountpoint, transport, threads, log: logFile } = config;
  const startTime = processStartTime(process.pid) ?? '';
  writeState(session.device, {
    pid: process.pid,
    startTime,
    image,
    mountpoint,
    disk,
    size,
    transport,
    threads,
    log: logFile,
  });
}

/**
 * SIGTERM, SIGINT and SIGHUP unmount. A disk that is in use disappears from the file system at once; its users have a
 * few seconds to finish, then their requests fail. A second signal ends the wait.
 */
class StopOnSignal {
  readonly #session: Session;
  readonly #image: string;
  readonly #handler = (signal: NodeJS.Signals): void => this.#stop(signal);
  #timer: NodeJS.Timeout | undefined;
  #stopping = false;

  constructor(session: Session, image: string) {
    this.#session = session;
    this.#image = image;
    for (const signal of SIGNALS) process.on(signal, this.#handler);
  }

  dispose(): void {
    clearTimeout(this.#timer);
    for (const signal of SIGNALS) process.off(signal, this.#handler);
  }

  #stop(signal: NodeJS.Signals): void {
    if (this.#stopping) {
      this.abort();
      return;
    }
    this.#stopping = true;
    try {
      this.#session.unmount(false);
    } catch {
      log(`${this.#image}: ${signal}: the disk is in use; its users have ${GRACE / 1000} s to finish`);
      this.#detach();
      this.#timer = setTimeout(() => this.abort(), GRACE);
    }
  }

  #detach(): void {
    try {
      this.#session.unmount(true);
    } catch (error) {
      log(`${this.#image}: ${hostReason(error)}`);
    }
  }

  /** Threads that wait for requests cannot be ended from inside; when aborting does not wake them, the process goes. */
  abort(): void {
    clearTimeout(this.#timer);
    this.#session.abort();
    this.#timer = setTimeout(() => {
      log(`${this.#image}: ended while the disk was in use`);
      removeState(this.#session.device);
      process.kill(process.pid, 'SIGKILL');
    }, ABORT_GRACE);
    this.#timer.unref();
  }
}
