/**
 * What people see of work that takes long: a bar on a terminal and nothing elsewhere, a line of status for SIGUSR1 as
 * dd(1) gives it, and an end in good order for the signals that ask for it.
 */
import { getEndSignals } from '../host/end-signals.js';
import type { Progress } from '../progress.js';
import { humanBytes, warn } from './output.js';

/** Work that is done sooner shows no bar: milliseconds. */
const DELAY = 400;
const INTERVAL = 200;
const BAR_CELLS = 16;
const ERASE_LINE = '\r\x1b[K';

export interface ProgressLabels {
  /** By the number of the phase. */
  readonly phases: readonly string[];
  /** What is counted; anything but bytes shows as a percentage alone. */
  readonly unit: 'bytes' | 'steps';
}

/**
 * Shows the progress until the work has ended.
 * @param interrupt asks the work to end; by default the process ends at once. What comes twice ends it anyway.
 */
export async function withProgress<T>(
  progress: Progress,
  labels: ProgressLabels,
  work: Promise<T>,
  interrupt?: (signal: NodeJS.Signals) => void,
): Promise<T> {
  const display = new Display(progress, labels, interrupt);
  try {
    return await work;
  } finally {
    display.stop();
  }
}

/** For what is to be printed meanwhile; the bar comes again. */
export function eraseBar(): void {
  if (process.stderr.isTTY) process.stderr.write(ERASE_LINE);
}

class Display {
  readonly #progress: Progress;
  readonly #labels: ProgressLabels;
  readonly #interrupt: ((signal: NodeJS.Signals) => void) | undefined;
  readonly #isTerminal = process.stderr.isTTY === true && process.env['TERM'] !== 'dumb';
  readonly #timer: NodeJS.Timeout | undefined;
  #phase = -1;
  #phaseStart = performance.now();
  #isDrawn = false;
  #interrupted = false;

  constructor(
    progress: Progress,
    labels: ProgressLabels,
    interrupt: ((signal: NodeJS.Signals) => void) | undefined,
  ) {
    this.#progress = progress;
    this.#labels = labels;
    this.#interrupt = interrupt;
    process.on('SIGUSR1', this.#tell);
    for (const signal of getEndSignals()) process.on(signal, this.#end);
    const start = performance.now();
    this.#timer = setInterval(() => {
      this.#notePhase();
      if (this.#isTerminal && performance.now() - start > DELAY) this.#draw();
    }, INTERVAL);
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#erase();
    process.off('SIGUSR1', this.#tell);
    for (const signal of getEndSignals()) process.off(signal, this.#end);
  }

  readonly #tell = (): void => {
    this.#notePhase();
    this.#erase();
    warn(this.#status(', '));
  };

  readonly #end = (signal: NodeJS.Signals): void => {
    const first = !this.#interrupted;
    this.#interrupted = true;
    if (first && this.#interrupt !== undefined) {
      this.#interrupt(signal);
      return;
    }
    this.#erase();
    endBySignal(signal);
  };

  /** Rates count from the beginning of a phase. */
  #notePhase(): void {
    if (this.#progress.phase === this.#phase) return;
    this.#phase = this.#progress.phase;
    this.#phaseStart = performance.now();
  }

  #draw(): void {
    const filled = Math.round(this.#fraction() * BAR_CELLS);
    const bar = `[${'#'.repeat(filled)}${'-'.repeat(BAR_CELLS - filled)}]`;
    const line = `${bar} ${this.#status('  ')}`;
    // A line that wraps could not be erased.
    process.stderr.write(`${ERASE_LINE}${line.slice(0, (process.stderr.columns || 80) - 1)}`);
    this.#isDrawn = true;
  }

  #erase(): void {
    if (this.#isDrawn) process.stderr.write(ERASE_LINE);
    this.#isDrawn = false;
  }

  #fraction(): number {
    const { done, total } = this.#progress;
    return total > 0 ? Math.min(1, done / total) : 0;
  }

  #status(separator: string): string {
    const { done, total } = this.#progress;
    const seconds = (performance.now() - this.#phaseStart) / 1000;
    const fraction = this.#fraction();
    const parts = [this.#labels.phases[this.#progress.phase] ?? 'working'];
    if (total > 0) parts.push(`${Math.floor(fraction * 100)} %`);
    if (this.#labels.unit === 'bytes') {
      parts.push(`${humanBytes(done)} of ${humanBytes(total)}`, `${humanBytes(done / seconds)}/s`);
    }
    if (fraction > 0 && fraction < 1) {
      parts.push(`${clockTime((seconds * (1 - fraction)) / fraction)} left`);
    }
    return parts.join(separator);
  }
}

/** `0:07`, `12:34`, `1:02:03`. */
function clockTime(seconds: number): string {
  const whole = Math.ceil(seconds);
  const two = (value: number): string => String(value).padStart(2, '0');
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  return hours > 0 ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

/** As if nobody had caught it, so that a shell learns why the program ended. */
export function endBySignal(signal: NodeJS.Signals): void {
  process.removeAllListeners(signal);
  process.kill(process.pid, signal);
}
