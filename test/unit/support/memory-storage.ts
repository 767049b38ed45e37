import type { Storage } from '../../../src/storage.js';

/** A file in memory that counts what is read of it. */
export class MemoryStorage implements Storage {
  readonly path = '/memory/image.qcow2';
  readonly extensible = true;
  readonly content: Buffer;
  reads = 0;

  constructor(content: Buffer) {
    this.content = content;
  }

  size(): number {
    return this.content.length;
  }

  allocatedBytes(): number {
    return this.content.length;
  }

  read(target: Buffer, targetOffset: number, length: number, position: number): number {
    this.reads++;
    if (position >= this.content.length) return 0;
    return this.content.copy(target, targetOffset, position, position + length);
  }

  nextData(position: number): number {
    return position;
  }

  nextHole(): number {
    return this.content.length;
  }

  write(): never {
    throw new Error('not expected');
  }
  punch(): never {
    throw new Error('not expected');
  }
  zero(): never {
    throw new Error('not expected');
  }
  truncate(): never {
    throw new Error('not expected');
  }
  sync(): void {}
  close(): void {}
}
