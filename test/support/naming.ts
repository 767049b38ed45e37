/** Images that name other files, made for the tests of what may be named. */

import fs from 'node:fs';
import path from 'node:path';
import { addExtension, EXTENSION, patchBytes, readField, removeExtension } from './damage.js';
import { createImage, imagePath, MiB, qemuImg } from './images.js';

/** Of every disk here. */
export const SIZE = MiB;

/** An image that names a backing file, whether or not there is one. */
export function overlay(
  dir: string,
  backing: string,
  format: string | null = 'qcow2',
  name = 'image.qcow2',
): string {
  fs.mkdirSync(path.dirname(path.join(dir, name)), { recursive: true });
  const declared = ['-F', format ?? 'raw'];
  qemuImg(dir, ['create', '-q', '-u', '-f', 'qcow2', '-b', backing, ...declared, name, String(SIZE)]);
  const image = path.join(dir, name);
  if (format === null) removeExtension(image, EXTENSION.backingFormat);
  return image;
}

/** qemu-img will not write such a format. */
export function overlayWithFormat(dir: string, backing: string, format: string): string {
  const image = overlay(dir, backing, null);
  addExtension(image, EXTENSION.backingFormat, Buffer.from(format));
  return image;
}

/** An overlay on a raw file by a name that no argument of a program can be: it is written over another one. */
export function overlayNamed(dir: string, name: Buffer): string {
  const image = overlay(dir, 'x'.repeat(name.length), 'raw');
  patchBytes(image, Number(readField(image, 'backingFileOffset')), name);
  return image;
}

/** An image whose data lies in a file of this name, whether or not there is one. */
export function withDataFile(dir: string, name: string): string {
  const image = createImage(dir, { size: SIZE, options: ['data_file=own-data.raw'] });
  fs.rmSync(path.join(dir, 'own-data.raw'));
  removeExtension(imagePath(image), EXTENSION.dataFile);
  addExtension(imagePath(image), EXTENSION.dataFile, Buffer.from(name));
  return imagePath(image);
}

export function base(dir: string, name: string): string {
  return imagePath(createImage(dir, { name, size: SIZE }));
}

/** Beside, not below, the directory of the image. */
export function outside(dir: string): string {
  const other = `${dir}-outside`;
  fs.mkdirSync(other);
  return other;
}

/** A base and overlays on it, of which the last one is returned. */
export function longChain(dir: string, depth: number): string {
  base(dir, '0.qcow2');
  const template = fs.readFileSync(overlay(dir, '000.qcow2', 'qcow2', 'template'));
  const at = template.indexOf('000.qcow2');
  for (let level = 1; level < depth; level++) {
    // A name of fixed length, so that one image serves as the pattern of all.
    template.write(`${String(level - 1).padStart(3, '0')}.qcow2`, at);
    fs.writeFileSync(path.join(dir, `${String(level).padStart(3, '0')}.qcow2`), template);
  }
  fs.renameSync(path.join(dir, '0.qcow2'), path.join(dir, '000.qcow2'));
  return path.join(dir, `${String(depth - 1).padStart(3, '0')}.qcow2`);
}
