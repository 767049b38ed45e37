/** LUKS and legacy AES. */

import { compressedGuest, type Guest, overlayGuest, richGuest, subclusterGuest } from './guests.js';
import {
  amendKeySlots,
  checkSnapshot,
  createRaw,
  type Image,
  type ImageSpec,
  KiB,
  MiB,
  resize,
  takeSnapshot,
  writeSecret,
  writeSteps,
} from './images.js';
import { SECTOR_SIZE } from './pattern.js';
import { built, builtSnapshot, filled, sizeName, type Variant } from './variant.js';

const PASSPHRASE = 'correct horse battery staple';

interface LuksSettings {
  /** As QEMU names them: `serpent-256`. */
  readonly cipher?: string;
  readonly mode?: 'xts' | 'cbc' | 'ecb' | 'ctr';
  /** `essiv:sha256` and the like. */
  readonly iv?: string;
  readonly hash?: string;
}

function luks(settings: LuksSettings = {}): readonly string[] {
  const { cipher = 'aes-256', mode = 'xts', iv = 'plain64', hash = 'sha256' } = settings;
  const [generator, ivHash] = iv.split(':');
  return [
    ...['encrypt.format=luks', 'encrypt.iter-time=10', `encrypt.hash-alg=${hash}`],
    ...[`encrypt.cipher-alg=${cipher}`, `encrypt.cipher-mode=${mode}`, `encrypt.ivgen-alg=${generator}`],
    ...(ivHash === undefined ? [] : [`encrypt.ivgen-hash-alg=${ivHash}`]),
  ];
}

const AES = ['encrypt.format=aes'];

/** One encrypted image; the passphrase is what the secret file holds. */
function encrypted(
  name: string,
  encryption: readonly string[],
  spec: ImageSpec = {},
  guest: Guest = richGuest,
  passphrase = PASSPHRASE,
): Variant {
  return {
    name,
    build: (dir) => {
      const secret = writeSecret(dir, passphrase);
      return built(filled(dir, { ...spec, secret, encryption }, 1, guest));
    },
  };
}

// QEMU 7.2 refuses: essiv with sha1, ripemd160 (20 bytes), sha224 (28), sha384 (48) and sha512 (64), whose digests
// are no AES key size; it aborts on aes-192 in cbc and ecb ("QEMU_IS_ALIGNED(len, sectorsize)": 24 x 4000 is no
// multiple of 512).
const CIPHERS: readonly Required<LuksSettings>[] = [
  { cipher: 'aes-256', mode: 'xts', iv: 'plain64', hash: 'sha256' },
  { cipher: 'aes-128', mode: 'xts', iv: 'plain64', hash: 'sha1' },
  { cipher: 'aes-192', mode: 'xts', iv: 'plain64', hash: 'sha256' },
  { cipher: 'aes-256', mode: 'xts', iv: 'plain', hash: 'sha512' },
  { cipher: 'aes-256', mode: 'xts', iv: 'essiv:sha256', hash: 'sha256' },
  { cipher: 'aes-128', mode: 'cbc', iv: 'plain64', hash: 'sha224' },
  { cipher: 'aes-256', mode: 'cbc', iv: 'plain', hash: 'sha384' },
  { cipher: 'aes-128', mode: 'cbc', iv: 'essiv:sha256', hash: 'ripemd160' },
  { cipher: 'aes-256', mode: 'cbc', iv: 'essiv:sha256', hash: 'sha256' },
  { cipher: 'aes-256', mode: 'cbc', iv: 'essiv:md5', hash: 'md5' },
  { cipher: 'aes-128', mode: 'ecb', iv: 'plain64', hash: 'sha256' },
  { cipher: 'aes-256', mode: 'ecb', iv: 'plain', hash: 'sha1' },
  { cipher: 'aes-256', mode: 'ctr', iv: 'essiv:sha256', hash: 'sha256' },
  { cipher: 'serpent-256', mode: 'xts', iv: 'plain64', hash: 'sha512' },
  { cipher: 'twofish-192', mode: 'xts', iv: 'essiv:sha256', hash: 'ripemd160' },
  { cipher: 'twofish-128', mode: 'cbc', iv: 'plain64', hash: 'sha256' },
  { cipher: 'cast5-128', mode: 'cbc', iv: 'essiv:md5', hash: 'sha256' },
  { cipher: 'cast5-128', mode: 'ctr', iv: 'plain64', hash: 'sha1' },
];

const luksImages: readonly Variant[] = [
  ...CIPHERS.map((settings) =>
    encrypted(
      `LUKS, ${settings.cipher}-${settings.mode}-${settings.iv}, hash ${settings.hash}`,
      luks(settings),
    ),
  ),
  ...[512, 4 * KiB, 2 * MiB].map((clusterSize) =>
    encrypted(`LUKS, ${sizeName(clusterSize)} clusters`, luks(), { clusterSize }),
  ),
  encrypted('LUKS, v2', luks(), { version: 2 }),
  encrypted('LUKS, zlib compressed clusters', luks(), {}, compressedGuest),
  encrypted(
    'LUKS, zstd compressed clusters',
    luks(),
    { options: ['compression_type=zstd'] },
    compressedGuest,
  ),
  encrypted('LUKS, extended L2', luks(), { options: ['extended_l2=on'] }, subclusterGuest),
  encrypted('LUKS, external data file', luks(), { options: ['data_file=data.raw'] }),
  encrypted('LUKS, secret ending in a newline', luks(), {}, richGuest, `${PASSPHRASE}\n`),
  {
    name: 'LUKS, secret in base64',
    build: (dir) => {
      // Base64 in two lines, of a key with a newline inside and non-ASCII letters.
      const text = Buffer.from('línea\nzwei\n', 'utf8').toString('base64');
      const secret = writeSecret(dir, `${text.slice(0, 8)}\n${text.slice(8)}\n`, 'secret', 'base64');
      return built(filled(dir, { secret, encryption: luks() }, 1));
    },
  },
];

