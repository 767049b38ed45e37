/** The files of a backing chain, as the map names them. */
import { FileStorage } from '../host/file-storage.js';
import { imageStorage, type Layers } from '../qcow2/chain.js';
import { readWithoutSnapshots } from '../qcow2/image.js';
import { ImageState } from '../qcow2/image-state.js';
import { isMetadataPreallocated } from '../qcow2/preallocation.js';
import { createTrace } from '../trace.js';
import { HostHoles, RawEnd, type Splitter } from './host-holes.js';

const debug = createTrace('map');

/** A part of the JSON schema: contrib/schema/map-1.json. */
export interface MapLayer {
  /** 0 is the image itself, 1 its backing file, and so on. */
  readonly depth: number;
  readonly file: string;
  readonly format: 'qcow2' | 'raw';
  /** Bytes of the layer's own disk. */
  readonly size: number;
  /** Bytes; null for raw files. */
  readonly clusterSize: number | null;
  readonly dataFile: string | null;
}

export function describeLayers(layers: Layers): MapLayer[] {
  return layers.map((layer, depth) => {
    const { path: file } = layer.file;
    if (layer.kind === 'raw') {
      return { depth, file, format: 'raw', size: layer.length, clusterSize: null, dataFile: null };
    }
    const { geometry, metadata } = layer.parameters;
    return {
      depth,
      file,
      format: 'qcow2',
      size: layer.window?.length ?? new ImageState(metadata.state).diskSize,
      clusterSize: geometry.clusterSize,
      dataFile: layer.dataFile?.path ?? null,
    };
  });
}

/** Finds out where a layer's file tells more than its metadata, for each when it is first asked for. */
export class Splitters {
  readonly #layers: Layers;
  readonly #known: (Splitter | null)[] = [];

  constructor(layers: Layers) {
    this.#layers = layers;
  }

  /** Null where data is just data. */
  of(depth: number): Splitter | null {
    const known = this.#known[depth];
    if (known !== undefined) return known;
    const splitter = this.#find(depth);
    this.#known[depth] = splitter;
    return splitter;
  }

  #find(depth: number): Splitter | null {
    const layer = this.#layers[depth]!;
    if (layer.kind === 'raw') return new RawEnd(layer.length);
    if (!isMetadataPreallocated(readWithoutSnapshots(imageStorage(layer)))) return null;
    debug('%s: preallocated, so holes of the file are told, too', layer.file.path);
    return new HostHoles(layer.dataFile ? new FileStorage(layer.dataFile) : imageStorage(layer));
  }
}
