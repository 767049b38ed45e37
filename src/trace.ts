/**
 * Traces of what the program does, by area, as DEBUG=qcow2fs:* asks for them. The library that prints them takes its
 * time to load, which nobody need wait for who asks for none.
 */
import { createRequire } from 'node:module';

type Debug = typeof import('debug').default;

export interface Trace {
  readonly enabled: boolean;
  (format: unknown, ...values: unknown[]): void;
}

const OFF: Trace = Object.assign(() => {}, { enabled: false });

/** @param area what follows `qcow2fs:` in DEBUG */
export function createTrace(area: string): Trace {
  if (!process.env['DEBUG']) return OFF;
  const createDebug = createRequire(import.meta.url)('debug') as Debug;
  return createDebug(`qcow2fs:${area}`);
}
