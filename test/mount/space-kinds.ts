/** Kinds of images that find room for new data, and give it back, in ways of their own. */

import { createImage, createRaw, type ImageSpec, MiB, writeSecret, writeSteps } from '../support/images.js';

const LUKS = ['encrypt.format=luks', 'encrypt.iter-time=10'];

export interface Kind {
  readonly name: string;
  readonly spec: (dir: string) => ImageSpec;
}

export const KINDS: readonly Kind[] = [
  { name: 'a plain image', spec: () => ({}) },
  {
    name: 'a LUKS image with 512-byte clusters',
    spec: (dir) => ({ clusterSize: 512, secret: writeSecret(dir, 'open sesame'), encryption: LUKS }),
  },
  { name: 'an image with extended L2 entries', spec: () => ({ options: ['extended_l2=on'] }) },
  {
    name: 'an image with a raw external data file',
    spec: () => ({ options: ['data_file=data.raw', 'data_file_raw=on'] }),
  },
  {
    name: 'an overlay on a longer image',
    spec: (dir) => {
      const base = createImage(dir, { name: 'base.qcow2', size: 16 * MiB });
      writeSteps(base, 1, [{ do: 'data', offset: 0, length: 16 * MiB }]);
      return { backing: { file: 'base.qcow2', format: 'qcow2' } };
    },
  },
  {
    name: 'an overlay on a longer raw file',
    spec: (dir) => {
      createRaw(dir, 'base.raw', 16 * MiB, 3);
      return { backing: { file: 'base.raw', format: 'raw' } };
    },
  },
];
