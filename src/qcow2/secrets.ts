/** Which secret opens which image of a chain. */
import path from 'node:path';
import { Qcow2fsError } from '../errors.js';
import fs from '../fs.js';
import type { OpenFile } from '../host/file-storage.js';

/** The secret of one image of the chain. */
export interface ImageSecret {
  /** The path of the image, or its file name alone. */
  readonly image: string;
  readonly secret: Uint8Array;
}

type ImageFile = Pick<OpenFile, 'path' | 'device' | 'inode'>;

export class Secrets {
  readonly #common: Uint8Array | undefined;
  readonly #own: readonly ImageSecret[];
  readonly #used = new Set<unknown>();

  /** @param common opens every image that has none of its own */
  constructor(common: Uint8Array | undefined, own: readonly ImageSecret[]) {
    this.#common = common;
    this.#own = own;
  }

  /** For an image that is encrypted. */
  of(file: ImageFile): Uint8Array | undefined {
    const own = this.#own.find(({ image }) => isNamed(file, image));
    const secret = own?.secret ?? this.#common;
    this.#used.add(own ?? this.#common);
    return secret;
  }

  /**
   * @param chain the path of the first image
   * @throws Qcow2fsError `secret` when one was not wanted: it was probably meant for something else
   */
  refuseUnused(chain: string): void {
    const unused = this.#own.find((own) => !this.#used.has(own));
    if (unused !== undefined) {
      const what = `${chain}: its chain has no encrypted image ${unused.image}`;
      throw new Qcow2fsError('secret', `${what}; leave out --secret-file ${unused.image}=...`);
    }
    if (this.#common !== undefined && this.#used.size === 0) {
      throw new Qcow2fsError('secret', `${chain}: the image is not encrypted; leave out --secret-file`);
    }
  }
}

/** By its file name, or as the same file under whatever path. */
function isNamed({ path: file, device, inode }: ImageFile, name: string): boolean {
  if (name === path.basename(file)) return true;
  const stat = fs.statSync(name, { bigint: true, throwIfNoEntry: false });
  return stat !== undefined && stat.dev === device && stat.ino === inode;
}
