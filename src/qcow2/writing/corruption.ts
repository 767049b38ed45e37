/**
 * What happens when a writable image turns out to be damaged: the header says so from then on, so that nobody writes
 * it before it is repaired, and this process writes nothing more (QEMU block/qcow2.c, qcow2_signal_corruption).
 */

import { Qcow2fsError } from '../../errors.js';
import type { Storage } from '../../storage.js';
import { createTrace } from '../../trace.js';
import type { Header } from '../format/header.js';
import { hex } from '../format/units.js';
import type { ImageState } from '../image-state.js';
import { markCorrupt } from './header-fields.js';
import type { MetadataMap } from './metadata-map.js';

const debug = createTrace('corruption');

export class Corruption {
  readonly #image: Storage;
  readonly #header: Pick<Header, 'version' | 'incompatibleFeatures'>;
  readonly #state: ImageState;
  readonly #map: MetadataMap;

  constructor(
    image: Storage,
    header: Pick<Header, 'version' | 'incompatibleFeatures'>,
    state: ImageState,
    map: MetadataMap,
  ) {
    this.#image = image;
    this.#header = header;
    this.#state = state;
    this.#map = map;
  }

  /**
   * Keeps writes of data, and the freeing of clusters, away from metadata.
   * @param what leads to these host bytes, for the message
   * @throws Qcow2fsError `corrupt` when metadata lies there
   */
  refuseMetadata(what: string, offset: number, length: number): void {
    const found = this.#map.find(offset, length);
    if (found !== undefined) this.signal(`${what} ${hex(offset)}, but metadata lies at ${hex(found)}`);
  }

  /** @throws Qcow2fsError `corrupt`, always */
  signal(what: string): never {
    this.note();
    throw new Qcow2fsError(
      'corrupt',
      `${this.#image.path}: ${what}; the image is marked corrupt and takes no more writes, repair it: qcow2fs check --repair all`,
    );
  }

  /** As `signal`, for a caller who has the error already. */
  note(): void {
    if (this.#state.frozen) return;
    this.#state.freezeCorrupt();
    try {
      markCorrupt(this.#image, this.#header);
      this.#image.sync();
    } catch (error) {
      debug('cannot mark the image: %s', error);
    }
  }
}
