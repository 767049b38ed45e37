/**
 * What happens when a writable image turns out to be damaged: the header says so from then on, so that nobody writes
 * it before it is repaired, and this process writes nothing more (QEMU block/qcow2.c, qcow2_signal_corruption).
 */
import createDebug from 'debug';
import { Qcow2fsError } from '../errors.js';
import type { Storage } from '../storage.js';
import type { Header } from './format/header.js';
import { markCorrupt } from './header-fields.js';
import type { ImageState } from './image-state.js';

const debug = createDebug('qcow2fs:corruption');

export class Corruption {
  readonly #image: Storage;
  readonly #header: Pick<Header, 'version' | 'incompatibleFeatures'>;
  readonly #state: ImageState;

  constructor(image: Storage, header: Pick<Header, 'version' | 'incompatibleFeatures'>, state: ImageState) {
    this.#image = image;
    this.#header = header;
    this.#state = state;
  }

  /** @throws Qcow2fsError `corrupt`, always */
  signal(what: string): never {
    this.note();
    throw new Qcow2fsError(
      'corrupt',
      `${this.#image.path}: ${what}; the image is marked corrupt and takes no more writes, repair it: qemu-img check -r all`,
    );
  }

  /** As `signal`, for a caller who has the error already. */
  note(): void {
    if (this.#state.frozen) return;
    this.#state.freeze();
    try {
      markCorrupt(this.#image, this.#header);
      this.#image.sync();
    } catch (error) {
      debug('cannot mark the image: %s', error);
    }
  }
}
