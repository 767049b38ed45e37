/**
 * An image with everything it stands on: its data file, its backing file, that one's backing file, and so on.
 *
 * Opening reads and checks all headers and gives plain data, `Layers`; attaching makes a `Disk` of it. Threads of one
 * process share the descriptors and the metadata, so each attaches a disk of its own to the same layers.
 */
import { dirname, resolve } from 'node:path';
import type { Disk } from '../disk.js';
import { Qcow2fsError } from '../errors.js';
import { FileStorage, type OpenFile, openFile } from '../host/file-storage.js';
import { lockImage, type ReadLock } from '../host/image-locks.js';
import { IterationBudget } from '../luks/unlock.js';
import { notice } from '../notice.js';
import { PartDisk } from '../part-disk.js';
import { PartStorage } from '../part-storage.js';
import { RawDisk } from '../raw-disk.js';
import type { Storage } from '../storage.js';
import { createTrace } from '../trace.js';
import {
  type Assumption,
  type Backing,
  type BackingFormat,
  backingOf,
  formatOf,
  tellOfMissingPart,
  windowOf,
} from './backing-file.js';
import type { ChainClusters } from './compressed.js';
import { hasFeature, Incompatible } from './format/header.js';
import { MAX_CHAIN_DEPTH, MAX_CHAIN_L1_BYTES } from './format/limits.js';
import { diskTable, type Image, l1EntriesFor, readImage, readWithoutSnapshots } from './image.js';
import { isPart, type Part, parseImageName, type Stack, stackOf } from './image-name.js';
import { NamedFiles } from './named-files.js';
import { type ChainShare, type ParameterOptions, qcow2Parameters } from './parameters.js';
import { prepareForWriting } from './prepare.js';
import { Qcow2Disk, type Qcow2Parameters } from './qcow2-disk.js';
import { type ImageSecret, Secrets } from './secrets.js';
import { encryptOverlay, type OpenedImage, unlockImage } from './unlock.js';
import { createOverlay, removeOverlay, TEMPORARY } from './writing/overlay.js';
import { prepareZstd } from './zstd.js';

const debug = createTrace('chain');

/** Bytes of L2 slices that all images of a chain keep together: maps 256 GiB at 64 KiB a cluster. */
const L2_CACHE_BYTES = 32 * 1024 * 1024;

export interface OpenOptions {
  /** Opens every encrypted image of the chain that has no secret of its own. */
  readonly secret?: Uint8Array | undefined;
  readonly imageSecrets?: readonly ImageSecret[];
  /** PBKDF2 iterations that unlocking all images may take together. */
  readonly maxIterations?: number | undefined;
  /** Opens encrypted images without a key: their mapping can be told, and nothing of them be read. */
  readonly locked?: boolean;
  /** ID or name of an internal snapshot to present instead of the active disk. */
  readonly snapshot?: string | undefined;
  /** Directories below which images may name files, besides the image's own, and single files and block devices. */
  readonly allowDirectories?: readonly string[];
  /** Format of the backing files of which nothing declares it; not for an image that is written itself. */
  readonly backingFormat?: BackingFormat | undefined;
  /** Opens the image for writing; its backing files never are. */
  readonly writable?: boolean;
  /** Lets a writable disk grow. */
  readonly resizable?: boolean;
  /** Sends all writes to a new image above this one: a file that does not exist, or `temp`. */
  readonly overlay?: string | undefined;
  /** What is borne of others while files are only read; `read` unless it is given. */
  readonly readLock?: ReadLock;
}

/** What stands between the engine and a file: the tests put storages here that record, fail or lose writes. */
export type StorageOf = (file: OpenFile) => Storage;
const fileStorage: StorageOf = (file) => new FileStorage(file);

