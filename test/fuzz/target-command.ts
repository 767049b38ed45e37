/**
 * A damaged image, given to every command that looks at one: what is printed, as text and as JSON, holds nothing that a
 * terminal obeys, nothing from outside, and ends within limits.
 */
import fs from 'node:fs';
import { join } from 'node:path';
import { runInProcess } from '../support/in-process.js';
import type { Outcome } from '../support/qcow2fs.js';
import { attempt, Finding, refuseCanary } from './finding.js';
import type { ImageInput } from './input.js';
import { IMAGE, type Seed } from './seeds.js';
import { writeDamaged } from './target-image.js';

/** CPU seconds. A map shows the whole disk, of which a header may claim much. */
const MAX_SECONDS = 10;
/** Characters. Text shows the beginning of names; JSON has all of them, and six characters for some. */
const MAX_TEXT = 32 * 1024 * 1024;
const MAX_JSON = 64 * 1024 * 1024;
const MAX_LINE = 16 * 1024;
/** What is larger is not read as a whole: hashing zeros takes its time. */
const MAX_HASHED = 64 * 1024 * 1024;
/** All but an internal error, and what has to do with mountpoints. */
const STATUSES: ReadonlySet<number | null> = new Set([0, 2, 3, 4, 5, 6, 7, 8, 12, 13]);
const SECRET = 'secret.file';
const SVG = 'map.svg';
const CONTROLS = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u;

/** @throws Finding */
export async function runCommands(input: ImageInput, seed: Seed): Promise<void> {
  writeDamaged(input, seed);
  const image = join(seed.dir, IMAGE);
  const secret = join(seed.dir, SECRET);
  const svg = join(seed.dir, SVG);
  if (seed.secret !== undefined) fs.writeFileSync(secret, seed.secret, { mode: 0o600 });
  const key = seed.secret === undefined ? [] : ['--secret-file', secret];
  try {
    await runText(['info', image]);
    const info = await runJson(['info', '--json', image]);
    await runText(['check', image]);
    await runJson(['check', '--json', '--read-data', '--chain', image]);
    await runText(['map', '--svg', svg, image]);
    if (fs.existsSync(svg)) refuse(fs.readFileSync(svg, 'utf8'), 'map --svg', MAX_TEXT);
    await runJson(['map', '--json', image]);
    await runJson(['map', '--output=json', image]);
    const size = (info as { virtualSize?: number } | undefined)?.virtualSize ?? 0;
    const snapshots = (info as { snapshots?: { id: string }[] } | undefined)?.snapshots ?? [];
    if (size <= MAX_HASHED) await runText(['hash', ...key, image]);
    if (size <= MAX_HASHED) await runJson(['hash', '--json', ...key, image]);
    // No argument of a program has a NUL.
    const named = snapshots.find(({ id }) => id !== '' && !/[\0\ufffd]/.test(id));
    if (named !== undefined) await runText(['map', `--snapshot=${named.id}`, image]);
  } finally {
    for (const file of [secret, svg]) fs.rmSync(file, { force: true });
  }
}

async function runText(args: readonly string[]): Promise<void> {
  const { stdout } = await run(args);
  refuse(stdout, stepOf(args), MAX_TEXT);
}

/** @returns undefined where the command refused the image */
async function runJson(args: readonly string[]): Promise<unknown> {
  const { stdout } = await run(args);
  const step = stepOf(args);
  if (stdout.length > MAX_JSON) throw new Finding('message', step, `${stdout.length} characters`);
  if (stdout === '') return undefined;
  try {
    return JSON.parse(stdout);
  } catch (error) {
    throw new Finding('message', step, `no JSON: ${(error as Error).message}`);
  }
}

async function run(args: readonly string[]): Promise<Outcome> {
  const step = stepOf(args);
  const outcome = await attempt(step, MAX_SECONDS, () => runInProcess(args));
  const { status, stdout, stderr } = outcome!;
  if (!STATUSES.has(status)) throw new Finding('exception', step, `status ${status}: ${stderr}`);
  refuseCanary(Buffer.from(stdout), step);
  refuse(stderr, step, MAX_TEXT);
  const odd = stderr.split('\n').find((line) => line !== '' && !line.startsWith('qcow2fs: '));
  if (odd !== undefined) throw new Finding('message', step, `on standard error: ${odd.slice(0, 200)}`);
  return outcome!;
}

function stepOf(args: readonly string[]): string {
  return args.filter((word) => /^-*[a-z]/.test(word) && !word.includes('snapshot=')).join(' ');
}

/** Lines that a terminal shows as they are. */
function refuse(text: string, step: string, most: number): void {
  if (text.length > most) throw new Finding('message', step, `${text.length} characters`);
  refuseCanary(Buffer.from(text), step);
  for (const line of text.split('\n')) {
    if (line.length > MAX_LINE) throw new Finding('message', step, `a line of ${line.length} characters`);
    if (CONTROLS.test(line))
      throw new Finding('message', step, `control characters: ${JSON.stringify(line)}`);
  }
}
