/** Images with something wrong in the first place that is looked at. */
import { type HeaderField, patchField } from '../support/damage.js';
import { createImage, type ImageSpec, imagePath, MiB } from '../support/images.js';
import type { Refusal } from '../support/refusals.js';

/** A good image, then damaged. */
export function damaged(damage: (image: string) => void, spec: ImageSpec = {}): Refusal['make'] {
  return (dir) => {
    const image = imagePath(createImage(dir, { size: 2 * MiB, ...spec }));
    damage(image);
    return image;
  };
}

export const field = (name: HeaderField, value: number | bigint, spec?: ImageSpec): Refusal['make'] =>
  damaged((image) => patchField(image, name, value), spec);
