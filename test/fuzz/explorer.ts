/** One batch of executions: takes inputs from the corpus, damages them more, and keeps those that reach new code. */
import { Random } from '../support/random.js';
import { checkSound } from './control.js';
import type { Coverage } from './coverage.js';
import { Finding } from './finding.js';
import { mutateImage } from './image-mutator.js';
import { type Input, partsOf, withoutParts } from './input.js';
import { mutateRequests } from './request-mutator.js';
import { loadSeeds, type Seed } from './seeds.js';
import { runCommands } from './target-command.js';
import { runImage } from './target-image.js';
import { runRequests } from './target-request.js';
import { type Job, Workshop } from './workshop.js';

const MiB = 1024 * 1024;
/** Memory that one execution may take beyond what was there before. The largest legal L1 tables take 128 MiB. */
const MAX_MEMORY = 400 * MiB;
/** Above this, what earlier executions left is given back first. */
const TIDY_ABOVE = 350 * MiB;
/** Runs that make a finding smaller. */
const MAX_REDUCTIONS = 80;
/** A disk for requests, by what is interesting about it. */
const REQUEST_SEEDS = ['v3-64k', 'v2', 'extended-l2', 'zstd', 'data-file', 'chain'];

export async function runInput(input: Input, seeds: ReadonlyMap<string, Seed>): Promise<void> {
  const seed = seeds.get(input.seed)!;
  if (input.target === 'request') await runRequests(input, seed);
  else await (input.target === 'image' ? runImage(input, seed) : runCommands(input, seed));
}

export class Explorer {
  readonly #job: Job;
  readonly #coverage: Coverage;
  readonly #workshop: Workshop;
  readonly #random: Random;
  readonly #seeds: ReadonlyMap<string, Seed>;
  readonly #corpus: Input[];
  /** Milliseconds that an input of a seed takes, by its name. */
  readonly #costs = new Map<string, number>();
  #executions = 0;
  #peak = 0;

  constructor(job: Job, coverage: Coverage) {
    this.#job = job;
    this.#coverage = coverage;
    this.#workshop = new Workshop(job.directory, job.findings);
    this.#random = new Random(job.randomSeed);
    this.#seeds = new Map(loadSeeds(this.#workshop.seeds).map((seed) => [seed.name, seed]));
    this.#corpus = this.#workshop.corpus(job.target);
  }

  async run(): Promise<void> {
    const end = performance.now() + this.#job.seconds * 1000;
    await this.#control();
    if (this.#corpus.length === 0) {
      for (const input of this.#firstInputs()) await this.#execute(input, true);
    }
    while (this.#executions < this.#job.executions && performance.now() < end) {
      await this.#execute(this.#next(), false);
    }
    this.#workshop.announce({ executions: this.#executions, input: undefined });
    await this.#control();
    this.#workshop.keepCoverage(this.#coverage.record());
  }

  async #control(): Promise<void> {
    for (const seed of this.#seeds.values()) await checkSound(seed);
  }

  #firstInputs(): Input[] {
    const { target } = this.#job;
    if (target === 'request') {
      return REQUEST_SEEDS.flatMap((seed) =>
        (['read-only', 'writable', 'growable'] as const).map(
          (access): Input => ({
            target: 'request',
            seed,
            access,
            isRoot: access === 'growable',
            requests: [],
          }),
        ),
      );
    }
    return [...this.#seeds.values()].flatMap(({ name, contents }) =>
      Object.keys(contents).map((file): Input => ({ target, seed: name, file, session: 'plain', edits: [] })),
    );
  }

  #next(): Input {
    const random = this.#random;
    const base = this.#pick();
    const other = random.pick(this.#corpus);
    const seed = this.#seeds.get(base.seed)!;
    if (base.target !== 'request') {
      return mutateImage(random, base, seed, other.target !== 'request' ? other : undefined);
    }
    const size = seed.expected!.length;
    return mutateRequests(random, base, size, other.target === 'request' ? other : undefined);
  }

  /** Of two the cheaper one, so that slow seeds do not take most of the time; often one that came lately. */
  #pick(): Input {
    const corpus = this.#corpus;
    const recent = Math.floor(corpus.length * 0.7);
    const draw = (): Input =>
      this.#random.below(2) === 0
        ? corpus[recent + this.#random.below(corpus.length - recent)]!
        : this.#random.pick(corpus);
    const [one, two] = [draw(), draw()];
    const isCheaper = (this.#costs.get(one.seed) ?? 0) < 0.5 * (this.#costs.get(two.seed) ?? 0);
    return isCheaper ? one : two;
  }

  async #execute(input: Input, isFirst: boolean): Promise<void> {
    const started = performance.now();
    this.#workshop.announce({ executions: ++this.#executions, input });
    const finding = await this.#try(input);
    if (finding !== undefined) await this.#report(finding, input);
    if (this.#coverage.advance() || isFirst) {
      this.#corpus.push(input);
      this.#workshop.keep(input);
    }
    const cost = this.#costs.get(input.seed);
    const took = performance.now() - started;
    this.#costs.set(input.seed, cost === undefined ? took : 0.9 * cost + 0.1 * took);
  }

  async #try(input: Input): Promise<Finding | undefined> {
    if (process.memoryUsage.rss() > TIDY_ABOVE) globalThis.gc?.();
    const before = process.memoryUsage.rss();
    try {
      await runInput(input, this.#seeds);
    } catch (error) {
      if (error instanceof Finding) return error;
      return new Finding('exception', 'the fuzzer', (error as Error).stack ?? String(error));
    }
    const peak = process.resourceUsage().maxRSS * 1024;
    const isNew = peak > this.#peak;
    this.#peak = peak;
    if (!isNew || peak - before < MAX_MEMORY) return undefined;
    return new Finding('memory', input.seed, `${Math.round((peak - before) / MiB)} MiB more`);
  }

  async #report(finding: Finding, input: Input): Promise<void> {
    if (this.#workshop.isKnown(finding)) return;
    const isQuick = !['slow', 'memory'].includes(finding.kind);
    const smallest = isQuick ? await this.#reduce(finding, input) : input;
    this.#workshop.keepFinding(finding, smallest, this.#seeds.get(input.seed)!);
  }

  /** Leaves out what the finding does not need: first halves, in the end single parts. */
  async #reduce(finding: Finding, input: Input): Promise<Input> {
    let smallest = input;
    let runs = 0;
    for (let count = partsOf(input).length; count > 0; count = Math.floor(count / 2)) {
      for (let index = 0; index < partsOf(smallest).length; ) {
        if (runs++ === MAX_REDUCTIONS) return smallest;
        const smaller = withoutParts(smallest, index, count);
        this.#workshop.announce({ executions: this.#executions, input: smaller });
        if ((await this.#try(smaller))?.key === finding.key) smallest = smaller;
        else index += count;
      }
    }
    return smallest;
  }
}
