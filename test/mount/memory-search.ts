/** Counts how often the text on standard input is in the memory of the process that the first argument names. */
import fs from 'node:fs';

const PIECE = 16 * 1024 * 1024;

function occurrences(pid: string, needle: Buffer): number {
  const memory = fs.openSync(`/proc/${pid}/mem`, 'r');
  const piece = Buffer.alloc(PIECE);
  let count = 0;
  for (const line of fs.readFileSync(`/proc/${pid}/maps`, 'latin1').split('\n')) {
    const [, start, end] = /^([0-9a-f]+)-([0-9a-f]+) r[w-].. /.exec(line) ?? [];
    if (start === undefined || (line.endsWith(']') && !/\[(heap|stack)/.test(line))) continue;
    const last = Number.parseInt(end!, 16);
    for (let at = Number.parseInt(start, 16); at < last; at += PIECE - needle.length) {
      const read = readSome(memory, piece, Math.min(PIECE, last - at), at);
      for (let hit = piece.indexOf(needle); hit !== -1 && hit + needle.length <= read; ) {
        count++;
        hit = piece.indexOf(needle, hit + 1);
      }
    }
  }
  return count;
}

/** What cannot be read was never written. */
function readSome(memory: number, piece: Buffer, length: number, position: number): number {
  try {
    return fs.readSync(memory, piece, 0, length, position);
  } catch {
    return 0;
  }
}

process.stdout.write(String(occurrences(process.argv[2]!, fs.readFileSync(0))));
