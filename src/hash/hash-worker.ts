/** A thread that reads and hashes: it attaches a disk of its own to the shared layers, and ends when its work is done. */
import { parentPort, workerData } from 'node:worker_threads';
import { type ErrorRecord, toErrorRecord } from '../errors.js';
import { onNotice } from '../notice.js';
import { Progress } from '../progress.js';
import { attachDisk, type Layers } from '../qcow2/chain.js';
import type { Loss } from '../salvage.js';
import { PartReader } from './part-reader.js';
import { PieceHasher, type PiecesShare } from './pieces.js';
import { WholeDiskHasher, type WholeDiskShare } from './whole-disk.js';

export interface HashOrder {
  readonly layers: Layers;
  /** Of a `Progress`. */
  readonly progress: SharedArrayBuffer;
  readonly work:
    | { readonly type: 'whole'; readonly share: WholeDiskShare }
    | { readonly type: 'pieces'; readonly share: PiecesShare };
}

export type HashReport =
  /** What cannot be read, in order. */
  | { readonly type: 'losses'; readonly losses: readonly Loss[] }
  | { readonly type: 'notice'; readonly message: string }
  /** Name and digest of some algorithms. */
  | { readonly type: 'digests'; readonly digests: readonly (readonly [string, string])[] }
  | { readonly type: 'part'; readonly part: number; readonly digests: readonly string[] }
  | { readonly type: 'failed'; readonly error: ErrorRecord };

/** Different notices that a thread passes on. */
const MAX_NOTICES = 64;
/** Problems that are told in words for one part of the disk. */
const MAX_PROBLEMS = 32;

const port = parentPort!;

function report(message: HashReport): void {
  port.postMessage(message);
}

function passOnNotices(reader: PartReader): void {
  const told = new Set<string>();
  onNotice((message, missing) => {
    if (missing !== undefined) reader.miss(missing, message);
    if (told.has(message) || told.size >= MAX_NOTICES) return;
    told.add(message);
    report({ type: 'notice', message });
  });
}

function reportLosses(all: readonly Loss[]): void {
  const losses = all.map((loss, index) => (index < MAX_PROBLEMS ? loss : { ...loss, problem: '' }));
  report({ type: 'losses', losses });
}

async function work({ layers, progress: memory, work: { type, share } }: HashOrder): Promise<void> {
  const progress = new Progress(memory);
  const disk = await attachDisk(layers);
  const reader = new PartReader(disk, reportLosses);
  passOnNotices(reader);
  if (type === 'whole') {
    const digests = new WholeDiskHasher(share, reader, progress).run();
    if (digests !== undefined) report({ type: 'digests', digests });
  } else {
    new PieceHasher(share, reader, progress).run((part, digests) => report({ type: 'part', part, digests }));
  }
}

work(workerData as HashOrder).catch((error: unknown) => {
  report({ type: 'failed', error: toErrorRecord(error) });
});
