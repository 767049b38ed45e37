/** Where programs keep what lasts as long as they run. */
import fs from '../fs.js';

const ROOT = 0;

/**
 * Of a user, best first: the run-time directory if the system has one, else one in /tmp. Their parents exist, or not.
 * Root of a user namespace is an ordinary user to everybody else, and has the directories of that one.
 */
export function runtimeDirectories(userId: number): string[] {
  const outside = numberOutside(userId);
  return [
    ...(userId === ROOT ? ['/run/qcow2fs'] : []),
    ...(outside === ROOT ? [] : [`/run/user/${outside}/qcow2fs`]),
    `/tmp/qcow2fs-${outside}`,
  ];
}

/** Of a user of this namespace, in the one around it (user_namespaces(7)). */
function numberOutside(userId: number): number {
  if (process.platform !== 'linux') return userId;
  for (const line of fs.readFileSync('/proc/self/uid_map', 'utf8').split('\n')) {
    const [first, outside, count] = line.trim().split(/ +/).map(Number);
    if (count !== undefined && userId >= first! && userId < first! + count) return outside! + userId - first!;
  }
  return userId;
}

/** Those whose directories this process may read: itself, or for root every user that has one, or is logged in. */
export function runtimeUsers(): number[] {
  const own = process.getuid!();
  if (own !== 0) return [own];
  const others = [...namesIn('/run/user'), ...namesIn('/tmp').map((name) => name.replace(/^qcow2fs-/, ''))];
  return [...new Set([own, ...others.filter((name) => /^\d{1,10}$/.test(name)).map(Number)])];
}

function namesIn(directory: string): string[] {
  try {
    return fs.readdirSync(directory);
  } catch {
    return [];
  }
}
