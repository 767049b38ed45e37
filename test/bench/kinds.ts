/** The kinds of image that are measured. */

export type KindName = 'plain' | 'luks' | 'zlib' | 'zstd' | 'chain';

export interface Kind {
  readonly name: KindName;
  readonly title: string;
  /** What the disk is filled with. */
  readonly content: 'random' | 'compressible';
  readonly encrypted: boolean;
  readonly compressed: boolean;
  /** What follows -o of qemu-img. */
  readonly format: readonly string[];
  /** The number of images in the chain. */
  readonly layers: number;
}

const plain: Kind = {
  name: 'plain',
  title: 'plain',
  content: 'random',
  encrypted: false,
  compressed: false,
  format: [],
  layers: 1,
};

export const KINDS: readonly Kind[] = [
  plain,
  {
    ...plain,
    name: 'luks',
    title: 'LUKS',
    encrypted: true,
    format: [
      'encrypt.format=luks',
      'encrypt.key-secret=s',
      'encrypt.iter-time=100',
      'encrypt.cipher-alg=aes-256',
      'encrypt.cipher-mode=xts',
      'encrypt.ivgen-alg=plain64',
      'encrypt.hash-alg=sha256',
    ],
  },
  { ...plain, name: 'zlib', title: 'zlib', content: 'compressible', compressed: true },
  {
    ...plain,
    name: 'zstd',
    title: 'zstd',
    content: 'compressible',
    compressed: true,
    format: ['compression_type=zstd'],
  },
  { ...plain, name: 'chain', title: 'chain of 9', layers: 9 },
];

export const PLAIN = plain;
export const KIND_NAMES: readonly KindName[] = KINDS.map((kind) => kind.name);
