/** Logs a line as a daemon does: `node logging-process.js FILE LINE`. */
import { log, openLog } from '../../../src/daemon/log.js';

const [, , file, line] = process.argv;
openLog(file!);
log(line!);
