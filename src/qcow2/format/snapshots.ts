/**
 * The snapshot table (specification: "Snapshots"): entries of 40 bytes, then extra data, ID and name, padded to 8.
 */
import { Qcow2fsError } from '../../errors.js';
import { decodeName } from '../../names.js';
import { shortName } from '../../printable.js';
import { struct } from '../../struct.js';
import { checkTable, type Header } from './header.js';
import { MAX_L1_BYTES, MAX_SNAPSHOT_EXTRA_BYTES, MAX_SNAPSHOT_TABLE_BYTES } from './limits.js';
import { SECTOR_SIZE } from './units.js';

const snapshotEntry = struct('snapshot table entry', 'be', 40, {
  l1TableOffset: [0, 'u64'],
  l1Size: [8, 'u32'],
  idSize: [12, 'u16'],
  nameSize: [14, 'u16'],
  dateSeconds: [16, 'u32'],
  dateNanoseconds: [20, 'u32'],
  vmClockNanoseconds: [24, 'mask64'],
  vmStateSize: [32, 'u32'],
  extraDataSize: [36, 'u32'],
});
const EXTRA_VM_STATE_SIZE_END = 8;
const EXTRA_DISK_SIZE_END = 16;

export interface Snapshot {
  readonly id: string;
  readonly name: string;
  readonly l1TableOffset: number;
  /** Entries. */
  readonly l1Size: number;
  /** Bytes of the disk when the snapshot was taken, whole sectors. */
  readonly diskSize: number;
  /** The entry says so; else it is the disk size of today. */
  readonly tellsDiskSize: boolean;
  /** Bytes; stored beyond the disk, so never part of it. */
  readonly vmStateSize: number;
  /** Milliseconds since 1970. */
  readonly date: number;
  /** Nanoseconds that the guest had run. */
  readonly vmClock: bigint;
  /** Bytes that the entry takes in the table, padding included. */
  readonly entryBytes: number;
}

/**
 * Reads the whole table.
 * @param read gives `length` bytes of the image at `offset`, or fewer at its end
 * @throws Qcow2fsError `format`
 */
export function readSnapshots(
  header: Header,
  read: (offset: number, length: number) => Buffer,
  path: string,
): Snapshot[] {
  const bad = (what: string): Qcow2fsError => new Qcow2fsError('format', `${path}: ${what}`);
  const snapshots: Snapshot[] = [];
  let at = header.snapshotsOffset;
  for (let index = 0; index < header.snapshotCount; index++) {
    const what = `snapshot table entry ${index}`;
    const fixed = read(at, snapshotEntry.size);
    if (fixed.length < snapshotEntry.size) throw bad(`${what} lies outside the file`);
    const entry = parseEntry(fixed, what, bad);
    if (entry.extraDataSize > MAX_SNAPSHOT_EXTRA_BYTES) {
      throw bad(
        `${what} has ${entry.extraDataSize} bytes of extra data; ${MAX_SNAPSHOT_EXTRA_BYTES} are allowed`,
      );
    }
    const tailSize = entry.extraDataSize + entry.idSize + entry.nameSize;
    const tail = read(at + snapshotEntry.size, tailSize);
    if (tail.length < tailSize) throw bad(`${what} lies outside the file`);
    const snapshot = decode(entry, tail, header, what, bad);
    snapshots.push(snapshot);
    at += snapshot.entryBytes;
    if (at - header.snapshotsOffset > MAX_SNAPSHOT_TABLE_BYTES) {
      throw bad(`the snapshot table takes more than ${MAX_SNAPSHOT_TABLE_BYTES} bytes`);
    }
  }
  return snapshots;
}

/**
 * The table with the extra data that version 3 demands in each entry: VM state size and disk size.
 * @param bytes of a table that `readSnapshots` can read
 */