interface Qcow2Layer {
  readonly kind: 'qcow2';
  readonly file: OpenFile;
  /** Where the image lies in the file; undefined for all of it. */
  readonly part: Part | undefined;
  /** What of its disk the layer is; undefined for all of it. */
  readonly window: Part | undefined;
  readonly dataFile: OpenFile | undefined;
  readonly parameters: Qcow2Parameters;
}

interface RawLayer {
  readonly kind: 'raw';
  readonly file: OpenFile;
  /** Bytes. */
  readonly start: number;
  readonly length: number;
}

/** The image itself first, what stands at the bottom last. */
export type Layers = readonly [Qcow2Layer, ...(Qcow2Layer | RawLayer)[]];

/** All files of a chain, external data files included. */
export function filesOf(layers: Layers): OpenFile[] {
  return layers.flatMap((layer) =>
    layer.kind === 'qcow2' && layer.dataFile !== undefined ? [layer.file, layer.dataFile] : [layer.file],
  );
}

/**
 * @param path the image on the command line
 * @throws Qcow2fsError; nothing stays open then
 */
export function openLayers(
  path: string,
  options: OpenOptions = {},
  storageOf: StorageOf = fileStorage,
): Layers {
  const access = options.writable && options.overlay === undefined ? 'read-write' : 'read-only';
  const opener = new ChainOpener(openFile(path, access), options, storageOf);
  try {
    return opener.open();
  } catch (error) {
    opener.close();
    throw error;
  }
}

/** A disk for the calling thread; closing it closes the files of all threads. */
export async function attachDisk(layers: Layers, storageOf: StorageOf = fileStorage): Promise<Disk> {
  if (layers.some((layer) => layer.kind === 'qcow2' && layer.parameters.compression.type === 'zstd')) {
    await prepareZstd();
  }
  let disk: Disk | undefined;
  for (const layer of layers.toReversed()) {
    if (layer.kind === 'raw') disk = new RawDisk(storageOf(layer.file), layer.start, layer.length);
    else {
      const dataFile = layer.dataFile && storageOf(layer.dataFile);
      disk = new Qcow2Disk(layer.parameters, imageStorage(layer, storageOf), dataFile, disk);
      if (layer.window !== undefined) disk = new PartDisk(disk, layer.window.start, layer.window.length);
    }
  }
  return disk!;
}

/** The image of a qcow2 layer, which may lie within its file. */
export function imageStorage(
  { file, part }: Pick<Qcow2Layer, 'file' | 'part'>,
  storageOf: StorageOf = fileStorage,
): Storage {
  const storage = storageOf(file);
  return part === undefined ? storage : new PartStorage(storage, part.start, part.length);
}

/** `openLayers` and `attachDisk` in one, for a single thread. */
export async function openDisk(
  path: string,
  options: OpenOptions = {},
  storageOf: StorageOf = fileStorage,
): Promise<Disk> {
  return attachDisk(openLayers(path, options, storageOf), storageOf);
}

/** The disk itself can be read without them. */
function tellOfBadSnapshots({ message }: Qcow2fsError): void {
  notice(`${message}; the disk itself is read, its snapshots cannot be`);
}

/** A qcow2 layer before it is known how many share the cache. */
type PendingLayer = RawLayer | (Omit<Qcow2Layer, 'parameters'> & { readonly prepare: Preparation });
type Preparation = (share: ChainShare) => Qcow2Parameters;

class ChainOpener {
  readonly #options: OpenOptions;
  readonly #named: NamedFiles;
  readonly #path: string;
  readonly #open: OpenFile[] = [];
  readonly #layers: PendingLayer[] = [];
  readonly #storageOf: StorageOf;
  readonly #secrets: Secrets;
  readonly #iterations: IterationBudget;
  /** The first image, if it is encrypted. */
  #top: OpenedImage | undefined;
  /** The overlay that was made, until all went well. */
  #newOverlay: OpenFile | undefined;
  #l1Bytes = 0;
  readonly #assumption: Assumption;

