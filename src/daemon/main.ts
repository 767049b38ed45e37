/** Entry of the background process: is told what to do over its pipe, reports once, and lets go of the terminal. */
import { toErrorRecord } from '../errors.js';
import type { DaemonConfig, DaemonReport } from './config.js';
import { openLog } from './log.js';
import { startThreads } from './thread-pool.js';

let reported = false;

function report(message: DaemonReport): Promise<void> {
  reported = true;
  return new Promise((resolve) => {
    if (process.connected) process.send!(message, () => resolve());
    else resolve();
  });
}

/** The command went away before the disk was ready: nobody wants it any more. */
function onDisconnect(): void {
  if (!reported) process.kill(process.pid, 'SIGTERM');
}

process.once('disconnect', onDisconnect);
process.once('message', async (config: DaemonConfig) => {
  process.chdir('/');
  try {
    // The threads load their part of the program while this one loads the rest.
    const threads = startThreads(config);
    if (config.log !== undefined) openLog(config.log);
    const { runDaemon } = await import('./daemon.js');
    await runDaemon(config, threads, (disk) => {
      if (process.connected) void report({ type: 'ready', disk }).then(() => process.disconnect());
      else process.kill(process.pid, 'SIGTERM');
    });
    process.exit(0);
  } catch (error) {
    const record = toErrorRecord(error);
    if (!reported) await report({ type: 'failed', error: record });
    process.exit(1);
  }
});
