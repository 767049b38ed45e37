/** Requests as no kernel sends them: every opcode with fields at their edges, cut short, too long, or plain noise. */
import {
  fallocateIn,
  inHeader,
  initIn,
  lseekIn,
  Opcode,
  openIn,
  readIn,
  setattrIn,
  writeIn,
} from '../../src/fuse/protocol.js';
import type { Random } from '../support/random.js';
import { ACCESSES, type RequestInput } from './input.js';

/** To open a disk takes longer than all of them. */
const MAX_REQUESTS = 160;
const OPCODES = Object.values(Opcode);
/** The directory and the disk, and two that do not exist. */
const NODES = [1, 1, 1, 2, 2, 2, 0, 3];
const NAMES = ['disk', '.', '..', '', 'x'.repeat(300), 'disk\0more', 'a/b', '\u0000'];
/** The body that an opcode has; the rest have a name or nothing. */
const BODIES: Readonly<
  Record<number, { readonly size: number; readonly offsets: Readonly<Record<string, number>> }>
> = {
  [Opcode.READ]: readIn,
  [Opcode.READDIR]: readIn,
  [Opcode.READDIRPLUS]: readIn,
  [Opcode.WRITE]: writeIn,
  [Opcode.INIT]: initIn,
  [Opcode.OPEN]: openIn,
  [Opcode.OPENDIR]: openIn,
  [Opcode.SETATTR]: setattrIn,
  [Opcode.FALLOCATE]: fallocateIn,
  [Opcode.LSEEK]: lseekIn,
};

const WITH_BODY = Object.keys(BODIES).map(Number);

export function mutateRequests(
  random: Random,
  input: RequestInput,
  diskSize: number,
  other: RequestInput | undefined,
): RequestInput {
  const requests = [...input.requests];
  if (requests.length > 0 && random.below(6) === 0) requests.splice(random.below(requests.length), 1);
  if (other !== undefined && random.below(8) === 0) requests.push(...other.requests);
  const changes = 1 + random.below(24);
  for (let change = 0; change < changes; change++) {
    const at = random.below(requests.length + 1);
    const old = requests[at];
    if (old !== undefined && random.below(2) === 0) requests[at] = damage(random, old);
    else requests.splice(at, 0, makeRequest(random, diskSize));
  }
  while (requests.length > MAX_REQUESTS) requests.splice(random.below(requests.length), 1);
  const access = random.below(8) === 0 ? random.pick(ACCESSES) : input.access;
  const isRoot = random.below(8) === 0 ? !input.isRoot : input.isRoot;
  return { ...input, access, isRoot, requests };
}

function makeRequest(random: Random, diskSize: number): string {
  const opcode =
    random.below(20) === 0 ? random.u32() : random.pick(random.below(2) === 0 ? OPCODES : WITH_BODY);
  const body = makeBody(random, opcode, diskSize);
  const request = Buffer.alloc(inHeader.size + body.length);
  body.copy(request, inHeader.size);
  request.writeUInt32LE(request.length, inHeader.offsets.len);
  request.writeUInt32LE(opcode, inHeader.offsets.opcode);
  request.writeBigUInt64LE(random.u64(), inHeader.offsets.unique);
  const node = random.below(8) === 0 ? wideNumber(random, diskSize) : BigInt(random.pick(NODES));
  request.writeBigUInt64LE(node, inHeader.offsets.nodeid);
  return request.toString('hex');
}

function makeBody(random: Random, opcode: number, diskSize: number): Buffer {
  const known = BODIES[opcode];
  if (known === undefined) {
    if (random.below(2) === 0) return Buffer.from(`${random.pick(NAMES)}\0`);
    return random.bytes(random.below(64));
  }
  const data = opcode === Opcode.WRITE ? random.bytes(random.pick([0, 1, 511, 512, 4096])) : Buffer.alloc(0);
  const body = Buffer.concat([Buffer.alloc(known.size), data]);
  const places = [...Object.values(known.offsets), known.size];
  for (const [index, at] of places.slice(0, -1).entries()) {
    const width = places[index + 1]! - at;
    if (width === 8) body.writeBigUInt64LE(wideNumber(random, diskSize), at);
    else if (width === 4) body.writeUInt32LE(number(random), at);
  }
  // Mostly the size that its data has.
  if (opcode === Opcode.WRITE && random.below(4) > 0) body.writeUInt32LE(data.length, writeIn.offsets.size);
  return body;
}

/** Modes and flags are small, sizes are powers of two. */
function number(random: Random): number {
  switch (random.below(6)) {
    case 0:
      return random.u32();
    case 1:
      return (2 ** random.below(33) - random.below(2)) % 2 ** 32;
    case 2:
      return 0xffff_ffff;
    case 3:
      return random.pick([4096, 65536, 1024 * 1024, 1024 * 1024 + 1]);
    default:
      return random.below(34);
  }
}

/** Mostly near the disk. */
function wideNumber(random: Random, diskSize: number): bigint {
  switch (random.below(8)) {
    case 0:
      return random.u64();
    case 1:
      return BigInt.asUintN(64, (1n << BigInt(random.below(65))) - BigInt(random.below(2)));
    case 2:
      return BigInt(diskSize + random.pick([-513, -512, -1, 0, 1, 512, 4096, 1024 * 1024]));
    case 3:
    case 4:
      return BigInt(random.below(4));
    default:
      return BigInt(random.below(diskSize));
  }
}

function damage(random: Random, old: string): string {
  const request = Buffer.from(old, 'hex');
  switch (random.below(4)) {
    case 0:
      return request.subarray(0, random.below(request.length + 1)).toString('hex');
    case 1:
      return Buffer.concat([request, random.bytes(1 + random.below(64))]).toString('hex');
    case 2: {
      // The length that it says stays right, so that what follows is looked at.
      const cut = Buffer.from(request.subarray(0, inHeader.size + random.below(request.length)));
      if (cut.length >= inHeader.size) cut.writeUInt32LE(cut.length, inHeader.offsets.len);
      return cut.toString('hex');
    }
    default:
      for (let count = 1 + random.below(4); count > 0; count--) {
        const at = random.below(Math.min(request.length, 128));
        if (at < request.length) request[at] = random.u32() & 0xff;
      }
      return request.toString('hex');
  }
}
