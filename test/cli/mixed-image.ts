/** An image with something of every kind that `map` shows. */

import { createImage, type Image, MiB, writeSteps } from '../support/images.js';

/** Four MiB: data, compressed, zeros, nothing, a MiB each. */
export function mixedImage(dir: string, name = 'image.qcow2'): Image {
  const image = createImage(dir, { name, size: 4 * MiB });
  writeSteps(image, 1, [
    { do: 'data', offset: 0, length: MiB },
    { do: 'compressed', offset: MiB, length: MiB },
    { do: 'zero-unmap', offset: 2 * MiB, length: MiB },
  ]);
  return image;
}
