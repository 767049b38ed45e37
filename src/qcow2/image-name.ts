/**
 * Names of files as images carry them: a plain path, `file:PATH`, or `json:{...}` with the options of QEMU's block
 * layer (driver, file.filename, nested or dotted; offset and size of raw).
 */
import { Qcow2fsError } from '../errors.js';

export interface ImageName {
  /** As written: relative ones are relative to the directory of the file that holds the name. */
  readonly filename: string;
  /** The format a `json:` name declares. */
  readonly format: string | undefined;
  /** The part of a raw file that is the disk: bytes. */
  readonly start: number;
  readonly length: number | undefined;
  /** What a `json:` name says of the backing file of the image it names: its own, none, or another. */
  readonly backing: 'own' | 'none' | ImageName;
}

/** Options of QEMU's block layer that change nothing about what is read. */
const HARMLESS = new Set([
  'driver',
  'file',
  'filename',
  'backing',
  'offset',
  'size',
  'node-name',
  'read-only',
  'auto-read-only',
  'force-share',
  'cache',
  'discard',
  'detect-zeroes',
  'locking',
  'aio',
  'aio-max-batch',
  'drop-cache',
  'x-check-cache-dropped',
  'lazy-refcounts',
  'pass-discard-request',
  'pass-discard-snapshot',
  'pass-discard-other',
  'discard-no-unref',
  'overlap-check',
  'cache-size',
  'l2-cache-size',
  'l2-cache-entry-size',
  'refcount-cache-size',
  'cache-clean-interval',
  'encrypt',
]);
const FILE_DRIVERS = new Set(['file', 'host_device']);

/** Objects within objects, deeper than any real name. */
const MAX_DEPTH = 8;

/** Always without a prototype: the keys come from the image. */
type Options = { readonly [key: string]: unknown };

/** @param namedBy the file that holds the name, for messages */
export function parseImageName(name: string, namedBy: string): ImageName {
  if (name.includes('\ufffd')) throw refuse(namedBy, 'it names a file by bytes that are not UTF-8');
  if (name.startsWith('json:')) return fromOptions(parseJson(name, namedBy), namedBy);
  const protocol = /^([^:/]*):/.exec(name)?.[1];
  if (protocol !== undefined && protocol !== 'file') {
    throw refuse(namedBy, `it names "${name}", which is not a local file (protocol ${protocol})`);
  }
  return plain(protocol === 'file' ? name.slice('file:'.length) : name, undefined);
}

function plain(filename: string, format: string | undefined): ImageName {
  return { filename, format, start: 0, length: undefined, backing: 'own' };
}

function refuse(namedBy: string, what: string): Qcow2fsError {
  return new Qcow2fsError('named-file', `${namedBy}: ${what}; only local files can be read`);
}

function parseJson(name: string, namedBy: string): Options {
  let parsed: unknown;
  try {
    parsed = JSON.parse(name.slice('json:'.length));
  } catch (error) {
    throw refuse(namedBy, `its json: file name is not JSON (${(error as Error).message})`);
  }
  if (!isOptions(parsed)) throw refuse(namedBy, 'its json: file name is not an object');
  return nest(parsed, namedBy, 0);
}

function isOptions(value: unknown): value is Options {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** `{"file.filename": x}` means `{"file": {"filename": x}}`. */
function nest(options: Options, namedBy: string, depth: number): Options {
  if (depth > MAX_DEPTH) throw refuse(namedBy, 'its json: file name is nested too deep');
  const nested: Record<string, unknown> = Object.create(null);
  for (const [key, value] of Object.entries(options)) {
    const [first, ...rest] = key.split('.');
    const inner = rest.length === 0 ? value : { [rest.join('.')]: value };
    if (!isOptions(inner)) {
      nested[first!] = inner;
      continue;
    }
    const before = nested[first!] ?? Object.create(null);
    if (!isOptions(before)) throw refuse(namedBy, `its json: file name gives "${first}" twice`);
    nested[first!] = Object.assign(Object.create(null), before, nest(inner, namedBy, depth + 1));
  }
  return nested;
}

function fromOptions(options: Options, namedBy: string): ImageName {
  const driver = text(options, 'driver', namedBy);
  for (const key of Object.keys(options)) {
    if (!HARMLESS.has(key)) throw refuse(namedBy, `its json: file name has the unknown option "${key}"`);
  }
  if (driver !== 'raw' && ('offset' in options || 'size' in options)) {
    throw refuse(namedBy, `its json: file name gives an offset or a size, which only the raw driver takes`);
  }
  if (driver !== undefined && FILE_DRIVERS.has(driver)) {
    const filename = text(options, 'filename', namedBy);
    if (filename === undefined) throw refuse(namedBy, 'its json: file name lacks "filename"');
    return plain(filename, undefined);
  }
  const inner = innerName(options, namedBy);
  if (driver !== undefined && inner.format !== undefined) {
    throw refuse(namedBy, `its json: file name stacks ${driver} on ${inner.format}`);
  }
  return {
    ...inner,
    format: driver ?? inner.format,
    start: bytes(options, 'offset', namedBy) ?? 0,
    length: bytes(options, 'size', namedBy),
    backing: backingOf(options['backing'], namedBy),
  };
}

function innerName(options: Options, namedBy: string): ImageName {
  const { file } = options;
  if (isOptions(file)) return fromOptions({ driver: 'file', ...file }, namedBy);
  if (file !== undefined) throw refuse(namedBy, 'its json: file name refers to a node by name');
  return parseInner(options, namedBy);
}

/** A node without `file`: its own `filename`, as QEMU accepts it. */
function parseInner(options: Options, namedBy: string): ImageName {
  const filename = text(options, 'filename', namedBy);
  if (filename === undefined) throw refuse(namedBy, 'its json: file name names no file');
  return parseImageName(filename, namedBy);
}

function backingOf(backing: unknown, namedBy: string): ImageName['backing'] {
  if (backing === undefined) return 'own';
  if (backing === null || backing === '') return 'none';
  if (isOptions(backing)) return fromOptions(backing, namedBy);
  throw refuse(namedBy, 'its json: file name refers to a backing node by name');
}

function text(options: Options, key: string, namedBy: string): string | undefined {
  const value = options[key];
  if (value === undefined || typeof value === 'string') return value;
  throw refuse(namedBy, `its json: file name has a "${key}" that is not text`);
}

function bytes(options: Options, key: string, namedBy: string): number | undefined {
  const value = options[key];
  if (value === undefined) return undefined;
  const number = typeof value === 'string' && /^\d+$/.test(value) ? Number(value) : value;
  if (typeof number === 'number' && Number.isSafeInteger(number) && number >= 0) return number;
  throw refuse(namedBy, `its json: file name has a "${key}" that is not a number of bytes`);
}
