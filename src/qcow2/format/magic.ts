/** Tells disk image formats apart by their first bytes, so that none of them is ever taken for raw data. */

const SIGNATURES: readonly (readonly [offset: number, magic: Buffer, name: string])[] = [
  [0, Buffer.from('QFI\xfb\x00\x00\x00\x01', 'latin1'), 'qcow (version 1)'],
  [0, Buffer.from('QFI\xfb', 'latin1'), 'qcow2'],
  [0, Buffer.from('QED\0', 'latin1'), 'QED'],
  [0, Buffer.from('KDMV'), 'VMDK'],
  [0, Buffer.from('COWD'), 'VMDK (version 3)'],
  [0, Buffer.from('# Disk DescriptorFile'), 'a VMDK descriptor'],
  [0, Buffer.from('vhdxfile'), 'VHDX'],
  [0, Buffer.from('conectix'), 'VHD'],
  [0x40, Buffer.from([0x7f, 0x10, 0xda, 0xbe]), 'VDI'],
  [0, Buffer.from('WithoutFreeSpace'), 'a Parallels disk'],
  [0, Buffer.from('WithouFreSpacExt'), 'a Parallels disk'],
  [0, Buffer.from('LUKS\xba\xbe', 'latin1'), 'LUKS'],
  [0, Buffer.from('Bochs Virtual HD Image'), 'a Bochs disk'],
  [0, Buffer.from('#!/bin/sh\n#V2.0 Format\nmodprobe cloop'), 'cloop'],
  [0, Buffer.from('EVF\x09\x0d\x0a\xff\x00', 'latin1'), 'EWF (Expert Witness)'],
  [0, Buffer.from('EVF2\x0d\x0a\x81\x00', 'latin1'), 'EWF2 (Expert Witness)'],
];

/** Bytes that `identifyFormat` looks at. */
export const MAGIC_BYTES = 0x44;

/** The name of the disk image format that `bytes` (the start of a file) belong to, or undefined. */
export function identifyFormat(bytes: Buffer): string | undefined {
  return SIGNATURES.find(([at, magic]) => bytes.subarray(at, at + magic.length).equals(magic))?.[2];
}
