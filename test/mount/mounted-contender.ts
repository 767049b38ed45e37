/** A process that contends for a mounted disk beside others: told by its parent what to do, it tells what it saw. */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import {
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  fallocate,
} from '../../src/host/libc.js';
import { Contender, type Order } from '../support/contention/contender.js';
import { isDirect } from '../support/contention/layout.js';
import type { Target } from '../support/random-guest.js';

export interface MountedOrder extends Order {
  /** The file that shows the disk. */
  readonly disk: string;
}

/** One of so many punches is made by the tool, which opens and closes the disk besides. */
const TOOL_SHARE = 8;

/**
 * Every access goes past the page cache or through it, as its place demands. Who only writes has the disk open for
 * nothing else, and passes no page cache: such writers may be let in side by side.
 */
function targetOf({ disk, layout, role }: MountedOrder): Target {
  const { O_RDWR, O_WRONLY, O_DIRECT } = fs.constants;
  const buffered = fs.openSync(disk, role === 'writer' ? O_WRONLY : O_RDWR);
  const direct = role === 'writer' ? buffered : fs.openSync(disk, O_RDWR | O_DIRECT);
  const at = (offset: number): number => (isDirect(layout, offset) ? direct : buffered);
  let punches = 0;
  return {
    size: fs.fstatSync(buffered).size,
    read(target, length, offset) {
      const read = fs.readSync(at(offset), target, 0, length, offset);
      if (read !== length) throw new Error(`${read} of ${length} bytes read at ${offset}`);
    },
    write(source, length, offset) {
      const written = fs.writeSync(at(offset), source, 0, length, offset);
      if (written !== length) throw new Error(`${written} of ${length} bytes written at ${offset}`);
    },
    discard(offset, length) {
      if (role !== 'writer' && punches++ % TOOL_SHARE === 0) punchByTool(disk, offset, length);
      else fallocate(buffered, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
    },
    zero: (offset, length) => fallocate(buffered, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, offset, length),
    flush: () => fs.fsyncSync(buffered),
  };
}

function punchByTool(disk: string, offset: number, length: number): void {
  const args = ['--punch-hole', '--offset', String(offset), '--length', String(length), disk];
  const { status, stderr } = spawnSync('fallocate', args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`fallocate: status ${status}: ${stderr}`);
}

process.once('message', (order: MountedOrder) => {
  const report = new Contender(order, targetOf(order)).run();
  process.send!(report, () => process.disconnect());
});
