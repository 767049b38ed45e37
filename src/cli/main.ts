/** Entry of the program: the command line, and the daemon that it becomes. */
// Node opens a debugger for whoever sends this signal; commands that take long answer it with how far they are.
process.on('SIGUSR1', () => {});

import { findLauncher, releaseLauncher, unmountLost } from '../daemon/launch.js';
import { startThreadEarly, threadsServe } from '../daemon/thread-pool.js';
import { programArguments } from '../host/arguments.js';
import { closeDebugger } from '../host/debugger.js';
import { ignoreWhatCallerIgnores } from '../host/end-signals.js';
import { exitAtOnce } from '../host/libc.js';
import { findServiceManager } from '../host/service-manager.js';

closeDebugger();
ignoreWhatCallerIgnores();
if (unmountLost()) process.exit(0);
// Who is launched as a daemon will probably mount. The thread loads while this one does.
if (findLauncher()) startThreadEarly();
findServiceManager();
const { run } = await import('./program.js');
const status = await run(programArguments());
releaseLauncher(status);
if (threadsServe()) exitAtOnce(status);
// fuse-native leaves handles behind that would keep the process.
process.exit(status);
