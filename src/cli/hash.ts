/** `qcow2fs hash`: digests of the disk that an image holds. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Command } from 'commander';
import type { HashInput } from '../hash/hash-disk.js';
import { nameOfOpenFile } from '../host/descriptors.js';
import { ErrorMapFile } from '../host/error-map-file.js';
import { Progress } from '../progress.js';
import { attachDisk, type Layers, openLayers } from '../qcow2/chain.js';
import { wipeKey } from '../qcow2/encryption.js';
import { CommandEnd, EXIT_DAMAGED, EXIT_DIFFERS, EXIT_FAILURE } from './exit-status.js';
import { HashDamage } from './hash-damage.js';
import {
  DEFAULT_ALGORITHM,
  DEFAULT_DISK_NAME,
  defaultThreads,
  describeAlgorithms,
  type HashFlags,
  type HashPlan,
  parseHashFlags,
} from './hash-options.js';
import { HashResult } from './hash-result.js';
import { addKeyOptions, addReadOptions, keysOf, namedFilesOf, readLockOf } from './image-options.js';
import { printJson, warn } from './output.js';
import { absolutePath, leaveLostDirectory } from './paths.js';
import { endBySignal, eraseBar, withProgress } from './progress-bar.js';

export function addHashCommand(program: Command): void {
  const command = program
    .command('hash')
    .summary('make digests of the disk, or compare it with some')
    .description(
      'Makes digests of the disk that IMAGE holds, decrypted, without mounting it: ' +
        'those that sha256sum and its like would make of the mounted file. Runs that ' +
        'are known to be zeros are not read. SIGUSR1 shows how far it is. ' +
        'What cannot be read of a damaged image, or was cut off, counts as zeros, is told, and gives ' +
        'exit status 4.',
    )
    .argument('IMAGE', 'a qcow2 image: a file or a block device')
    .option(
      '--algorithm <list>',
      `one or several, in one pass: ${describeAlgorithms()} (default: ${DEFAULT_ALGORITHM})`,
      (list: string, before: string | undefined) => (before === undefined ? list : `${before},${list}`),
    )
    .option('--snapshot <name>', 'hash the internal snapshot of this ID or name')
    .option(
      '--piecewise <size>',
      'a line for each piece of SIZE bytes instead of one for the disk: what differs later is then known to a ' +
        'piece. Pieces of zeros cost nothing',
    )
    .option(
      '--verify <file>',
      'compare with the digests in FILE (- for standard input), as this command, sha256sum and its like write ' +
        'them; exit status 14 when the disk differs',
    )
    .option('--error-map <file>', 'write what cannot be read to FILE, a mapfile of GNU ddrescue')
    .option(
      '--name <name>',
      `the name of the disk in lines of digests (default: ${DEFAULT_DISK_NAME}, as in a mountpoint)`,
    )
    .option(
      '--tag',
      'lines as BSD has them, which name the algorithm; always for several, and for blake2b512',
    )
    .option('--threads <n>', 'threads that read and hash (default: one for each processor, from 2 to 8)')
    .option('--json', 'as a JSON object');
  addReadOptions(addKeyOptions(command))
    .addHelpText(
      'after',
      `
Examples:
  qcow2fs hash disk.qcow2 > disk.sha256                         then, where the disk is mounted:
                                                                sha256sum -c disk.sha256
  qcow2fs hash --algorithm md5,sha256 disk.qcow2                two digests, read once
  qcow2fs hash --secret-file key.txt luks.qcow2                 of what is encrypted
  qcow2fs hash --piecewise 1M disk.qcow2 > disk.pieces          a digest for each MiB
  qcow2fs hash --verify disk.pieces disk.qcow2                  which of them have changed?
  qcow2fs hash --error-map disk.map damaged.qcow2               and what cannot be read`,
    )
    .action(hash);
}

async function hash(image: string, flags: HashFlags): Promise<void> {
  const plan = parseHashFlags(flags);
  const layers = openAndWipe(image, flags);
  try {
    leaveLostDirectory();
    const disk = await attachDisk(layers);
    await hashLayers(image, flags, plan, layers, disk.size).finally(() => disk.close());
  } finally {
    for (const layer of layers) if (layer.kind === 'qcow2') wipeKey(layer.parameters.encryption);
  }
}

async function hashLayers(
  image: string,
  flags: HashFlags,
  plan: HashPlan,
  layers: Layers,
  size: number,
): Promise<void> {
  const { algorithms, errorMap, json } = plan;
  const result = new HashResult(plan, size);
  const map =
    errorMap === undefined
      ? undefined
      : new ErrorMapFile(errorMap, layers[0].file.path, flags.snapshot, size);
  const damage = new HashDamage();
  const progress = new Progress();
  progress.begin(0, size);
  const tell = tellOnce();
  let isCutOff = false;
  const input = {
    layers,
    size,
    algorithms,
    threads: plan.threads ?? defaultThreads(size),
    progress,
    onLoss: damage.add,
    onNotice: (message: string) => {
      isCutOff = true;
      tell(message);
    },
  };
  let signal: NodeJS.Signals | undefined;
  const interrupt = (received: NodeJS.Signals): void => {
    signal = received;
    progress.cancel();
  };
  const labels = { phases: ['hashing'], unit: 'bytes' } as const;
  const work = hashAll(input, plan, result);
  const { tried, digests } = await withProgress(progress, labels, work, map && interrupt);
  damage.save(map, tried);
  if (signal !== undefined) await end(signal);
  if (digests !== undefined) result.addWhole(digests);

  const matches = json ? await printResult(image, flags, plan, result, damage) : result.finish();
  damage.tell(image);
  if (!matches) throw new CommandEnd(EXIT_DIFFERS);
  if (damage.bytes > 0 || isCutOff) throw new CommandEnd(EXIT_DAMAGED);
}

/** The secrets have done their work then, or will not. */
function openAndWipe(image: string, flags: HashFlags): Layers {
  const keys = keysOf(flags);
  try {
    return openLayers(absolutePath(image), {
      ...keys,
      snapshot: flags.snapshot,
      ...namedFilesOf(flags),
      readLock: readLockOf(flags),
    });
  } finally {
    keys.secret?.fill(0);
    for (const { secret } of keys.imageSecrets) secret.fill(0);
  }
}

