/** What the fuzzer looks for, and how every failure is judged. */
import { Qcow2fsError } from '../../src/errors.js';
import { CANARY } from './seeds.js';

export type FindingKind =
  /** An exception that is not meant for the user. */
  | 'exception'
  /** A message of several lines, or too long to read. */
  | 'message'
  /** Too much CPU time. */
  | 'slow'
  /** No end in sight. */
  | 'hang'
  /** The process died. */
  | 'crash'
  | 'memory'
  /** Bytes or files from outside the directory of the image. */
  | 'outside'
  /** A file changed that must not. */
  | 'changed'
  /** A small session made the file much larger. */
  | 'growth'
  /** A descriptor stays open. */
  | 'leak'
  /** A reply that no kernel accepts, or that says what nobody wrote. */
  | 'reply'
  /** A sound image has the wrong content. */
  | 'content';

export class Finding extends Error {
  override readonly name = 'Finding';
  readonly kind: FindingKind;
  /** The step during which it happened. */
  readonly step: string;

  constructor(kind: FindingKind, step: string, message: string) {
    super(message);
    this.kind = kind;
    this.step = step;
  }

  /** The same for findings that probably have one cause. */
  get key(): string {
    const numbers = this.message.split('\n').slice(0, 3).join(' ').replaceAll(/\d+/g, 'N');
    return `${this.kind} ${this.step} ${numbers}`;
  }
}

const MAX_MESSAGE = 8 * 1024;
const canary = Buffer.from(CANARY);

/** Passes failures that a user is told of; throws a Finding for any other. */
export function judgeFailure(error: unknown, step: string): void {
  if (error instanceof Finding) throw error;
  if (!(error instanceof Qcow2fsError) || error.kind === 'internal') {
    throw new Finding(
      'exception',
      step,
      error instanceof Error ? (error.stack ?? error.message) : String(error),
    );
  }
  const { message } = error;
  if (message.includes('\n') || message.length > MAX_MESSAGE) {
    throw new Finding('message', step, `${message.length} characters: ${message.slice(0, 200)}`);
  }
  if (message.includes(CANARY)) throw new Finding('outside', step, `the message: ${message.slice(0, 200)}`);
}

export function refuseCanary(bytes: Buffer, step: string): void {
  const at = bytes.indexOf(canary);
  if (at !== -1) throw new Finding('outside', step, `what lies outside the directory, at byte ${at}`);
}

/** Runs a step that may fail as a user may see it, but must not take long. */
export async function attempt<T>(
  step: string,
  maxCpuSeconds: number,
  action: () => T | Promise<T>,
): Promise<T | undefined> {
  const before = process.cpuUsage();
  let result: T | undefined;
  try {
    result = await action();
  } catch (error) {
    judgeFailure(error, step);
  }
  const { user, system } = process.cpuUsage(before);
  const seconds = (user + system) / 1e6;
  if (seconds > maxCpuSeconds) {
    throw new Finding('slow', step, `${seconds.toFixed(1)} s of CPU time, ${maxCpuSeconds} s are allowed`);
  }
  return result;
}
