/** What `hash` prints: digests, or whether they are what they should be. */
import { Qcow2fsError } from '../errors.js';
import { type Piece, pieceName, sumLine } from '../hash/sums.js';
import type { HashPlan } from './hash-options.js';
import { print, printPart, warn } from './output.js';
import { eraseBar } from './progress-bar.js';

/** Pieces in one JSON object. */
export const MAX_JSON_PIECES = 500_000;

interface ListedPiece extends Piece {
  readonly digests: Readonly<Record<string, string>>;
}

export class HashResult {
  readonly #plan: HashPlan;
  readonly #size: number;
  readonly #pieces: ListedPiece[] = [];
  #digests: Readonly<Record<string, string>> | null = null;
  #differing: Piece[] = [];

  /** @throws Qcow2fsError `usage` for a result that would be too large */
  constructor(plan: HashPlan, size: number) {
    const { json, pieceBytes, expected } = plan;
    this.#plan = plan;
    this.#size = size;
    if (json && expected === undefined && pieceBytes && size / pieceBytes > MAX_JSON_PIECES) {
      const what = `--json gives at most ${MAX_JSON_PIECES} pieces`;
      throw new Qcow2fsError('usage', `${what}: leave out --json, or choose larger pieces`);
    }
  }

  /** @param digests by the name of the algorithm */
  addWhole(digests: ReadonlyMap<string, string>): void {
    const { algorithms, expected, name, tagged, json } = this.#plan;
    this.#digests = Object.fromEntries(algorithms.map(({ name: key }) => [key, digests.get(key)!]));
    for (const algorithm of algorithms) {
      const digest = digests.get(algorithm.name)!;
      if (expected === undefined) {
        if (!json) print(sumLine(algorithm, digest, name, tagged));
      } else if (expected.sums.digestOf(algorithm, 0) !== digest) {
        this.#differing = [{ offset: 0, length: this.#size }];
        if (!json)
          warn(`${name}: ${algorithm.name} is ${digest}, not ${expected.sums.digestOf(algorithm, 0)}`);
      }
    }
  }

  /** @param digests of the pieces from `first` on; of each in the order of the algorithms */
  readonly addPieces = async (first: number, digests: readonly string[]): Promise<void> => {
    const { algorithms, json } = this.#plan;
    const lines: string[] = [];
    for (let i = 0; i < digests.length; i += algorithms.length) {
      const index = first + i / algorithms.length;
      const own = digests.slice(i, i + algorithms.length);
      this.#addPiece(index, own, lines);
    }
    if (json || lines.length === 0) return;
    eraseBar();
    await printPart(`${lines.join('\n')}\n`);
  };

  /** @returns true when everything is as it should be */
  finish(): boolean {
    const { expected, name, json } = this.#plan;
    if (expected === undefined) return true;
    const { pieces } = expected.sums;
    const matches = this.#differing.length === 0 && (pieces === undefined || pieces.covered === this.#size);
    if (json) return matches;
    if (pieces !== undefined && pieces.covered !== this.#size) {
      warn(`${name}: ${expected.file} covers ${pieces.covered} bytes, the disk has ${this.#size}`);
    }
    print(`${name}: ${matches ? 'OK' : 'FAILED'}`);
    return matches;
  }

  /** For `--json`. */
  describe(): object {
    const { algorithms, pieceBytes, expected, name } = this.#plan;
    const isListed = pieceBytes !== undefined && expected === undefined;
    return {
      name,
      size: this.#size,
      algorithms: algorithms.map((algorithm) => algorithm.name),
      digests: this.#digests,
      pieceSize: pieceBytes ?? null,
      pieces: isListed ? this.#pieces : null,
      verified:
        expected === undefined
          ? null
          : { file: expected.file, matches: this.finish(), differing: this.#differing },
    };
  }

  #addPiece(index: number, digests: readonly string[], lines: string[]): void {
    const { algorithms, pieceBytes, expected, name, tagged, json } = this.#plan;
    const offset = index * pieceBytes!;
    const piece = { offset, length: Math.min(pieceBytes!, this.#size - offset) };
    if (expected !== undefined) {
      if (!this.#differs(index, piece, digests)) return;
      this.#differing.push(piece);
      lines.push(`${pieceName(name, piece)}: FAILED`);
    } else if (json) {
      const named = algorithms.map((algorithm, i) => [algorithm.name, digests[i]!]);
      this.#pieces.push({ ...piece, digests: Object.fromEntries(named) });
    } else {
      for (const [i, algorithm] of algorithms.entries()) {
        lines.push(sumLine(algorithm, digests[i]!, name, tagged, piece));
      }
    }
  }

  /** What lies beyond the pieces of the file, it says nothing about. */
  #differs(index: number, { length }: Piece, digests: readonly string[]): boolean {
    const { sums } = this.#plan.expected!;
    const { pieceBytes, covered, count } = sums.pieces!;
    if (index >= count) return false;
    const expectedLength = Math.min(pieceBytes, covered - index * pieceBytes);
    if (length !== expectedLength) return true;
    return this.#plan.algorithms.some((algorithm, i) => sums.digestOf(algorithm, index) !== digests[i]);
  }
}
