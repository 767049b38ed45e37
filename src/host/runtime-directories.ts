/** Where programs keep what lasts as long as they run. */

/** Of a user, best first: the run-time directory if the system has one, else one in /tmp. Their parents exist, or not. */
export function runtimeDirectories(userId: number): string[] {
  if (userId === 0) return ['/run/qcow2fs', '/tmp/qcow2fs-0'];
  return [`/run/user/${userId}/qcow2fs`, `/tmp/qcow2fs-${userId}`];
}
