/** Snapshot tables and bitmap directories of any size, as no tool of QEMU writes them. */
import fs from 'node:fs';
import { addExtension, EXTENSION, patchField, readField, setFeatureBit } from './damage.js';

/** Gives an image without snapshots some, of empty disks. */
export function addSnapshots(image: string, names: readonly string[]): void {
  const entries = names.map((name, index) => {
    const fixed = Buffer.alloc(56);
    const id = Buffer.from(String(index + 1));
    fixed.writeUInt16BE(id.length, 12);
    fixed.writeUInt16BE(Buffer.byteLength(name), 14);
    fixed.writeUInt32BE(16, 36);
    return padded(Buffer.concat([fixed, id, Buffer.from(name)]));
  });
  patchField(image, 'snapshotsOffset', append(image, Buffer.concat(entries)));
  patchField(image, 'nbSnapshots', names.length);
}

/** Gives an image without bitmaps some, valid as far as the header says; their tables are empty. */
export function addBitmaps(image: string, names: readonly string[]): void {
  const entries = names.map((name) => {
    const fixed = Buffer.alloc(24);
    fixed.writeUInt8(1, 16);
    fixed.writeUInt8(16, 17);
    fixed.writeUInt16BE(Buffer.byteLength(name), 18);
    return padded(Buffer.concat([fixed, Buffer.from(name)]));
  });
  const directory = Buffer.concat(entries);
  const extension = Buffer.alloc(24);
  extension.writeUInt32BE(names.length, 0);
  extension.writeBigUInt64BE(BigInt(directory.length), 8);
  extension.writeBigUInt64BE(BigInt(append(image, directory)), 16);
  addExtension(image, EXTENSION.bitmaps, extension);
  setFeatureBit(image, 'autoclearFeatures', 0);
}

function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc(-bytes.length & 7)]);
}

/** @returns where it lies: at the start of a cluster */
function append(image: string, bytes: Buffer): number {
  const clusterSize = 2 ** Number(readField(image, 'clusterBits'));
  const offset = Math.ceil(fs.statSync(image).size / clusterSize) * clusterSize;
  fs.truncateSync(image, offset);
  fs.appendFileSync(image, bytes);
  return offset;
}
