/** The digests that can be made: those that a tool of coreutils verifies. */
import { Qcow2fsError } from '../errors.js';

export interface Algorithm {
  /** On the command line, and what OpenSSL calls it. */
  readonly name: string;
  /** In lines as BSD has them. */
  readonly tag: string;
  readonly bytes: number;
  /** Nanoseconds for a KiB, about: algorithms are shared out between threads by it. */
  readonly cost: number;
}

/** Of two whose digests are of one length, the first is what an untagged line means. */
export const ALGORITHMS: readonly Algorithm[] = [
  { name: 'sha256', tag: 'SHA256', bytes: 32, cost: 640 },
  { name: 'sha512', tag: 'SHA512', bytes: 64, cost: 1100 },
  { name: 'sha1', tag: 'SHA1', bytes: 20, cost: 600 },
  { name: 'md5', tag: 'MD5', bytes: 16, cost: 1500 },
  { name: 'sha384', tag: 'SHA384', bytes: 48, cost: 1100 },
  { name: 'sha224', tag: 'SHA224', bytes: 28, cost: 640 },
  { name: 'blake2b512', tag: 'BLAKE2b', bytes: 64, cost: 860 },
];

/** A digest without its tag would be taken for that of another algorithm. */
export function needsTag(algorithm: Algorithm): boolean {
  return ALGORITHMS.find(({ bytes }) => bytes === algorithm.bytes) !== algorithm;
}

export const ALGORITHM_NAMES: readonly string[] = ALGORITHMS.map(({ name }) => name);

/**
 * @param list comma-separated names
 * @throws Qcow2fsError `usage`
 */
export function parseAlgorithms(list: string): Algorithm[] {
  const chosen: Algorithm[] = [];
  for (const name of list.split(',')) {
    const algorithm = algorithmNamed(name.toLowerCase());
    if (algorithm === undefined) {
      const known = ALGORITHM_NAMES.join(', ');
      throw new Qcow2fsError('usage', `--algorithm ${list}: "${name}" is none of ${known}`);
    }
    if (!chosen.includes(algorithm)) chosen.push(algorithm);
  }
  return chosen;
}

export function algorithmNamed(name: string): Algorithm | undefined {
  return ALGORITHMS.find((algorithm) => algorithm.name === name);
}

/**
 * Shares out the algorithms so that no thread has much more to do than another one. The first thread has the most.
 * @returns names for each thread; none for threads that are left to read
 */
export function shareOut(algorithms: readonly Algorithm[], threads: number): string[][] {
  const shares = Array.from({ length: threads }, () => ({ names: [] as string[], cost: 0 }));
  for (const { name, cost } of algorithms.toSorted((a, b) => b.cost - a.cost)) {
    const least = shares.reduce((best, share) => (share.cost < best.cost ? share : best));
    least.names.push(name);
    least.cost += cost;
  }
  return shares.map(({ names }) => names);
}
