/**
 * Names of files as images carry them: a plain path, `file:PATH`, or `json:{...}` with the options of QEMU's block
 * layer (driver, file.filename, nested or dotted; offset and size of raw; raw and qcow2 above each other).
 */
import { Qcow2fsError } from '../errors.js';
import { SECTOR_SIZE } from './format/units.js';

export interface ImageName {
  /** As written: relative ones are relative to the directory of the file that holds the name. */
  readonly filename: string;
  /** The drivers between the disk and the file, from the disk on. A name that is no `json:` has one, undeclared. */
  readonly nodes: readonly [FormatNode, ...FormatNode[]];
}

/** A node of QEMU's block layer that interprets what lies below it. */
export interface FormatNode extends Part {
  /** The format that a `json:` name declares. */
  readonly driver: string | undefined;
  /** What a `json:` name says of the backing file of a qcow2 image: its own, none, or another. */
  readonly backing: 'own' | 'none' | ImageName;
}

/** Of a file or a disk, in bytes: to the end, where the length is infinite. */
export interface Part {
  readonly start: number;
  readonly length: number;
}

/** The way from a file to a disk. */
export interface Stack {
  /** Of the file. */
  readonly part: Part;
  /** What lies there. */
  readonly format: 'raw' | 'qcow2';
  /** Of the disk in a qcow2 image. */
  readonly window: Part;
  readonly backing: FormatNode['backing'];
}

const WHOLE: Part = { start: 0, length: Number.POSITIVE_INFINITY };
const UNDECLARED: FormatNode = { ...WHOLE, driver: undefined, backing: 'own' };

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
/** Those that may lie below another one. */
const STACKED_DRIVERS: ReadonlySet<string | undefined> = new Set(['raw', 'qcow2']);

/** Objects within objects, deeper than any real name. */
const MAX_DEPTH = 8;

/** Always without a prototype: the keys come from the image. */
type Options = { readonly [key: string]: unknown };

/** @param namedBy the file that holds the name, for messages */
export function parseImageName(name: string, namedBy: string): ImageName {
  return named(parse(name, namedBy));
}

function named({ filename, nodes: [first = UNDECLARED, ...others] }: Parsed): ImageName {
  return { filename, nodes: [first, ...others] };
}

/**
 * @param format of the first node, whatever the name says of it
 * @throws Qcow2fsError `named-file` for what no driver here makes of the file
 */
export function stackOf({ nodes }: ImageName, format: Stack['format'], namedBy: string): Stack {
  const bad = (what: string): Qcow2fsError => new Qcow2fsError('named-file', `${namedBy}: ${what}`);
  let stack: Stack = { part: WHOLE, format: 'raw', window: WHOLE, backing: 'none' };
  for (const [index, node] of [...nodes.entries()].reverse()) {
    if ((index === 0 ? format : node.driver) !== 'qcow2') {
      const where = stack.format === 'raw' ? 'part' : 'window';
      stack = { ...stack, [where]: partOf(stack[where], node) };
      continue;
    }
    if (stack.format === 'qcow2') throw bad('its json: file name stacks qcow2 on qcow2');
    if (isPart(node)) {
      throw bad('gives an offset or a size to its backing file of format qcow2; only raw files have parts');
    }
    stack = { ...stack, format: 'qcow2', backing: node.backing };
  }
  return stack;
}

export function isPart({ start, length }: Part): boolean {
  return start !== 0 || length !== Number.POSITIVE_INFINITY;
}

function partOf(whole: Part, { start, length }: Part): Part {
  return { start: whole.start + start, length: Math.min(Math.max(0, whole.length - start), length) };
}

interface Parsed {
  readonly filename: string;
  readonly nodes: readonly FormatNode[];
}

function parse(name: string, namedBy: string): Parsed {
  if (name.startsWith('json:')) return fromOptions(parseJson(name, namedBy), namedBy);
  const protocol = /^([^:/]*):/.exec(name)?.[1];
  if (protocol !== undefined && protocol !== 'file') {
    throw refuse(namedBy, `it names "${name}", which is not a local file (protocol ${protocol})`);
  }
  return { filename: protocol === 'file' ? name.slice('file:'.length) : name, nodes: [] };
}

function refuse(namedBy: string, what: string): Qcow2fsError {
  return new Qcow2fsError('named-file', `${namedBy}: ${what}; only local files can be read`);
}

function parseJson(name: string, namedBy: string): Options {
  let parsed: unknown;
  try {
    parsed = JSON.parse(doubleQuoted(name.slice('json:'.length)));
  } catch (error) {
    throw refuse(namedBy, `its json: file name is not JSON (${(error as Error).message})`);
  }
  if (!isOptions(parsed)) throw refuse(namedBy, 'its json: file name is not an object');
  return nest(parsed, namedBy, 0);
}

/** QEMU's dialect of JSON (qobject/json-lexer.c) has strings in single quotes, too, and \' in all strings. */
function doubleQuoted(text: string): string {
  return text.replace(/'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"/gs, (quoted) => {
    const string = quoted.slice(1, -1).replace(/\\.|"/gs, (found) => {
      if (found === "\\'") return "'";
      return found === '"' ? '\\"' : found;
    });
    return `"${string}"`;
  });
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

function fromOptions(options: Options, namedBy: string): Parsed {
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
    return { filename, nodes: [] };
  }
  const { filename, nodes } = below(options, namedBy);
  const odd = nodes.find((node) => !STACKED_DRIVERS.has(node.driver));
  if (odd !== undefined) {
    throw refuse(
      namedBy,
      `its json: file name stacks ${driver ?? 'a driver'} on ${odd.driver ?? 'another one'}`,
    );
  }
  const node: FormatNode = {
    driver,
    start: bytes(options, 'offset', namedBy) ?? 0,
    length: bytes(options, 'size', namedBy) ?? Number.POSITIVE_INFINITY,
    backing: backingOf(options['backing'], namedBy),
  };
  if (isPart(node) && node.length % SECTOR_SIZE > 0) {
    throw refuse(namedBy, `its json: file name has a "size" that is not a multiple of ${SECTOR_SIZE}`);
  }
  return { filename, nodes: [node, ...nodes] };
}

function below(options: Options, namedBy: string): Parsed {
  const { file } = options;
  if (isOptions(file)) return fromOptions({ driver: 'file', ...file }, namedBy);
  if (file !== undefined) throw refuse(namedBy, 'its json: file name refers to a node by name');
  // A node without `file`: its own `filename`.
  const filename = text(options, 'filename', namedBy);
  if (filename === undefined) throw refuse(namedBy, 'its json: file name names no file');
  return parse(filename, namedBy);
}

function backingOf(backing: unknown, namedBy: string): FormatNode['backing'] {
  if (backing === undefined) return 'own';
  if (backing === null || backing === '') return 'none';
  if (isOptions(backing)) return named(fromOptions(backing, namedBy));
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
  const number = typeof value === 'string' ? parseBytes(value) : value;
  if (typeof number === 'number' && Number.isSafeInteger(number) && number >= 0) return number;
  throw refuse(namedBy, `its json: file name has a "${key}" that is not a number of bytes`);
}

/** As QEMU takes sizes: `65536`, `0x10000`, `64K`, `1.5M`. */
function parseBytes(value: string): number {
  const [, number, unit = ''] = /^(0x[\da-f]+|\d+(?:\.\d+)?)([bkmgtpe]?)$/i.exec(value) ?? [];
  return Number(number) * 1024 ** Math.max(0, 'bkmgtpe'.indexOf(unit.toLowerCase()));
}
