/** `qcow2fs check`: is an image sound, and what can be mended? */
import { Worker } from 'node:worker_threads';
import { type Command, Option } from 'commander';
import { fromErrorRecord, Qcow2fsError } from '../errors.js';
import { nameOfOpenFile } from '../host/descriptors.js';
import { Progress } from '../progress.js';
import { CHECK_PHASES } from '../qcow2/check/check.js';
import type { CheckReport, CheckRequest } from '../qcow2/check/check-file.js';
import { REPAIR_LEVELS, type RepairLevel } from '../qcow2/repair/repair.js';
import { describeCheck } from './check-report.js';
import type { CheckOrder, CheckOutcome } from './check-worker.js';
import { CommandEnd, EXIT_DAMAGED, EXIT_LEAKS, EXIT_STATUS } from './exit-status.js';
import { addReadOptions, namedFilesOf, type ReadFlags, readLockOf } from './image-options.js';
import { print, printJson } from './output.js';
import { absolutePath, leaveLostDirectory } from './paths.js';
import { endBySignal, withProgress } from './progress-bar.js';
import { painter } from './style.js';

interface CheckFlags extends ReadFlags {
  repair?: RepairLevel;
  readData?: boolean;
  chain?: boolean;
  json?: boolean;
}

export function addCheckCommand(program: Command): void {
  const command = program
    .command('check')
    .summary('tell whether an image is sound, and repair it')
    .description(
      'Tells whether IMAGE is sound: refcounts, flags and tables of the disk and of all snapshots, bitmaps, the LUKS ' +
        'header, and whether the files that it stands on are there. Needs no key, and changes nothing unless --repair ' +
        'is given. Exit status: 0 sound; 4 damaged; 13 clusters have leaked and nothing is worse; 6 a file that the ' +
        'image stands on cannot be opened, and nothing else is wrong.',
    )
    .argument('IMAGE', 'a qcow2 image: a file or a block device')
    .addOption(
      new Option(
        '--repair <what>',
        'leaks: give back space that is lost. all: that, and mend what is corrupt, where that takes no guess',
      ).choices(REPAIR_LEVELS),
    )
    .option('--read-data', 'read all data, too, and inflate what is compressed')
    .option('--chain', 'check the backing files, too (they are never repaired)')
    .option('--json', 'as a JSON object');
  addReadOptions(command)
    .addHelpText(
      'after',
      `
Examples:
  qcow2fs check disk.qcow2                     is it sound?
  qcow2fs check --read-data disk.qcow2         can all of it be read, too?
  qcow2fs check --chain overlay.qcow2          are its backing files?
  qcow2fs check --repair leaks disk.qcow2      give back clusters that nothing uses
  qcow2fs check --repair all disk.qcow2        mend all that can be mended; keep a copy if the disk matters
  qcow2fs check --json disk.qcow2 | jq '.findings[] | .kind'`,
    )
    .action(check);
}

async function check(image: string, flags: CheckFlags): Promise<void> {
  const request: CheckRequest = {
    path: absolutePath(image),
    repair: parseLevel(flags),
    readData: flags.readData ?? false,
    wholeChain: flags.chain ?? false,
    readLock: readLockOf(flags),
    ...namedFilesOf(flags),
  };
  const report = await inThread(request);
  if (flags.json) await printJson('check', report);
  else print(describeCheck(report, nameOfOpenFile(image), painter(process.stdout)));
  const status = statusOf(report);
  if (status !== 0) throw new CommandEnd(status);
}

function parseLevel(flags: CheckFlags): RepairLevel | undefined {
  const { repair } = flags;
  const readLock = readLockOf(flags);
  if (repair !== undefined && readLock !== 'read') {
    throw new Qcow2fsError('usage', `--repair needs the image for itself: leave out --${readLock}`);
  }
  return repair;
}

function statusOf({ totals }: CheckReport): number {
  if (totals.corruption > 0) return EXIT_DAMAGED;
  if (totals.missing > 0) return EXIT_STATUS['named-file'];
  return totals.leak > 0 ? EXIT_LEAKS : 0;
}

/** A check may be ended at any time; a repair ends where the image is no worse than before. */
async function inThread(request: CheckRequest): Promise<CheckReport> {
  const progress = new Progress();
  const order: CheckOrder = { request, progress: progress.memory };
  leaveLostDirectory();
  const worker = new Worker(new URL('./check-worker.js', import.meta.url), { workerData: order });
  const outcome = new Promise<CheckOutcome>((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', (error) => reject(new Qcow2fsError('internal', `a thread died: ${error.message}`)));
    worker.once('exit', () => reject(new Qcow2fsError('internal', 'a thread ended without a result')));
  });
  const labels = { phases: Object.values(CHECK_PHASES), unit: 'steps' } as const;
  let signal: NodeJS.Signals = 'SIGINT';
  const interrupt = (received: NodeJS.Signals): void => {
    signal = received;
    progress.cancel();
  };
  const end = await withProgress(progress, labels, outcome, request.repair && interrupt);
  if (end.type === 'done') return end.report;
  if (end.type === 'failed') throw fromErrorRecord(end.error);
  endBySignal(signal);
  return new Promise(() => {});
}