  constructor(file: OpenFile, options: OpenOptions, storageOf: StorageOf) {
    this.#options = options;
    this.#storageOf = storageOf;
    this.#path = file.path;
    const isWritten = options.writable === true && options.overlay === undefined;
    this.#assumption = isWritten ? 'not allowed' : options.backingFormat;
    this.#open.push(file);
    const directory = file.blockDevice ? undefined : dirname(resolve(file.path));
    this.#secrets = new Secrets(options.secret, options.imageSecrets ?? []);
    this.#iterations = new IterationBudget(options.maxIterations);
    this.#named = new NamedFiles(directory, options.allowDirectories ?? []);
  }

  open(): Layers {
    const path = this.#path;
    const { snapshot, overlay } = this.#options;
    const writable = this.#options.writable === true && overlay === undefined;
    this.#lock(this.#open[0]!, writable);
    let image = this.#addQcow2(this.#open[0]!, snapshot, writable);
    const top = image;
    let backing = backingOf(image, 'own');
    while (backing !== undefined) {
      if (this.#layers.length >= MAX_CHAIN_DEPTH) {
        throw new Qcow2fsError(
          'named-file',
          `${path}: its backing chain has more than ${MAX_CHAIN_DEPTH} files`,
        );
      }
      const stack = this.#addBacking(backing, image.storage.path);
      if (stack.image === undefined) break;
      image = stack.image;
      backing = backingOf(image, stack.backing);
    }
    this.#secrets.refuseUnused(path);
    // Last, so that no refusal leaves a new file.
    if (overlay !== undefined) this.#addOverlay(overlay, top);
    return this.#finish();
  }

  close(): void {
    if (this.#newOverlay !== undefined) removeOverlay(this.#newOverlay);
    for (const file of this.#open) new FileStorage(file).close();
  }

  /** Before anything is read: what another process is about to change must not be believed. */
  #lock(file: OpenFile, writing: boolean): void {
    lockImage(file, writing ? 'write' : (this.#options.readLock ?? 'read'));
    debug('opened %s', file.path);
  }

  /** A chain that comes back to one of its files would never end. */
  #keepNew(file: OpenFile, role: string, namedBy: string, writing = false): OpenFile {
    const isKnown = this.#open.some((other) => sameFile(other, file));
    this.#open.push(file);
    if (!isKnown) {
      this.#lock(file, writing);
      return file;
    }
    throw new Qcow2fsError('named-file', `${namedBy}: its ${role} ${file.path} is already part of the chain`);
  }

  #finish(): Layers {
    const l2CacheBytes = Math.floor(L2_CACHE_BYTES / this.#layers.length);
    const clusters: ChainClusters = new Map();
    const layers = this.#layers.map((layer, depth) => {
      if (layer.kind === 'raw') return layer;
      const { prepare, ...files } = layer;
      return { ...files, parameters: prepare({ l2CacheBytes, clusters, depth }) };
    });
    return layers as unknown as Layers;
  }

