/** Tells what is no qcow2 image by its first bytes: other disk image formats, and what images are packed in. */
import { shellWord } from '../../printable.js';

type Signature = readonly [offset: number, magic: string, name: string, advice: string];

const convert = (driver: string): string =>
  `convert it: qemu-img convert -f ${driver} -O qcow2 FILE disk.qcow2`;
const unpack = (command: string): string => `unpack it: ${command}`;

/** Magics are Latin-1. A disk image format is never taken for raw data. */
const DISK_IMAGES: readonly Signature[] = [
  [0, 'QFI\xfb\x00\x00\x00\x01', 'qcow (version 1)', convert('qcow')],
  [0, 'QFI\xfb', 'qcow2', ''],
  [0, 'QED\0', 'QED', convert('qed')],
  [0, 'KDMV', 'VMDK', convert('vmdk')],
  [0, 'COWD', 'VMDK (version 3)', convert('vmdk')],
  [0, '# Disk DescriptorFile', 'a VMDK descriptor', convert('vmdk')],
  [0, 'vhdxfile', 'VHDX', convert('vhdx')],
  [0, 'conectix', 'VHD', convert('vpc')],
  [0x40, '\x7f\x10\xda\xbe', 'VDI', convert('vdi')],
  [0, 'WithoutFreeSpace', 'a Parallels disk', convert('parallels')],
  [0, 'WithouFreSpacExt', 'a Parallels disk', convert('parallels')],
  [0, 'LUKS\xba\xbe', 'LUKS', 'open it: cryptsetup open --readonly FILE disk'],
  [0, 'Bochs Virtual HD Image', 'a Bochs disk', convert('bochs')],
  [0, '#!/bin/sh\n#V2.0 Format\nmodprobe cloop', 'cloop', convert('cloop')],
  [0, 'EVF\x09\x0d\x0a\xff\x00', 'EWF (Expert Witness)', 'mount it: ewfmount FILE DIRECTORY'],
  [0, 'EVF2\x0d\x0a\x81\x00', 'EWF2 (Expert Witness)', 'mount it: ewfmount FILE DIRECTORY'],
];

/** A raw disk may begin with any of these, for a guest may have written an archive to it. */
const PACKED: readonly Signature[] = [
  [0, '\x1f\x8b', 'a gzip file', unpack('gzip -dc FILE > disk.qcow2')],
  [0, 'BZh', 'a bzip2 file', unpack('bzip2 -dc FILE > disk.qcow2')],
  [0, '\xfd7zXZ\0', 'an xz file', unpack('xz -dc FILE > disk.qcow2')],
  [0, '\x28\xb5\x2f\xfd', 'a zstd file', unpack('zstd -dc FILE > disk.qcow2')],
  [0, '\x04\x22\x4d\x18', 'an lz4 file', unpack('lz4 -dc FILE > disk.qcow2')],
  [0, '7z\xbc\xaf\x27\x1c', 'a 7-Zip archive', unpack('7z x FILE')],
  [0, 'PK\x03\x04', 'a ZIP archive', unpack('unzip FILE')],
  [257, 'ustar', 'a tar archive (an OVA is one)', unpack('tar -xf FILE')],
];

/** Bytes that `identifyFormat` and `describeForeign` look at. */
export const MAGIC_BYTES = 262;

/** The name of the disk image format that `bytes` (the start of a file) belong to, or undefined. */
export function identifyFormat(bytes: Buffer): string | undefined {
  return find(DISK_IMAGES, bytes)?.[2];
}

/**
 * What a file that is no qcow2 image looks like, and what to do with it.
 * @param bytes its start
 * @returns undefined where it looks like nothing
 */
export function describeForeign(bytes: Buffer, path: string): string | undefined {
  const found = find(DISK_IMAGES, bytes) ?? find(PACKED, bytes);
  if (found === undefined) return undefined;
  const [, , name, advice] = found;
  // A function, since a path may look like a pattern of `replace`.
  return `it looks like ${name}; ${advice.replace('FILE', () => shellWord(path))}`;
}

function find(signatures: readonly Signature[], bytes: Buffer): Signature | undefined {
  return signatures.find(
    ([at, magic]) => bytes.toString('latin1', at, Math.min(at + magic.length, bytes.length)) === magic,
  );
}
