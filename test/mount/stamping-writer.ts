/**
 * A process that changes a disk until the disk goes away, and tells on standard output what it does: `begin` before an
 * operation, `done N` when everything up to operation N was acknowledged by fdatasync(2) or its like.
 *
 *     node stamping-writer.js DISK SECTORS MODE SEED FIRST WRITER WRITERS
 */

import fs from 'node:fs';
import {
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  fallocate,
} from '../../src/host/libc.js';
import { SECTOR_SIZE } from '../support/pattern.js';
import { type Operation, randomFrom, STRIPE, stampedSectors } from './stamps.js';

const MAX_BATCH = 4;

const FLAGS: Readonly<Record<string, number>> = {
  /** Through the page cache of the mount. */
  buffered: fs.constants.O_RDWR,
  /** Past it. */
  direct: fs.constants.O_WRONLY,
  /** Every write is a barrier of its own. */
  synchronous: fs.constants.O_RDWR | fs.constants.O_DSYNC,
};

const [disk, sectors, mode, seed, first, writer, writers] = process.argv.slice(2);
const stripes = Math.floor(Number(sectors) / STRIPE / Number(writers));
const random = randomFrom(Number(seed));
const stdout = 1;

function nextOperation(number: number): Operation {
  const stripe = (random(stripes) * Number(writers) + Number(writer)) * STRIPE;
  const dice = random(100);
  const count = dice < 10 ? STRIPE : dice < 60 ? 1 + random(8) : 1 + random(STRIPE);
  const start = stripe + random(STRIPE - count + 1);
  const kinds = random(100);
  const kind = kinds < 80 ? 'write' : kinds < 93 ? 'punch' : 'zero';
  return { number, kind, start, count };
}

function perform(fd: number, { number, kind, start, count }: Operation): void {
  const position = start * SECTOR_SIZE;
  const length = count * SECTOR_SIZE;
  if (kind === 'write') fs.writeSync(fd, stampedSectors(number, start, count), 0, length, position);
  else if (kind === 'zero') fallocate(fd, FALLOC_FL_ZERO_RANGE, position, length);
  else fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, position, length);
}

function work(fd: number): never {
  for (let number = Number(first); ; ) {
    const batch = 1 + random(MAX_BATCH);
    for (let index = 0; index < batch; index++) {
      const operation = nextOperation(number++);
      fs.writeSync(stdout, `begin ${JSON.stringify(operation)}\n`);
      perform(fd, operation);
    }
    fs.fdatasyncSync(fd);
    fs.writeSync(stdout, `done ${number - 1}\n`);
  }
}

try {
  work(fs.openSync(disk!, FLAGS[mode!]!));
} catch (error) {
  // The daemon was killed or told to end, and that is how this ends.
  if (!/ENOTCONN|ECONNABORTED|EIO|ENOENT/.test(String(error))) throw error;
}
