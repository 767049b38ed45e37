/**
 * Traces of what the program does, by area, as DEBUG=qcow2fs:* asks for them. The library that prints them takes its
 * time to load, which nobody need wait for who asks for none, and takes hold of standard error, which must be the log
 * of a daemon by then: it is loaded by the first trace.
 */
import { createRequire } from 'node:module';
import { printable } from './printable.js';

type Debug = typeof import('debug').default;

export interface Trace {
  readonly enabled: boolean;
  (format: unknown, ...values: unknown[]): void;
}

const OFF: Trace = Object.assign(() => {}, { enabled: false });

/** @param area what follows `qcow2fs:` in DEBUG */
export function createTrace(area: string): Trace {
  if (!process.env['DEBUG']) return OFF;
  let trace: Trace | undefined;
  const load = (): Trace => {
    trace ??= (createRequire(import.meta.url)('debug') as Debug)(`qcow2fs:${area}`);
    return trace;
  };
  const lazy = (format: unknown, ...values: unknown[]): void => load()(format, ...values.map(shown));
  return Object.defineProperty(lazy, 'enabled', { get: () => load().enabled }) as unknown as Trace;
}

/** A path may hold anything. */
function shown(value: unknown): unknown {
  return typeof value === 'string' ? printable(value) : value;
}
