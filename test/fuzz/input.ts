/**
 * What the fuzzer tries: a seed image and the edits that damage it, or a disk and the requests it gets. An input is
 * plain data, so that it can be stored, tried again, and made smaller by leaving edits out.
 */
import fs from 'node:fs';

export type Edit =
  /** Hexadecimal bytes at an offset; what lies outside the file is ignored. */
  | { readonly do: 'set'; readonly at: number; readonly bytes: string }
  | { readonly do: 'copy'; readonly from: number; readonly to: number; readonly length: number }
  | { readonly do: 'cut'; readonly length: number }
  /** A tail of zeros up to this length, as a hole. */
  | { readonly do: 'grow'; readonly length: number };

/** How the image is opened for writing, after it was read. */
export const SESSIONS = ['plain', 'resizable', 'overlay'] as const;
export type Session = (typeof SESSIONS)[number];

export interface ImageInput {
  /** What it is given to: the engine, as a mount uses it, or the commands that look at an image. */
  readonly target: 'image' | 'command';
  /** Name of a seed. */
  readonly seed: string;
  /** The file that is damaged, one of the seed's. */
  readonly file: string;
  readonly session: Session;
  readonly edits: readonly Edit[];
}

export const ACCESSES = ['read-only', 'writable', 'growable'] as const;
export type Access = (typeof ACCESSES)[number];

export interface RequestInput {
  readonly target: 'request';
  readonly seed: string;
  readonly access: Access;
  /** The disk is the root, not a file in it. */
  readonly isRoot: boolean;
  /** Hexadecimal, one after the other. */
  readonly requests: readonly string[];
}

export type Input = ImageInput | RequestInput;
export const TARGETS = ['image', 'command', 'request'] as const;
export type Target = (typeof TARGETS)[number];

/** The parts of an input that can be left out. */
export function partsOf(input: Input): readonly unknown[] {
  return input.target === 'request' ? input.requests : input.edits;
}

export function withoutParts(input: Input, index: number, count: number): Input {
  if (input.target === 'request') return { ...input, requests: input.requests.toSpliced(index, count) };
  return { ...input, edits: input.edits.toSpliced(index, count) };
}

/** A file: its bytes, and zeros up to its size. */
export interface Content {
  readonly bytes: Buffer;
  readonly size: number;
}

/** Enough for the largest table that an image may have, 64 MiB, behind the image itself. */
export const MAX_SIZE = 72 * 1024 * 1024;

export function applyEdits(seed: Buffer, edits: readonly Edit[]): Content {
  let bytes = Buffer.from(seed);
  let size = bytes.length;
  for (const edit of edits) {
    switch (edit.do) {
      case 'set':
        if (edit.at < bytes.length) bytes.write(edit.bytes, edit.at, 'hex');
        break;
      case 'copy':
        if (Math.max(edit.from, edit.to) < bytes.length)
          bytes.copy(bytes, edit.to, edit.from, edit.from + edit.length);
        break;
      case 'cut':
        size = Math.min(size, edit.length);
        bytes = bytes.subarray(0, size);
        break;
      case 'grow':
        size = Math.max(size, Math.min(edit.length, MAX_SIZE));
    }
  }
  return { bytes, size };
}

export function writeContent(path: string, { bytes, size }: Content): void {
  fs.writeFileSync(path, bytes);
  if (size > bytes.length) fs.truncateSync(path, size);
}
