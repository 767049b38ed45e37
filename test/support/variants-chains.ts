/** Unencrypted images over backing files. */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  compressedGuest,
  compressedSubclusterGuest,
  type Guest,
  noGuest,
  overlayGuest,
  richGuest,
  stripeGuest,
  subclusterGuest,
} from './guests.js';
import {
  type Backing,
  createRaw,
  type Image,
  type ImageSpec,
  imagePath,
  KiB,
  MiB,
  takeSnapshot,
  writeSteps,
} from './images.js';
import { SECTOR_SIZE } from './pattern.js';
import { built, filled, sizeName, type Variant } from './variant.js';

const OVERLAY_SEED = 100;

interface Level {
  readonly spec?: ImageSpec;
  readonly guest?: Guest;
}

/** Two qcow2 layers in one directory. */
function onQcow2(name: string, base: Level, overlay: Level = {}): Variant {
  return {
    name,
    build: (dir) => {
      filled(dir, { ...base.spec, name: 'base.qcow2' }, 1, base.guest ?? richGuest);
      return built(over(dir, { file: 'base.qcow2', format: 'qcow2' }, overlay));
    },
  };
}

/** An overlay on a raw file of this size, full of data. */
function onRaw(name: string, rawSize: number, overlay: Level = {}): Variant {
  return {
    name,
    build: (dir) => {
      createRaw(dir, 'base.raw', rawSize, 1);
      return built(over(dir, { file: 'base.raw', format: 'raw' }, overlay));
    },
  };
}

function over(dir: string, backing: Backing, { spec, guest }: Level = {}): Image {
  return filled(dir, { ...spec, backing }, OVERLAY_SEED, guest ?? overlayGuest);
}

const relations: readonly Variant[] = [
  onRaw('an overlay on a raw file', 2 * MiB),
  onRaw('a v2 overlay on a raw file', 2 * MiB, { spec: { version: 2 } }),
  onRaw('an untouched overlay on a raw file', 2 * MiB, { guest: noGuest }),
  onRaw('an overlay on a raw file of 1000 bytes', 1000, { spec: { size: MiB }, guest: noGuest }),
  onRaw('a written overlay on a raw file of 1 MiB + 1000 bytes', MiB + 1000),
  onRaw('an overlay on a longer raw file', 3 * MiB + 1000, { spec: { size: 2 * MiB + SECTOR_SIZE } }),
  onRaw('compressed clusters over a raw file', 2 * MiB, { guest: compressedGuest }),
  onRaw('512 B clusters over a raw file', 2 * MiB, { spec: { clusterSize: 512 } }),
  onQcow2('an overlay on a qcow2 file', {}),
  onQcow2(
    'an overlay longer than its base',
    { spec: { size: MiB + SECTOR_SIZE } },
    { spec: { size: 3 * MiB } },
  ),
  onQcow2(
    'an overlay shorter than its base',
    { spec: { size: 4 * MiB } },
    { spec: { size: MiB + 3 * SECTOR_SIZE } },
  ),
  onQcow2('a v2 overlay on a v3 base', {}, { spec: { version: 2 } }),
  onQcow2('a v3 overlay on a v2 base', { spec: { version: 2 } }),
  onQcow2('a v2 overlay on a shorter v2 base', { spec: { version: 2, size: MiB } }, { spec: { version: 2 } }),
  onQcow2(
    '512 B clusters over 2 MiB clusters',
    { spec: { clusterSize: 2 * MiB, size: 32 * MiB } },
    { spec: { clusterSize: 512, size: 32 * MiB } },
  ),
  onQcow2(
    '2 MiB clusters over 512 B clusters',
    { spec: { clusterSize: 512, size: 32 * MiB } },
    { spec: { clusterSize: 2 * MiB, size: 32 * MiB } },
  ),
  onQcow2(
    'an overlay of nothing but zeros',
    {},
    {
      guest: (size) => [{ do: 'zero', offset: 0, length: size - 128 * KiB }],
    },
  ),
  onQcow2('an overlay on compressed clusters, zlib', { guest: compressedGuest }),
  onQcow2('an overlay on compressed clusters, zstd', {
    spec: { clusterSize: 16 * KiB, options: ['compression_type=zstd'] },
    guest: compressedGuest,
  }),
  onQcow2('an overlay on an external data file', { spec: { options: ['data_file=data.raw'] } }),
];

