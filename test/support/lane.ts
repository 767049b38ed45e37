/**
 * How much of the work that has no natural end a run does: `make check`, `make test` or `make test-long`.
 * @param check for make check; that of make test unless given
 */
export function lane<T>(test: T, long: T, check = test): T {
  const name = process.env['QCOW2FS_LANE'];
  return name === 'long' ? long : name === 'check' ? check : test;
}
