/** What the system tells of other processes: whether they run, and what tells one from a later one of its number. */
import { errnoName } from '../errors.js';
import fs from '../fs.js';

/**
 * When the process began, in a form of the system's own: on Linux clock ticks after boot (proc(5), field 22).
 * @returns undefined when there is no such process, or where the system is not asked yet: nowhere but on Linux
 */
export function processStartTime(pid: number): string | undefined {
  try {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The command in parentheses may hold anything; field 3 follows it. A zombie has released everything, unless
    // other threads of it still run (field 20 counts them).
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const isDead = fields[0] === 'X' || (fields[0] === 'Z' && Number(fields[17]) <= 1);
    return isDead ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

/** False also for a process that has ended and was not waited for, where the system is Linux. */
export function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return process.platform !== 'linux' || !/\) [ZX] /.test(fs.readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch (error) {
    return errnoName(error) === 'EPERM';
  }
}

/** The user who started a process (proc(5), the real user ID). @returns undefined when there is none that can be seen */
export function userOfProcess(pid: number): number | undefined {
  try {
    const user = /^Uid:\s+(\d+)/m.exec(fs.readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
    return user === undefined ? undefined : Number(user);
  } catch {
    return undefined;
  }
}