const EXTENDED = { options: ['extended_l2=on'] };

const extendedL2: readonly Variant[] = [
  ...[16 * KiB, 64 * KiB, 128 * KiB].map((clusterSize) =>
    onQcow2(
      `extended L2 over a qcow2 file, ${sizeName(clusterSize)} clusters`,
      { spec: { size: 4 * MiB } },
      { spec: { ...EXTENDED, clusterSize, size: 4 * MiB }, guest: subclusterGuest },
    ),
  ),
  onQcow2(
    'extended L2 with compressed clusters over compressed clusters',
    { guest: compressedGuest },
    { spec: EXTENDED, guest: compressedSubclusterGuest },
  ),
  onQcow2('extended L2 over extended L2', { spec: EXTENDED, guest: subclusterGuest }, { spec: EXTENDED }),
  onQcow2('plain L2 over extended L2', { spec: EXTENDED, guest: subclusterGuest }),
  onRaw('extended L2 over a shorter raw file', MiB + 1000, { spec: EXTENDED, guest: subclusterGuest }),
  onRaw('extended L2, preallocated metadata over a raw file', 2 * MiB, {
    spec: { options: ['extended_l2=on', 'preallocation=metadata'] },
  }),
];

/** `specs` from the base upwards, each on the one before. */
function chain(name: string, specs: readonly ImageSpec[], size = 2 * MiB): Variant {
  return {
    name,
    build: (dir) => {
      const images = specs.map((spec, level) => {
        const below: Backing = { file: `level-${level - 1}.qcow2`, format: 'qcow2' };
        const layer = {
          size,
          ...spec,
          name: `level-${level}.qcow2`,
          ...(level > 0 ? { backing: below } : {}),
        };
        return filled(dir, layer, level, stripeGuest(level, specs.length));
      });
      return built(images.at(-1)!);
    },
  };
}

const depths: readonly Variant[] = [
  chain('a chain of 3', [{}, {}, {}]),
  chain(
    'a chain of 3 with 2 MiB, 512 B and 64 KiB clusters',
    [{ clusterSize: 2 * MiB }, { clusterSize: 512 }, {}],
    8 * MiB,
  ),
  chain('a chain of 3 with a short middle', [{}, { size: MiB }, {}]),
  chain(
    'a chain of 9 with a cluster size each',
    [64, 4, 1, 128, 16, 2, 256, 8, 32].map((kib) => ({ clusterSize: kib * KiB })),
  ),
  chain('a chain of 4 of v2, v3, extended L2 and v2', [{ version: 2 }, {}, EXTENDED, { version: 2 }]),
];

/** The base in a file `path`, named in the header by what `nameOf` makes of its absolute path. */
function namedBy(
  name: string,
  path: string,
  format: 'raw' | 'qcow2',
  nameOf: (absolute: string) => string,
): Variant {
  return {
    name,
    build: (dir) => {
      if (format === 'raw') createRaw(dir, path, 2 * MiB, 1);
      else filled(dir, { name: path }, 1);
      return built(over(dir, { file: nameOf(join(dir, path)), format }));
    },
  };
}

const json = (value: object) => `json:${JSON.stringify(value)}`;

