/** `Disk` for what cannot be written: the writing half refuses, and reading it costs too little to do ahead. */
import type { Disk, ExtentVisitor, ScanBudget } from './disk.js';
import { Qcow2fsError } from './errors.js';

export abstract class ReadOnlyDisk implements Disk {
  readonly readOnly = true;
  readonly growable = false;
  readonly canReadAhead: boolean = false;
  abstract readonly size: number;

  abstract read(target: Buffer, targetOffset: number, length: number, offset: number): void;
  abstract scan(offset: number, length: number, visit: ExtentVisitor, budget: ScanBudget): boolean;
  abstract storedBytes(): number;
  abstract close(): void;

  readAhead(): void {}
  write(): never {
    throw refusal();
  }
  zero(): never {
    throw refusal();
  }
  discard(): never {
    throw refusal();
  }
  resize(): never {
    throw refusal();
  }
  undoGrowth(): never {
    throw refusal();
  }
  /** Nothing is ever written, so everything already is where it belongs. */
  flush(): void {}
}

function refusal(): Qcow2fsError {
  return new Qcow2fsError('read-only', 'the disk is read-only');
}
