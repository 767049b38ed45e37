/** A host that fails: at one call, or at every call for a while. */
import { Qcow2fsError } from '../../src/errors.js';
import type { HostCall, MemoryFile, Witness } from '../support/crash/files.js';

const SECTOR_SIZE = 512;

export interface Fault {
  /** The first call of the kind that fails, counted from 0, and how many fail from there on. */
  readonly first: number;
  readonly count: number;
  readonly code: 'ENOSPC' | 'EIO';
  readonly kinds: readonly HostCall['do'][];
  /** A failing write has written its first half, in sectors. */
  readonly partly: boolean;
}

export class FaultyHost {
  readonly #fault: Fault;
  #calls = 0;
  #recovered = false;
  /** Calls that failed. */
  failures = 0;
  /** Faults are injected only while this holds. */
  armed = false;

  constructor(fault: Fault) {
    this.#fault = fault;
  }

  /** Calls of the kinds that may fail. */
  get calls(): number {
    return this.#calls;
  }

  /** Nothing fails any more. */
  recover(): void {
    this.#recovered = true;
  }

  readonly witness: Witness = (call, file, path) => {
    const { first, count, code, kinds, partly } = this.#fault;
    if (!this.armed || !kinds.includes(call.do)) return;
    const index = this.#calls++;
    if (this.#recovered || index < first || index >= first + count) return;
    this.failures++;
    if (partly && call.do === 'write') writeHalf(call.position, call.bytes, file);
    const cause = Object.assign(new Error(`${code}: injected`), { code });
    throw new Qcow2fsError('host-io', `${path}: ${call.do} failed: ${code}: injected`, { cause });
  };
}

function writeHalf(position: number, bytes: Buffer, file: MemoryFile): void {
  const half = position + Math.floor(bytes.length / 2);
  const length = half - (half % SECTOR_SIZE) - position;
  if (length > 0) file.apply({ do: 'write', position, bytes: bytes.subarray(0, length) });
}
