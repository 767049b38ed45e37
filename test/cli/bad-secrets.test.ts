import fs from 'node:fs';
import path from 'node:path';
import { EXTENSION, patchNumber, readExtensions } from '../support/damage.js';
import {
  luksHeader,
  patchLuks,
  patchLuksPointer,
  patchLuksSlot,
  readLuksSlot,
} from '../support/damage-luks.js';
import { createImage, imagePath, KiB, MiB, takeSnapshot, writeSecret } from '../support/images.js';
import { type Attempt, describeRefusals, type Refusal } from '../support/refusals.js';

const PASSPHRASE = 'open sesame';

/** A LUKS image to which something is done, and the option that opens it, unless `change` returns others. */
function luks(change: (image: string, secret: string) => unknown): Refusal['make'] {
  return (dir): Attempt => {
    const secret = writeSecret(dir, PASSPHRASE);
    const encryption = ['encrypt.format=luks', 'encrypt.iter-time=10'];
    const image = imagePath(createImage(dir, { size: MiB, secret, encryption }));
    const args = change(image, secret.file);
    return { image, args: Array.isArray(args) ? (args as string[]) : ['--secret-file', secret.file] };
  };
}

function secretOf(content: string | Uint8Array, format = 'raw'): Refusal['make'] {
  return luks((_, secret) => {
    fs.writeFileSync(secret, content);
    return ['--secret-file', secret, '--secret-format', format];
  });
}

function plain(args: (dir: string) => readonly string[]): Refusal['make'] {
  return (dir) => ({ image: imagePath(createImage(dir, { size: MiB })), args: args(dir) });
}

describeRefusals('secrets', [
  {
    title: 'a LUKS image without a secret, and names the option',
    make: luks(() => []),
    kind: 'secret',
    words: ['image.qcow2', 'encrypted (LUKS)', '--secret-file'],
  },
  {
    title: 'a legacy AES image without a secret',
    make: (dir) => {
      const secret = writeSecret(dir, PASSPHRASE);
      return imagePath(createImage(dir, { size: MiB, secret, encryption: ['encrypt.format=aes'] }));
    },
    kind: 'secret',
    words: ['image.qcow2', 'encrypted (AES)', '--secret-file'],
  },
  {
    title: 'the wrong secret',
    make: secretOf('open barley'),
    kind: 'secret',
    words: ['image.qcow2', 'wrong secret'],
  },
  { title: 'an empty secret', make: secretOf(''), kind: 'secret', words: ['wrong secret'] },
  {
    title: 'a secret with a newline at its end, and says that the newline counts',
    make: secretOf(`${PASSPHRASE}\n`),
    kind: 'secret',
    words: ['wrong secret', 'newline'],
  },
  {
    title: 'a secret for a plain image',
    make: plain((dir) => ['--secret-file', writeSecret(dir, PASSPHRASE).file]),
    kind: 'secret',
    words: ['image.qcow2', 'not encrypted', '--secret-file'],
  },
  {
    title: 'a secret for an image that a plain chain does not have',
    make: plain((dir) => ['--secret-file', `base.qcow2=${writeSecret(dir, PASSPHRASE).file}`]),
    kind: 'secret',
    words: ['image.qcow2', 'no encrypted image base.qcow2', '--secret-file base.qcow2='],
  },
  {
    title: 'a secret file that is missing',
    make: luks((_, secret) => ['--secret-file', `${secret}-missing`]),
    kind: 'secret',
    words: ['secret-missing', 'no such file'],
  },
  {
    title: 'a secret file that is a directory',
    make: luks((image) => ['--secret-file', path.dirname(image)]),
    kind: 'secret',
    words: ['directory'],
  },
  {
    title: 'a secret file that is far too large',
    make: secretOf(Buffer.alloc(MiB + 1)),
    kind: 'secret',
    words: ['secret', '1048576'],
  },
  {
    title: 'bad base64, without showing it',
    make: secretOf('open sesame!', 'base64'),
    kind: 'secret',
    words: ['secret', 'base64'],
  },
  {
    title: 'base64 with carriage returns',
    make: secretOf(`${Buffer.from(PASSPHRASE).toString('base64')}\r\n`, 'base64'),
    kind: 'secret',
    words: ['secret', 'base64'],
  },
  {
    title: 'the right secret in base64, taken as raw',
    make: secretOf(Buffer.from(PASSPHRASE).toString('base64')),
    kind: 'secret',
    words: ['wrong secret'],
  },
]);