  /** @returns the image when it may have a backing file of its own, undefined for raw files */
  #addBacking(wanted: Backing, namedBy: string): Pick<Stack, 'backing'> & { image: Image | undefined } {
    const { name } = wanted;
    const file = this.#keepNew(
      this.#named.open(name.filename, 'backing file', namedBy),
      'backing file',
      namedBy,
    );
    const stack = stackOf(name, formatOf(file, wanted, namedBy, this.#assumption), namedBy);
    const { part, window, backing } = stack;
    if (stack.format === 'raw') {
      this.#addRaw(file, part);
      return { backing, image: undefined };
    }
    tellOfMissingPart(file, part);
    return { backing, image: this.#addQcow2(file, undefined, false, part, window) };
  }

  #addRaw(file: OpenFile, { start, length }: Part): void {
    const available = Math.max(0, new FileStorage(file).size() - start);
    debug('%s: raw, %d bytes from %d', file.path, available, start);
    this.#layers.push({ kind: 'raw', file, start, length: Number.isFinite(length) ? length : available });
  }

  #addQcow2(
    file: OpenFile,
    snapshot: string | undefined,
    writable: boolean,
    wanted?: Part,
    shown?: Part,
  ): Image {
    const readOnlyDisk = !writable && snapshot === undefined;
    const part = wanted && isPart(wanted) ? wanted : undefined;
    const storage = imageStorage({ file, part }, this.#storageOf);
    const read =
      this.#layers.length > 0
        ? readWithoutSnapshots(storage)
        : readImage(storage, readOnlyDisk ? tellOfBadSnapshots : undefined);
    const image = writable ? prepareForWriting(read) : read;
    const table = diskTable(image, snapshot);
    const window = shown && isPart(shown) ? windowOf(shown, table.size, file.path) : undefined;
    const dataFile = this.#openDataFile(image, writable);
    const opened = this.#unlock(image, file);
    const encryption = opened === 'locked' ? opened : opened?.encryption;
    if (this.#layers.length === 0 && opened !== 'locked') this.#top = opened;
    this.#l1Bytes += l1EntriesFor(image.header, table.size) * 8;
    if (this.#l1Bytes > MAX_CHAIN_L1_BYTES) {
      const what = `the L1 tables of the backing chain take more than ${MAX_CHAIN_L1_BYTES} bytes`;
      throw new Qcow2fsError('format', `${file.path}: ${what}`);
    }
    const { clusterSize } = image.header;
    debug('%s: qcow2, disk of %d bytes, clusters of %d', file.path, table.size, clusterSize);
    const access = writable ? this.#writing() : 'reading';
    this.#layers.push({
      kind: 'qcow2',
      file,
      part,
      window,
      dataFile,
      prepare: (share) => qcow2Parameters(image, table, { encryption, share, access }),
    });
    return image;
  }

  /** Undefined for an image that is not encrypted. */
  #unlock(image: Image, file: OpenFile): OpenedImage | 'locked' | undefined {
    if (image.header.cryptMethod === 'none') return undefined;
    if (this.#options.locked) return 'locked';
    return unlockImage(image, this.#secrets.of(file), this.#layers.length > 0, this.#iterations);
  }

  #writing(): ParameterOptions['access'] {
    return this.#options.resizable ? 'growing' : 'writing';
  }

  /** Above what is open already. */
  #addOverlay(target: string, base: Image): void {
    const { header, encryption } = (this.#top && encryptOverlay(this.#top, target === TEMPORARY)) ?? {};
    const { file, image } = createOverlay(target, base, header);
    this.#open.push(file);
    this.#newOverlay = file;
    const access = this.#writing();
    this.#layers.unshift({
      kind: 'qcow2',
      file,
      part: undefined,
      window: undefined,
      dataFile: undefined,
      prepare: (share) => qcow2Parameters(image, image.header, { encryption, share, access }),
    });
  }

  #openDataFile({ header, extensions, storage }: Image, writable: boolean): OpenFile | undefined {
    if (!hasFeature(header, Incompatible.externalDataFile)) return undefined;
    if (extensions.dataFile === undefined) {
      throw new Qcow2fsError(
        'named-file',
        `${storage.path}: its data lies in another file, but it does not name it`,
      );
    }
    const name = parseImageName(extensions.dataFile, storage.path);
    if (name.nodes.some((node) => (node.driver ?? 'raw') !== 'raw' || isPart(node))) {
      throw new Qcow2fsError('named-file', `${storage.path}: its data file must be a whole raw file`);
    }
    const access = writable ? 'read-write' : 'read-only';
    return this.#keepNew(
      this.#named.open(name.filename, 'data file', storage.path, access),
      'data file',
      storage.path,
      writable,
    );
  }
}

function sameFile(a: OpenFile, b: OpenFile): boolean {
  return a.device === b.device && a.inode === b.inode;
}
