/** The debugger that Node.js opens for SIGUSR1: everybody on the machine could run code in this process through it. */
import inspector from 'node:inspector';

/** For Node.js: who connects must know a name that nobody is told. bin/qcow2fs has it, too. */
export const HIDDEN_DEBUGGER = '--inspect-publish-uid=stderr';

/** How long it may take to open, after a signal that came before the program had a say: milliseconds. */
const WATCHED = 1000;
const POLL_INTERVAL = 20;

/** Closes it, unless it was asked for on the command line of Node.js, as for work on this program. */
export function closeDebugger(): void {
  if (process.execArgv.some((option) => /^--inspect(?!-publish)/.test(option))) return;
  const close = (): void => {
    if (inspector.url() !== undefined) inspector.close();
  };
  close();
  const timer = setInterval(close, POLL_INTERVAL).unref();
  setTimeout(() => clearInterval(timer), WATCHED).unref();
}
