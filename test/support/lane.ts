/** The value for make test, or the one for make test-long. */
export function lane<T>(short: T, long: T): T {
  return process.env['QCOW2FS_LANE'] === 'long' ? long : short;
}