describeRefusals('LUKS headers', [
  ...['camellia', 'blowfish', 'des'].map(
    (cipher): Refusal => ({
      title: `the cipher ${cipher}, by its name`,
      make: luks((image) => patchLuks(image, 'cipherName', cipher)),
      kind: 'unsupported',
      words: ['image.qcow2', cipher],
    }),
  ),
  {
    title: 'a cipher mode that it does not know',
    make: luks((image) => patchLuks(image, 'cipherMode', 'lrw-plain64')),
    kind: 'unsupported',
    words: ['lrw-plain64'],
  },
  {
    title: 'an IV generator that it does not know',
    make: luks((image) => patchLuks(image, 'cipherMode', 'xts-benbi')),
    kind: 'unsupported',
    words: ['image.qcow2', 'IV generator', 'benbi'],
  },
  {
    title: 'a cipher mode without an IV generator',
    make: luks((image) => patchLuks(image, 'cipherMode', 'xts')),
    kind: 'format',
    words: ['image.qcow2', 'IV generator'],
  },
  {
    title: 'a hash that it does not know',
    make: luks((image) => patchLuks(image, 'hashSpec', 'whirlpool')),
    kind: 'unsupported',
    words: ['image.qcow2', 'hash', 'whirlpool'],
  },
  {
    title: 'a cipher name that would write on the terminal',
    make: luks((image) => patchLuks(image, 'cipherName', 'evil\x1b[2J')),
    kind: 'unsupported',
    words: ['evil'],
  },
  {
    title: 'a hash name that would write on the terminal',
    make: luks((image) => patchLuks(image, 'hashSpec', 'evil\x1b[2J\r')),
    kind: 'unsupported',
    words: ['evil'],
  },
  {
    title: 'LUKS version 2, by its name',
    make: luks((image) => patchLuks(image, 'version', 2)),
    kind: 'unsupported',
    words: ['image.qcow2', 'LUKS', '2'],
  },
  {
    title: 'a LUKS header without its magic',
    make: luks((image) => patchLuks(image, 'magic', 'SKUL')),
    kind: 'format',
    words: ['image.qcow2', 'LUKS'],
  },
  {
    title: 'a LUKS header outside the file',
    make: luks((image) => patchLuksPointer(image, 1n << 40n, luksHeader(image).length)),
    kind: 'format',
    words: ['image.qcow2', 'LUKS'],
  },
  {
    title: 'a huge LUKS header',
    make: luks((image) => patchLuksPointer(image, luksHeader(image).offset, 1n << 40n)),
    kind: 'format',
    words: ['image.qcow2', 'LUKS', '67108864'],
  },
  {
    title: 'an unaligned LUKS header',
    make: luks((image) => patchLuksPointer(image, luksHeader(image).offset + 512, luksHeader(image).length)),
    kind: 'format',
    words: ['image.qcow2', 'LUKS', 'cluster'],
  },
  {
    title: 'a LUKS extension of 8 bytes',
    make: luks((image) => {
      const pointer = readExtensions(image).find(({ type }) => type === EXTENSION.encryption)!;
      patchNumber(image, pointer.offset - 4, 4, 8);
    }),
    kind: 'format',
    words: ['image.qcow2'],
  },
  {
    title: 'a LUKS header without a key',
    make: luks((image) => patchLuksSlot(image, 0, 'active', 0x0000dead)),
    kind: 'secret',
    words: ['image.qcow2', 'no active key slot'],
  },
  {
    title: 'a key slot without iterations',
    make: luks((image) => patchLuksSlot(image, 0, 'iterations', 0)),
    kind: 'corrupt',
    words: ['image.qcow2', 'key slot 0', '0 PBKDF2 iterations'],
  },
  {
    title: 'a key slot with the wrong number of stripes',
    make: luks((image) => patchLuksSlot(image, 0, 'stripes', 0xffffffff)),
    kind: 'corrupt',
    words: ['image.qcow2', 'key slot 0', 'stripes'],
  },
  {
    title: 'key material outside the LUKS header',
    make: luks((image) => patchLuksSlot(image, 0, 'keyMaterialOffset', 0x7fffffff)),
    kind: 'corrupt',
    words: ['image.qcow2', 'key slot 0', 'outside the LUKS header'],
  },
  {
    title: 'key material that ends outside the LUKS header',
    make: luks((image) => {
      const start = 512 * Number(readLuksSlot(image, 0, 'keyMaterialOffset'));
      patchLuksPointer(image, luksHeader(image).offset, start + 512);
    }),
    kind: 'corrupt',
    words: ['image.qcow2', 'key slot 0', 'outside the LUKS header'],
  },
  {
    title: 'a master key of 4 GiB',
    make: luks((image) => patchLuks(image, 'keyBytes', 0xffffffff)),
    kind: 'unsupported',
    words: ['image.qcow2', '4294967295'],
  },
  {
    title: 'a master key digest without iterations',
    make: luks((image) => patchLuks(image, 'masterKeyIterations', 0)),
    kind: 'corrupt',
    words: ['image.qcow2', 'digest', '0 PBKDF2 iterations'],
  },
]);

function withSnapshots(...names: readonly string[]): (dir: string) => string {
  return (dir) => {
    const image = createImage(dir, { size: 64 * KiB });
    names.forEach((name, index) => {
      takeSnapshot(image, name, String(index + 1));
    });
    return imagePath(image);
  };
}

describeRefusals('snapshots', [
  {
    title: 'a snapshot that the image does not have, and tells which it has',
    make: (dir) => ({ image: withSnapshots('first', 'second')(dir), args: ['--snapshot', 'third'] }),
    kind: 'snapshot',
    words: ['image.qcow2', '"third"', '1 (first)', '2 (second)'],
  },
  {
    title: 'any snapshot of an image without one',
    make: (dir) => ({ image: withSnapshots()(dir), args: ['--snapshot', '1'] }),
    kind: 'snapshot',
    words: ['image.qcow2', '"1"', 'none'],
  },
  {
    title: 'an empty snapshot name',
    make: (dir) => ({ image: withSnapshots('first')(dir), args: ['--snapshot', ''] }),
    kind: 'snapshot',
    words: ['image.qcow2', '""'],
  },
  {
    title: 'a snapshot, listing names that would write on the terminal',
    make: (dir) => ({ image: withSnapshots('evil\x1b[31m\rname')(dir), args: ['--snapshot', 'other'] }),
    kind: 'snapshot',
    words: ['evil', 'name'],
  },
]);