export function completeSnapshotTable(bytes: Buffer, header: Header): Buffer {
  const entries: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    const entry = snapshotEntry.read(bytes, at);
    const { extraDataSize, idSize, nameSize } = entry;
    const extra = Buffer.alloc(Math.max(EXTRA_DISK_SIZE_END, extraDataSize));
    const tail = at + snapshotEntry.size;
    extra.writeBigUInt64BE(BigInt(entry.vmStateSize), 0);
    extra.writeBigUInt64BE(BigInt(header.size), EXTRA_VM_STATE_SIZE_END);
    bytes.copy(extra, 0, tail, tail + extraDataSize);
    const names = bytes.subarray(tail + extraDataSize, tail + extraDataSize + idSize + nameSize);
    const whole = Buffer.alloc(paddedBytes(extra.length + names.length));
    snapshotEntry.write(whole, 0, { ...entry, extraDataSize: extra.length });
    extra.copy(whole, snapshotEntry.size);
    names.copy(whole, snapshotEntry.size + extra.length);
    entries.push(whole);
    at += paddedBytes(extraDataSize + idSize + nameSize);
  }
  return Buffer.concat(entries);
}

/** Bytes of an entry whose variable part has `tail` bytes. */
function paddedBytes(tail: number): number {
  return Math.ceil((snapshotEntry.size + tail) / 8) * 8;
}

/** Bytes of the whole table. */
export function snapshotTableBytes(snapshots: readonly Snapshot[]): number {
  return snapshots.reduce((sum, { entryBytes }) => sum + entryBytes, 0);
}

/** The snapshot that `wanted` names: by ID first, then by name, as qemu-img does. */
export function findSnapshot(snapshots: readonly Snapshot[], wanted: string): Snapshot | undefined {
  return snapshots.find(({ id }) => id === wanted) ?? snapshots.find(({ name }) => name === wanted);
}

/** As messages call it. */
export function snapshotTitle({ id, name }: Pick<Snapshot, 'id' | 'name'>): string {
  return `snapshot ${shortName(id)} (${shortName(name)})`;
}

/** The rules for a snapshot that is to be presented. @throws Qcow2fsError `format` */
export function checkSnapshotTable(snapshot: Snapshot, header: Header, needed: number, path: string): void {
  const bad = (what: string): Qcow2fsError =>
    new Qcow2fsError('format', `${path}: ${snapshotTitle(snapshot)}: ${what}`);
  checkTable('L1 table', snapshot.l1TableOffset, snapshot.l1Size * 8, MAX_L1_BYTES, header.clusterSize, bad);
  if (snapshot.l1Size < needed) {
    throw bad(`the L1 table has ${snapshot.l1Size} entries; its disk size needs ${needed}`);
  }
}

type RawEntry = ReturnType<typeof snapshotEntry.read>;

function parseEntry(bytes: Buffer, what: string, bad: (what: string) => Qcow2fsError): RawEntry {
  try {
    return snapshotEntry.read(bytes);
  } catch (error) {
    throw bad(`${what} is out of range: ${(error as Error).message}`);
  }
}

function decode(
  entry: RawEntry,
  tail: Buffer,
  header: Header,
  what: string,
  bad: (what: string) => Qcow2fsError,
): Snapshot {
  const { extraDataSize, idSize, nameSize } = entry;
  const vmStateSize =
    extraDataSize >= EXTRA_VM_STATE_SIZE_END ? Number(tail.readBigUInt64BE(0)) : entry.vmStateSize;
  const diskSize = extraDataSize >= EXTRA_DISK_SIZE_END ? Number(tail.readBigUInt64BE(8)) : header.size;
  if (!Number.isSafeInteger(diskSize)) throw bad(`${what}: disk size ${diskSize} is out of range`);
  return {
    id: decodeName(tail.subarray(extraDataSize, extraDataSize + idSize)),
    name: decodeName(tail.subarray(extraDataSize + idSize, extraDataSize + idSize + nameSize)),
    l1TableOffset: entry.l1TableOffset,
    l1Size: entry.l1Size,
    diskSize: diskSize - (diskSize % SECTOR_SIZE),
    tellsDiskSize: extraDataSize >= EXTRA_DISK_SIZE_END,
    vmStateSize,
    date: entry.dateSeconds * 1000 + Math.floor(entry.dateNanoseconds / 1e6),
    vmClock: entry.vmClockNanoseconds,
    entryBytes: paddedBytes(tail.length),
  };
}
