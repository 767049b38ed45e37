/** Numbers of bytes as people write them. */
import { Qcow2fsError } from '../errors.js';

const PREFIXES = 'KMGTPE';

/**
 * `4096`, `64K`, `1M`, `1MiB` (powers of 1024), `1MB` (powers of 1000): as dd(1) and truncate(1) read them.
 * @param option names the option in the message
 * @throws Qcow2fsError `usage`
 */
export function parseBytes(text: string, option: string): number {
  const parts = /^(\d+(?:\.\d+)?)(?:([KMGTPE])(iB|B)?|B)?$/i.exec(text);
  if (parts !== null) {
    const [, digits, prefix = '', suffix = ''] = parts;
    const base = suffix.toUpperCase() === 'B' ? 1000 : 1024;
    const power = prefix === '' ? 0 : PREFIXES.indexOf(prefix.toUpperCase()) + 1;
    const bytes = Number(digits) * base ** power;
    if (Number.isSafeInteger(bytes)) return bytes;
  }
  throw new Qcow2fsError('usage', `${option} ${text}: a number of bytes is needed, like 4096, 64K or 1M`);
}
