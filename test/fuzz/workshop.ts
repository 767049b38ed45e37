/** The directory that the processes of one campaign share: seeds, corpus, coverage, findings, and what runs now. */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { join } from 'node:path';
import type { CoverageRecord } from './coverage.js';
import type { Finding } from './finding.js';
import { applyEdits, type Input, type Target, writeContent } from './input.js';
import type { Seed } from './seeds.js';

/** What a child is told. */
export interface Job {
  readonly directory: string;
  readonly findings: string;
  readonly target: Target;
  readonly randomSeed: number;
  /** Ends the batch, whichever comes first. */
  readonly executions: number;
  readonly seconds: number;
}

/** What it tells in the end. */
export interface BatchResult {
  readonly covered: number;
  readonly known: number;
  readonly missing: Readonly<Record<string, number>>;
}

/** Where it is. */
export interface Progress {
  /** Of this batch. */
  readonly executions: number;
  readonly input: Input | undefined;
}

export class Workshop {
  readonly seeds: string;
  readonly progress: string;
  readonly #directory: string;
  readonly #findings: string;

  constructor(directory: string, findings: string) {
    this.#directory = directory;
    this.#findings = findings;
    this.seeds = join(directory, 'seeds');
    this.progress = join(directory, 'progress.json');
  }

  corpus(target: Target): Input[] {
    const lines = this.#read(`corpus-${target}`)?.trimEnd().split('\n') ?? [];
    return lines.map((line) => JSON.parse(line));
  }

  keep(input: Input): void {
    fs.appendFileSync(join(this.#directory, `corpus-${input.target}`), `${JSON.stringify(input)}\n`);
  }

  coverage(): CoverageRecord {
    return JSON.parse(this.#read('coverage') ?? '[]');
  }

  keepCoverage(record: CoverageRecord): void {
    fs.writeFileSync(join(this.#directory, 'coverage'), JSON.stringify(record));
  }

  /** Written before each input is tried: this is all that is left of a process that dies. */
  announce(progress: Progress): void {
    fs.writeFileSync(this.progress, JSON.stringify(progress));
  }

  announced(): Progress {
    const text = this.#read('progress.json');
    return text === undefined || text === '' ? { executions: 0, input: undefined } : JSON.parse(text);
  }

  isKnown(finding: Finding): boolean {
    return fs.existsSync(this.#pathOf(finding));
  }

  /** The input, and the damaged image beside it for other tools. */
  keepFinding(finding: Finding, input: Input, seed: Seed): void {
    fs.mkdirSync(this.#findings, { recursive: true });
    const { kind, step, message } = finding;
    const path = this.#pathOf(finding);
    fs.writeFileSync(path, `${JSON.stringify({ kind, step, message, input }, undefined, 1)}\n`);
    if (input.target === 'request') return;
    writeContent(path.replace(/json$/, 'qcow2'), applyEdits(seed.contents[input.file]!, input.edits));
  }

  #pathOf(finding: Finding): string {
    const digest = createHash('sha256').update(finding.key).digest('hex').slice(0, 10);
    return join(this.#findings, `${finding.kind}-${digest}.json`);
  }

  #read(name: string): string | undefined {
    const path = join(this.#directory, name);
    return fs.existsSync(path) ? fs.readFileSync(path, 'utf8') : undefined;
  }
}