const names: readonly Variant[] = [
  namedBy('a base in a subdirectory', 'sub/base.qcow2', 'qcow2', () => 'sub/base.qcow2'),
  namedBy('a base by absolute path', 'base.qcow2', 'qcow2', (path) => path),
  namedBy('a base by absolute path with file:', 'base.qcow2', 'qcow2', (path) => `file:${path}`),
  namedBy('a raw base with file:', 'base.raw', 'raw', (path) => `file:${path}`),
  namedBy('a base with spaces in its name', 'the base of it.qcow2', 'qcow2', () => 'the base of it.qcow2'),
  namedBy('a base with non-ASCII letters in its name', 'größe-基底.qcow2', 'qcow2', () => 'größe-基底.qcow2'),
  namedBy('a base with a comma in its name', 'a,b.qcow2', 'qcow2', () => 'a,b.qcow2'),
  namedBy('a base by ./ and ..', 'sub/base.qcow2', 'qcow2', () => './sub/../sub/base.qcow2'),
  namedBy('a base by json, nested', 'base.qcow2', 'qcow2', (filename) =>
    json({ driver: 'qcow2', file: { driver: 'file', filename } }),
  ),
  namedBy('a base by json, dotted', 'base.qcow2', 'qcow2', (filename) =>
    json({ driver: 'qcow2', 'file.driver': 'file', 'file.filename': filename }),
  ),
  namedBy('a raw base by json, nested', 'base.raw', 'raw', (filename) =>
    json({ driver: 'raw', file: { driver: 'file', filename } }),
  ),
  namedBy('a window of a raw base by json, offset and size', 'base.raw', 'raw', (filename) =>
    json({ driver: 'raw', offset: 64 * KiB, size: MiB, file: { driver: 'file', filename } }),
  ),
  namedBy('a raw base by json, offset only', 'base.raw', 'raw', (filename) =>
    json({ driver: 'raw', offset: 3 * SECTOR_SIZE, file: { driver: 'file', filename } }),
  ),
  namedBy('a base by json in single quotes', 'base.qcow2', 'qcow2', (filename) =>
    json({ driver: 'qcow2', file: { driver: 'file', filename } }).replaceAll('"', "'"),
  ),
  namedBy('a qcow2 base by json, on raw', 'base.qcow2', 'qcow2', (filename) =>
    json({ driver: 'qcow2', file: { driver: 'raw', file: { driver: 'file', filename } } }),
  ),
  {
    name: 'a qcow2 base within an archive, by json',
    build: (dir) => {
      const base = readFileSync(imagePath(filled(dir, { name: 'base.qcow2' }, 1)));
      const before = Buffer.alloc(100 * SECTOR_SIZE, 'archive');
      writeFileSync(join(dir, 'base.ova'), Buffer.concat([before, base, before]));
      const file = { driver: 'file', filename: join(dir, 'base.ova') };
      const raw = { driver: 'raw', offset: before.length, size: base.length, file };
      return built(over(dir, { file: json({ driver: 'qcow2', file: raw }), format: 'qcow2' }));
    },
  },
  ...[
    { title: 'the disk of a qcow2 base, by json', part: {} },
    { title: 'a part of the disk of a qcow2 base, by json', part: { offset: 3 * SECTOR_SIZE, size: MiB } },
    { title: 'the end of the disk of a qcow2 base, by json', part: { offset: 64 * KiB } },
  ].map(
    ({ title, part }): Variant => ({
      name: title,
      build: (dir) => {
        filled(dir, { name: 'base.qcow2' }, 1);
        const file = { driver: 'file', filename: join(dir, 'base.qcow2') };
        const name = json({ driver: 'raw', ...part, file: { driver: 'qcow2', file } });
        return built(over(dir, { file: name, format: 'raw' }));
      },
    }),
  ),
  {
    name: 'names relative to the file that holds them',
    build: (dir) => {
      createRaw(dir, 'raw/base.raw', 2 * MiB, 1);
      const backing: Backing = { file: '../raw/base.raw', format: 'raw' };
      filled(dir, { name: 'middle/middle.qcow2', backing }, 2, overlayGuest);
      return built(
        over(dir, { file: 'middle/middle.qcow2', format: 'qcow2' }, { guest: stripeGuest(3, 11) }),
      );
    },
  },
  {
    name: 'an overlay on a base with snapshots',
    build: (dir) => {
      const base = filled(dir, { name: 'base.qcow2' }, 1);
      takeSnapshot(base, 'old', '1');
      writeSteps(base, 2, [{ do: 'data', offset: SECTOR_SIZE, length: MiB }]);
      return built(over(dir, { file: 'base.qcow2', format: 'qcow2' }));
    },
  },
  {
    name: 'a snapshot of an overlay',
    build: (dir) => {
      filled(dir, { name: 'base.qcow2' }, 1);
      const image = over(dir, { file: 'base.qcow2', format: 'qcow2' });
      const taken = takeSnapshot(image, 'before', '1');
      writeSteps(image, 3, richGuest(2 * MiB, 64 * KiB));
      return built(image, { expected: taken.expected, snapshot: 'before' });
    },
  },
];

export const chainVariants: readonly Variant[] = [...relations, ...extendedL2, ...depths, ...names];
