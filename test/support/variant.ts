/** What a variant is, and the builders that most variants share. */

import { type Guest, richGuest } from './guests.js';
import {
  convertToRaw,
  createImage,
  DEFAULT_CLUSTER_SIZE,
  defaultSize,
  type Extent,
  type Image,
  type ImageSpec,
  imagePath,
  type TakenSnapshot,
  writeSteps,
} from './images.js';

export interface Variant {
  /** A sentence fragment: 'v3, 64 KiB clusters, zstd compressed'. */
  readonly name: string;
  /** Makes everything in an empty directory (absolute path) with the reference tools. */
  readonly build: (dir: string) => BuiltImage;
}

export interface BuiltImage {
  /** Absolute path. */
  readonly image: string;
  /** Absolute path. */
  readonly secretFile?: string;
  readonly secretFormat?: 'raw' | 'base64';
  /** Present this internal snapshot, by name or id. */
  readonly snapshot?: string;
  /** Absolute path of the raw file that qemu-img convert made of it. */
  readonly expected: string;
  /** The snapshot's size is not the image's current one, which is what QEMU itself would present. */
  readonly resizeSensitive?: boolean;
  /** Too large for a full comparison: compare these ranges and the size. */
  readonly probes?: readonly Extent[];
  /** `qemu-img check` finds fault with it by design (marked dirty, refcounts behind). */
  readonly unclean?: boolean;
  /** For the tools: the image as the reference tools open it. */
  readonly source: Image;
}

/** Describes a finished image; converts it unless told what is expected. */
export function built(
  image: Image,
  extra: Partial<Omit<BuiltImage, 'image' | 'source' | 'secretFile' | 'secretFormat'>> = {},
): BuiltImage {
  const secret = image.secret;
  return {
    image: imagePath(image),
    source: image,
    ...(secret === undefined ? {} : { secretFile: secret.file, secretFormat: secret.format }),
    ...extra,
    expected: extra.expected ?? convertToRaw(image),
  };
}

export function builtSnapshot(image: Image, taken: TakenSnapshot, by: 'name' | 'id'): BuiltImage {
  return built(image, { expected: taken.expected, snapshot: taken[by] });
}

/** Creates the image and lets the guest write. */
export function filled(dir: string, spec: ImageSpec, seed: number, guest: Guest = richGuest): Image {
  const image = createImage(dir, spec);
  const clusterSize = spec.clusterSize ?? DEFAULT_CLUSTER_SIZE;
  writeSteps(image, seed, guest(spec.size ?? defaultSize(clusterSize), clusterSize));
  return image;
}

/** The variant of one single image. */
export function single(name: string, spec: ImageSpec, guest: Guest = richGuest): Variant {
  return { name, build: (dir) => built(filled(dir, spec, 1, guest)) };
}

/** `64 KiB`, `2 MiB`. */
export function sizeName(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let unit = 0;
  while (value % 1024 === 0 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${value} ${units[unit]}`;
}