interface Hashed {
  /** Bytes from the start of the disk that were read and hashed. */
  readonly tried: number;
  /** Of the whole disk; undefined for pieces, of which the result is told as they come. */
  readonly digests: ReadonlyMap<string, string> | undefined;
}

async function hashAll(input: HashInput, { pieceBytes }: HashPlan, result: HashResult): Promise<Hashed> {
  const { hashDisk, hashPieces } = await import('../hash/hash-disk.js');
  if (pieceBytes === undefined) return hashDisk(input);
  return { tried: await hashPieces(input, pieceBytes, result.addPieces), digests: undefined };
}

async function printResult(
  image: string,
  { snapshot }: HashFlags,
  plan: HashPlan,
  result: HashResult,
  damage: HashDamage,
): Promise<boolean> {
  await printJson('hash', {
    image: nameOfOpenFile(absolutePath(image)),
    snapshot: snapshot ?? null,
    ...result.describe(),
    unreadable: damage.list(),
  });
  return plan.expected === undefined || result.finish();
}

/** Threads may have the same to say. */
function tellOnce(): (message: string) => void {
  const told = new Set<string>();
  return (message) => {
    if (told.has(message)) return;
    told.add(message);
    eraseBar();
    warn(message);
  };
}

/** The signal ends the process, a moment later perhaps. */
async function end(signal: NodeJS.Signals): Promise<never> {
  endBySignal(signal);
  await delay(1000);
  throw new CommandEnd(EXIT_FAILURE);
}
