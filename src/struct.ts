/**
 * Binary structures declared as the documents that define them declare them: every field with its offset, in file
 * order, reserved bytes included. A declaration with a gap, an overlap or a wrong size fails when the module loads.
 *
 *     const entry = struct('snapshot entry', 'be', 12, {
 *       l1TableOffset: [0, 'u64'],
 *       l1Size: [8, 'u32'],
 *     });
 *     entry.read(buffer, at).l1Size
 */
import { decodeName, encodeName } from './names.js';

/** `u64` is a number and refuses values above 2^53 - 1; `mask64` is a bigint, for feature masks. */
type ScalarType = 'u8' | 'u16' | 'u32' | 'u64' | 'i64' | 'mask64';
type FieldType = ScalarType | `bytes:${number}` | `text:${number}`;
type Fields = Readonly<Record<string, readonly [offset: number, type: FieldType]>>;

type FieldValue<T extends FieldType> = T extends 'mask64'
  ? bigint
  : T extends ScalarType
    ? number
    : T extends `bytes:${number}`
      ? Buffer
      : string;

type Values<F extends Fields> = { -readonly [K in keyof F]: FieldValue<F[K][1]> };

export interface Struct<F extends Fields> {
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  /** Where each field starts, for code that must not allocate. */
  readonly offsets: { readonly [K in keyof F]: number };
  /**
   * Decodes the structure at `at`. `bytes:N` fields are copies; `text:N` fields end at their first NUL.
   * @throws RangeError when the buffer is too short or a `u64` exceeds 2^53 - 1.
   */
  read(buffer: Buffer, at?: number): Values<F>;
  /** Encodes the given fields at `at` and leaves the others as they are. */
  write(buffer: Buffer, at: number, values: Partial<Values<F>>): void;
}

const SCALAR_SIZE: Record<ScalarType, number> = { u8: 1, u16: 2, u32: 4, u64: 8, i64: 8, mask64: 8 };

function sizeOf(type: FieldType): number {
  return type in SCALAR_SIZE ? SCALAR_SIZE[type as ScalarType] : Number(type.slice(type.indexOf(':') + 1));
}

function checkLayout(name: string, size: number, fields: Fields): void {
  let end = 0;
  for (const [field, [offset, type]] of Object.entries(fields)) {
    if (offset !== end) throw new Error(`${name}.${field} is declared at ${offset}, but follows byte ${end}`);
    end = offset + sizeOf(type);
  }
  if (end !== size) throw new Error(`${name} is declared with ${size} bytes, but its fields take ${end}`);
}

export function struct<const F extends Fields>(
  name: string,
  order: 'be' | 'le',
  size: number,
  fields: F,
): Struct<F> {
  checkLayout(name, size, fields);
  const little = order === 'le';
  const entries = Object.entries(fields);

  return {
    name,
    size,
    offsets: Object.fromEntries(entries.map(([field, [offset]]) => [field, offset])) as Struct<F>['offsets'],

    read(buffer, at = 0) {
      const view = viewOf(buffer, at, size, name);
      const values: Record<string, unknown> = {};
      for (const [field, [offset, type]] of entries) values[field] = readField(view, offset, type, little);
      return values as Values<F>;
    },

    write(buffer, at, values) {
      const view = viewOf(buffer, at, size, name);
      for (const [field, [offset, type]] of entries) {
        const value = (values as Record<string, unknown>)[field];
        if (value !== undefined) writeField(view, offset, type, little, value);
      }
    },
  };
}

function viewOf(buffer: Buffer, at: number, size: number, name: string): DataView {
  if (at < 0 || at + size > buffer.length) {
    throw new RangeError(`${name} needs ${size} bytes at ${at}, the buffer has ${buffer.length}`);
  }
  return new DataView(buffer.buffer, buffer.byteOffset + at, size);
}

function readField(view: DataView, offset: number, type: FieldType, little: boolean): unknown {
  switch (type) {
    case 'u8':
      return view.getUint8(offset);
    case 'u16':
      return view.getUint16(offset, little);
    case 'u32':
      return view.getUint32(offset, little);
    case 'u64':
      return safeNumber(view.getBigUint64(offset, little));
    case 'i64':
      return safeNumber(view.getBigInt64(offset, little));
    case 'mask64':
      return view.getBigUint64(offset, little);
    default: {
      const bytes = Buffer.from(new Uint8Array(view.buffer, view.byteOffset + offset, sizeOf(type)));
      return type.startsWith('bytes:') ? bytes : textOf(bytes);
    }
  }
}

function writeField(view: DataView, offset: number, type: FieldType, little: boolean, value: unknown): void {
  switch (type) {
    case 'u8':
      view.setUint8(offset, value as number);
      break;
    case 'u16':
      view.setUint16(offset, value as number, little);
      break;
    case 'u32':
      view.setUint32(offset, value as number, little);
      break;
    case 'u64':
    case 'mask64':
      view.setBigUint64(offset, BigInt(value as number | bigint), little);
      break;
    case 'i64':
      view.setBigInt64(offset, BigInt(value as number), little);
      break;
    default:
      writeBytes(new Uint8Array(view.buffer, view.byteOffset + offset, sizeOf(type)), type, value);
  }
}

function writeBytes(room: Uint8Array, type: FieldType, value: unknown): void {
  const bytes = typeof value === 'string' ? encodeName(value) : (value as Uint8Array);
  if (bytes.length > room.length) throw new RangeError(`${bytes.length} bytes do not fit a ${type} field`);
  room.fill(0);
  room.set(bytes);
}

function safeNumber(value: bigint): number {
  const number = Number(value);
  if (!Number.isSafeInteger(number)) throw new RangeError(`value ${value} exceeds 2^53 - 1`);
  return number;
}

/** The bytes up to the first NUL, as UTF-8, and other bytes as `names.ts` has them. */
export function textOf(bytes: Buffer): string {
  const end = bytes.indexOf(0);
  return decodeName(bytes.subarray(0, end === -1 ? bytes.length : end));
}