/** A LUKS image whose second key stands in `slot`; the first one, in slot 0, goes when `alone`. */
function keySlot(name: string, slot: number, alone: boolean): Variant {
  return {
    name,
    build: (dir) => {
      const first = writeSecret(dir, PASSPHRASE, 'first-secret');
      const image = filled(dir, { secret: first, encryption: luks() }, 1);
      const second = writeSecret(dir, 'another passphrase', 'second-secret');
      amendKeySlots(image, ['state=active', 'new-secret=added', `keyslot=${slot}`, 'iter-time=10'], second);
      if (alone) amendKeySlots(image, ['state=inactive', 'keyslot=0']);
      return built({ ...image, secret: second });
    },
  };
}

const keySlots: readonly Variant[] = [
  keySlot('LUKS, key in slot 1 of two', 1, false),
  keySlot('LUKS, key in the last slot, the only one', 7, true),
];

const legacy: readonly Variant[] = [
  encrypted('legacy AES, v2', AES, { version: 2 }),
  ...[512, 64 * KiB, 2 * MiB].map((clusterSize) =>
    encrypted(`legacy AES, v3, ${sizeName(clusterSize)} clusters`, AES, { clusterSize }),
  ),
  encrypted('legacy AES, compressed clusters', AES, {}, compressedGuest),
  encrypted('legacy AES, v2, compressed clusters', AES, { version: 2 }, compressedGuest),
  encrypted('legacy AES, key of 5 bytes', AES, {}, richGuest, 'short'),
  encrypted('legacy AES, key of 16 bytes', AES, {}, richGuest, '0123456789abcdef'),
  encrypted('legacy AES, size no multiple of the cluster', AES, { size: MiB + SECTOR_SIZE }),
  encrypted('legacy AES, extended L2', AES, { options: ['extended_l2=on'] }, subclusterGuest),
  encrypted('legacy AES, external data file', AES, { options: ['data_file=data.raw'] }),
];

/** A chain of two qcow2 files with the same key for whichever is encrypted. */
function chain(
  name: string,
  base: readonly string[] | undefined,
  overlay: readonly string[] | undefined,
  guest: Guest = overlayGuest,
): Variant {
  return {
    name,
    build: (dir) => {
      const secret = writeSecret(dir, PASSPHRASE);
      filled(dir, { name: 'base.qcow2', ...(base === undefined ? {} : { secret, encryption: base }) }, 1);
      return built(
        filled(
          dir,
          {
            secret,
            backing: { file: 'base.qcow2', format: 'qcow2', encrypted: base !== undefined },
            ...(overlay === undefined ? {} : { encryption: overlay }),
          },
          2,
          guest,
        ),
      );
    },
  };
}

const chains: readonly Variant[] = [
  chain('a LUKS overlay on a plain base', undefined, luks()),
  chain('a plain overlay on a LUKS base', luks(), undefined),
  chain('a LUKS overlay on a LUKS base', luks(), luks()),
  chain('a LUKS overlay with compressed clusters on a LUKS base', luks(), luks(), compressedGuest),
  chain('a legacy AES overlay on a plain base', undefined, AES),
  chain('a plain overlay on a legacy AES base', AES, undefined),
  chain('a legacy AES overlay on a legacy AES base', AES, AES),
  chain('a legacy AES overlay on a LUKS base', luks(), AES),
  {
    name: 'a legacy AES overlay on a raw file of 1 MiB + 1000 bytes',
    build: (dir) => {
      createRaw(dir, 'base.raw', MiB + 1000, 1);
      const secret = writeSecret(dir, PASSPHRASE);
      const backing = { file: 'base.raw', format: 'raw' } as const;
      return built(filled(dir, { secret, encryption: AES, backing }, 2, overlayGuest));
    },
  },
];

/** A snapshot, then the disk overwritten, and resized when a size is given. */
function snapshot(name: string, encryption: readonly string[], guest: Guest, size?: number): Variant {
  return {
    name,
    build: (dir) => {
      const secret = writeSecret(dir, PASSPHRASE);
      const image: Image = filled(dir, { secret, encryption }, 1, guest);
      const taken = takeSnapshot(image, 'before', '1');
      if (size !== undefined) resize(image, size);
      writeSteps(image, 2, [{ do: 'data', offset: SECTOR_SIZE, length: MiB }]);
      checkSnapshot(image, taken);
      const present = builtSnapshot(image, taken, 'name');
      return size === undefined ? present : { ...present, resizeSensitive: true };
    },
  };
}

const snapshots: readonly Variant[] = [
  snapshot('LUKS, snapshot overwritten since', luks(), richGuest),
  snapshot('LUKS, snapshot of compressed clusters, disk resized since', luks(), compressedGuest, 3 * MiB),
  snapshot('legacy AES, snapshot overwritten since', AES, richGuest),
];

export const encryptedVariants: readonly Variant[] = [
  ...luksImages,
  ...keySlots,
  ...legacy,
  ...chains,
  ...snapshots,
];
