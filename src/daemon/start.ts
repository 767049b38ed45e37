/** Starts a daemon in the background and waits until its disk can be opened. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fromErrorRecord, hostReason, Qcow2fsError } from '../errors.js';
import type { DaemonConfig, DaemonReport } from './config.js';
import { launchDaemon, takeDaemon } from './launch.js';

/** Where a daemon logs unless told otherwise. */
export function defaultLogFile(): string {
  if (process.getuid?.() === 0) return '/var/log/qcow2fs.log';
  const state = process.env['XDG_STATE_HOME'] ?? path.join(os.homedir(), '.local', 'state');
  return path.join(state, 'qcow2fs', 'qcow2fs.log');
}

/**
 * @returns the path of the disk, which has been opened once
 * @throws Qcow2fsError; no daemon and no mount is left then
 */
export async function startDaemon(config: DaemonConfig & { readonly log: string }): Promise<string> {
  const child = takeDaemon() ?? launchDaemon([config.image, config.mountpoint]);
  const disk = await waitForReport(child, config);
  await openOnce(disk, child);
  child.unref();
  return disk;
}

function waitForReport(child: ChildProcess, config: DaemonConfig): Promise<string> {
  return new Promise((resolve, reject) => {
    let failure: Qcow2fsError | undefined;
    child.once('error', (error) => {
      reject(new Qcow2fsError('internal', `cannot start the daemon: ${hostReason(error)}`));
    });
    child.once('message', (report: DaemonReport) => {
      if (report.type === 'ready') resolve(report.disk);
      else failure = fromErrorRecord(report.error);
    });
    // A failed daemon is reported when it is gone.
    child.once('exit', (code, signal) => {
      const how = signal === null ? `with status ${code}` : `by ${signal}`;
      const unexplained = `the daemon ended ${how} before it was ready; see ${config.log}`;
      reject(failure ?? new Qcow2fsError('internal', unexplained));
    });
    child.send(config);
  });
}

async function openOnce(disk: string, child: ChildProcess): Promise<void> {
  try {
    await (await fs.promises.open(disk, 'r')).close();
  } catch (error) {
    const gone = once(child, 'exit');
    child.kill('SIGTERM');
    await gone;
    throw new Qcow2fsError('mountpoint', `${disk}: mounted, but cannot be opened: ${hostReason(error)}`);
  }
}
