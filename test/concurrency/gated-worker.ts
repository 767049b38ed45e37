/** A thread that uses the beginning of a disk of a host that hangs: it posts when it does, and what it read. */
import { parentPort, workerData } from 'node:worker_threads';
import { FileStorage } from '../../src/host/file-storage.js';
import { attachDisk, type Layers } from '../../src/qcow2/chain.js';

export interface GatedUse {
  readonly layers: Layers;
  /** One word, 0 while the host hangs. */
  readonly gate: SharedArrayBuffer;
  /** What the thread does. */
  readonly use: 'read' | 'write';
  /** Bytes that it reads, or sets to `GATED_BYTE`. */
  readonly length: number;
  /** The first call to the host that hangs. */
  readonly hangs: { readonly call: 'read' | 'write'; readonly length: number };
}

export const GATED_BYTE = 7;

class GatedStorage extends FileStorage {
  readonly #use: GatedUse;

  constructor(file: ConstructorParameters<typeof FileStorage>[0], use: GatedUse) {
    super(file);
    this.#use = use;
  }

  override read(target: Buffer, at: number, count: number, position: number): number {
    const read = super.read(target, at, count, position);
    this.#hang('read', count);
    // Tables are as they were when the read began, data as they are at its end: the worse of the two.
    return count === this.#use.length ? super.read(target, at, count, position) : read;
  }

  override write(source: Buffer, at: number, count: number, position: number): void {
    this.#hang('write', count);
    super.write(source, at, count, position);
  }

  #hang(call: 'read' | 'write', length: number): void {
    const { hangs, gate } = this.#use;
    if (call !== hangs.call || length !== hangs.length) return;
    parentPort?.postMessage('hangs');
    // Later ones do not hang.
    Atomics.wait(new Int32Array(gate), 0, 0);
  }
}

if (parentPort !== null) {
  const { layers, use, length } = workerData as GatedUse;
  const disk = await attachDisk(layers, (file) => new GatedStorage(file, workerData as GatedUse));
  const content = Buffer.alloc(length, GATED_BYTE);
  if (use === 'read') disk.read(content, 0, length, 0);
  else disk.write(content, 0, length, 0);
  parentPort.postMessage(content);
}
