import type { Disk, ExtentVisitor } from '../../../src/disk.js';
import { Qcow2fsError } from '../../../src/errors.js';

/** A disk in memory that takes writes and keeps a record of everything else. */
export class WritableDisk implements Disk {
  readonly readOnly = false;
  readonly growable: boolean;
  readonly canReadAhead = false;
  readonly calls: string[] = [];
  content: Buffer;
  failure: Error | undefined;
  /** All of it is a hole. */
  holes = false;

  constructor(size: number, growable: boolean) {
    this.content = Buffer.alloc(size, 0xee);
    this.growable = growable;
  }

  get size(): number {
    return this.content.length;
  }

  read(target: Buffer, at: number, length: number, offset: number): void {
    this.content.copy(target, at, offset, offset + length);
  }

  readAhead(): void {}

  write(source: Buffer, at: number, length: number, offset: number): void {
    if (this.failure) throw this.failure;
    if (offset + length > this.size) throw new Error('a write outside the disk');
    source.copy(this.content, offset, at, at + length);
  }

  zero(offset: number, length: number): void {
    if (offset + length > this.size) throw new Error('outside the disk');
    this.calls.push(`zero ${offset} ${length}`);
  }

  discard(offset: number, length: number): void {
    if (offset + length > this.size) throw new Error('outside the disk');
    this.calls.push(`discard ${offset} ${length}`);
  }

  resize(size: number): void {
    if (!this.growable || size < this.size) throw new Qcow2fsError('fixed-size', 'keeps its size');
    this.content = Buffer.concat([this.content, Buffer.alloc(Math.ceil(size / 512) * 512 - this.size)]);
  }

  undoGrowth(from: number, to: number): void {
    if (this.size === from) this.content = this.content.subarray(0, to);
  }

  flush(): void {
    this.calls.push('flush');
  }

  scan(offset: number, length: number, visit: ExtentVisitor): boolean {
    return visit({
      offset,
      length,
      data: !this.holes,
      depth: 0,
      present: true,
      compressed: false,
      shared: false,
      problem: undefined,
      hostOffset: undefined,
    });
  }

  storedBytes(): number {
    return 1024;
  }

  close(): void {}
}
