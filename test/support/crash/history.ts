/** A guest's operations, and what its disk may hold when the power went in the middle of them. */
import type { Disk } from '../../../src/disk.js';
import { type Random, randomNumbers } from '../random-guest.js';

const SECTOR_SIZE = 512;

export type Operation =
  | { readonly do: 'write'; readonly offset: number; readonly bytes: Buffer }
  | { readonly do: 'zero' | 'discard'; readonly offset: number; readonly length: number }
  | { readonly do: 'resize'; readonly size: number }
  | { readonly do: 'flush' };

export interface WorkloadOptions {
  readonly operations: number;
  readonly clusterSize: number;
  /** Bytes of the largest write. */
  readonly maxLength: number;
  /** Bytes that the disk grows by, now and then; 0 for a disk that keeps its size. */
  readonly growth: number;
}

/** Operations from a seed, about every third a flush; what a disk grows by is written to at once. */
export function workload(seed: number, size: number, options: WorkloadOptions): Operation[] {
  const random = randomNumbers(seed);
  const { operations, growth } = options;
  const result: Operation[] = [];
  for (let stamp = 1; stamp <= operations; stamp++) {
    const dice = random();
    if (growth > 0 && stamp % 9 === 4) {
      size += growth;
      result.push({ do: 'resize', size });
    } else if (growth > 0 && stamp % 9 === 5) {
      const length = Math.min(growth, options.maxLength);
      result.push({ do: 'write', offset: size - growth, bytes: stamped(stamp, size - growth, length) });
    } else if (dice < 0.3) {
      result.push({ do: 'flush' });
    } else {
      const { offset, length } = range(random, size, options);
      if (dice < 0.7) result.push({ do: 'write', offset, bytes: stamped(stamp, offset, length) });
      else result.push({ do: dice < 0.87 ? 'discard' : 'zero', offset, length });
    }
  }
  return result;
}

function range(random: Random, size: number, { clusterSize, maxLength }: WorkloadOptions) {
  const grain = [1, SECTOR_SIZE, clusterSize, clusterSize][Math.floor(random() * 4)]!;
  const start = Math.floor(random() * size);
  const offset = start - (start % grain);
  const length = Math.ceil((random() ** 3 * maxLength) / grain) * grain;
  return { offset, length: Math.max(1, Math.min(length, size - offset)) };
}

/** Bytes that no other operation and no other place has, none of them 0. */
export function stamped(stamp: number, offset: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let i = 0; i < length; i++) {
    const place = Math.imul((offset + i) >> 3, 0x9e3779b1) ^ Math.imul(stamp, 0x85ebca6b);
    bytes[i] = 1 + (((place ^ (place >>> 15)) >>> 3) % 255);
  }
  return bytes;
}

export function describeOperation(operation: Operation): string {
  if (operation.do === 'write') return `write ${operation.offset} ${operation.bytes.length}`;
  if (operation.do === 'resize') return `resize ${operation.size}`;
  if (operation.do === 'flush') return 'flush';
  return `${operation.do} ${operation.offset} ${operation.length}`;
}

export function perform(disk: Disk, operation: Operation): void {
  switch (operation.do) {
    case 'write':
      disk.write(operation.bytes, 0, operation.bytes.length, operation.offset);
      return;
    case 'zero':
    case 'discard':
      disk[operation.do](operation.offset, operation.length);
      return;
    case 'resize':
      disk.resize(operation.size);
      return;
    case 'flush':
      disk.flush();
      return;
  }
}

/** What must be on the disk, and what came after that and may be there, wholly or in part. */
export class Expectation {
  #settled: Buffer;
  #open: Operation[] = [];

  /** @param content of the guest disk, on stable storage */
  constructor(content: Buffer) {
    this.#settled = Buffer.from(content);
  }

  /** Settled and open operations together: what the disk reads while it is mounted. */
  get current(): Buffer {
    return this.#open.reduce(applied, Buffer.from(this.#settled));
  }

  begin(operation: Operation): void {
    if (operation.do !== 'flush') this.#open.push(operation);
  }

  /** A flush returned: all that had ended when it began is there; with one thread that is all that was begun. */
  settle(hadEnded: (operation: Operation) => boolean = () => true): void {
    const open = this.#open;
    for (const operation of open) if (hadEnded(operation)) this.#settled = applied(this.#settled, operation);
    this.#open = open.filter((operation) => !hadEnded(operation));
  }

  /** All that is open is decided: it left the disk as `content`. */
  settleAs(content: Buffer): void {
    this.#settled = Buffer.from(content);
    this.#open = [];
  }

  /** @returns what is wrong with a disk that holds `content`, or undefined */
  problemOf(content: Buffer): string | undefined {
    const sizes = new Set([this.#settled.length]);
    for (const operation of this.#open) if (operation.do === 'resize') sizes.add(operation.size);
    if (!sizes.has(content.length)) return `the disk has ${content.length} bytes`;
    const settled = resized(this.#settled, content.length);
    if (settled.equals(content)) return undefined;
    for (let sector = 0; sector < content.length; sector += SECTOR_SIZE) {
      const end = Math.min(sector + SECTOR_SIZE, content.length);
      if (settled.compare(content, sector, end, sector, end) === 0) continue;
      const problem = this.#sectorProblem(settled, content, sector, end);
      if (problem !== undefined) return problem;
    }
    return undefined;
  }

  #sectorProblem(settled: Buffer, content: Buffer, start: number, end: number): string | undefined {
    const found = content.subarray(start, end);
    const versions = [Buffer.from(settled.subarray(start, end))];
    let partial = false;
    for (const operation of this.#open) {
      const cut = within(operation, start, end);
      if (cut === undefined) continue;
      partial ||= cut.offset > 0 || cut.bytes.length < end - start;
      const next = Buffer.from(versions.at(-1)!);
      cut.bytes.copy(next, cut.offset);
      versions.push(next);
    }
    if (versions.some((version) => version.equals(found))) return undefined;
    const byte = found.findIndex((value, i) => !versions.some((version) => version[i] === value));
    if (partial && byte === -1) return undefined;
    const at = start + Math.max(0, byte);
    const expected = [...new Set(versions.map((version) => version[at - start]))].join(' or ');
    return `byte ${at} is ${content[at]} instead of ${expected} (${versions.length} versions of its sector)`;
  }
}

/** The bytes that an operation gives to `[start, end)`, and where in that range; undefined for none. */
function within(
  operation: Operation,
  start: number,
  end: number,
): { offset: number; bytes: Buffer } | undefined {
  if (operation.do === 'resize' || operation.do === 'flush') return undefined;
  const { offset } = operation;
  const length = operation.do === 'write' ? operation.bytes.length : operation.length;
  const from = Math.max(start, offset);
  const to = Math.min(end, offset + length);
  if (from >= to) return undefined;
  const bytes =
    operation.do === 'write' ? operation.bytes.subarray(from - offset, to - offset) : Buffer.alloc(to - from);
  return { offset: from - start, bytes };
}

/** Changes `content` where its size allows. */
function applied(content: Buffer, operation: Operation): Buffer {
  if (operation.do === 'resize') return resized(content, operation.size);
  const change = within(operation, 0, content.length);
  change?.bytes.copy(content, change.offset);
  return content;
}

function resized(content: Buffer, size: number): Buffer {
  const result = Buffer.alloc(size);
  content.copy(result);
  return result;
}
