/** The command line: one command each from its own file, one line for each failure. */
import { createRequire } from 'node:module';
import { inspect } from 'node:util';
import { Command, CommanderError } from 'commander';
import { errnoName, hostReason, Qcow2fsError, toErrorRecord } from '../errors.js';
import fs from '../fs.js';
import { onNotice } from '../notice.js';
import { addCheckCommand } from './check.js';
import { CommandEnd, EXIT_MEANINGS, EXIT_STATUS, EXIT_SUCCESS, EXIT_USAGE } from './exit-status.js';
import { addHashCommand } from './hash.js';
import { addInfoCommand } from './info.js';
import { addListCommand } from './list.js';
import { addMapCommand } from './map.js';
import { addMountCommand } from './mount.js';
import { table, warn } from './output.js';
import { addUmountCommand } from './umount.js';

const PACKAGE = createRequire(import.meta.url)('../../../package.json') as { readonly version: string };

/** As a shell shows a program that SIGPIPE ended. */
const EXIT_BROKEN_PIPE = 141;

/** Notices of a command that are shown. */
const MAX_NOTICES = 64;

const COMMANDS = [
  addMountCommand,
  addUmountCommand,
  addListCommand,
  addInfoCommand,
  addCheckCommand,
  addMapCommand,
  addHashCommand,
] as const;

/** All commands and their options: what help shows, and what manual pages and completions are held to. */
export function buildProgram(): Command {
  const program = new Command('qcow2fs')
    .description('Presents a qcow2 disk image, encrypted or not, as one raw file.')
    .usage('COMMAND ...  |  IMAGE MOUNTPOINT [-o OPTIONS]')
    .version(PACKAGE.version)
    .helpCommand('help [command]', 'show the help of a command')
    .showSuggestionAfterError()
    .addHelpText('after', closingHelp)
    .configureOutput({ outputError: (text) => warn(oneLine(text, 'qcow2fs')) });
  for (const add of COMMANDS) add(program);
  program.exitOverride();
  for (const command of program.commands) {
    const outputError = (text: string): void =>
      warn(oneLine(`${text.trim()}${whoseOption(text, program)}`, `qcow2fs ${command.name()}`));
    command.exitOverride().configureOutput({ outputError });
  }
  return program;
}

function closingHelp(): string {
  const statuses = Object.entries(EXIT_MEANINGS).map(([status, meaning]) => [`  ${status}`, meaning]);
  return `
Examples:
  qcow2fs mount disk.qcow2 /mnt/x     then use /mnt/x/disk.raw as a disk
  qcow2fs umount /mnt/x
  qcow2fs check disk.qcow2            is it sound?
  qcow2fs COMMAND --help              more examples

Exit statuses:
${table(statuses)}`;
}

/** An option that one command does not know may be that of another one, as that of a key where none is needed. */
function whoseOption(text: string, { commands }: Command): string {
  const option = /unknown option '(-[\w-]+)(?:=.*)?'$/s.exec(text.trim())?.[1];
  const owners = commands.filter(({ options }) =>
    options.some(({ short, long }) => [short, long].includes(option)),
  );
  if (option === undefined || owners.length === 0) return '';
  return ` (an option of ${owners.map((owner) => owner.name()).join(', ')})`;
}

/** `error: unknown option '--foo'\n(Did you mean --bar?)\n` as one line that says what to do next. */
function oneLine(text: string, command: string): string {
  const complaint = text
    .trim()
    .replace(/^error: /, '')
    .replace(/\.$/, '')
    .replaceAll(/\s*\n\s*/g, ' ');
  return complaint.includes('Did you mean') ? complaint : `${complaint}; see: ${command} --help`;
}

/** `qcow2fs IMAGE MOUNTPOINT -o LIST`, the form that mount(8) calls, means `mount`. */
function withCommand(args: readonly string[], program: Command): readonly string[] {
  const first = args[0];
  if (first === undefined || ['-h', '--help', '-V', '--version'].includes(first)) return args;
  const names = program.commands.flatMap((command) => [command.name(), ...command.aliases()]);
  if (names.includes(first)) return args;
  // Else an unknown command would get the help of the program.
  if (first === 'help' && args.length === 2 && !names.includes(args[1]!)) return [args[1]!];
  const looksLikePath = first.startsWith('-') || /[./]/.test(first) || fs.existsSync(first);
  return looksLikePath ? ['mount', ...args] : args;
}

/** Whoever read the output has seen enough: nothing to complain about. */
function endWithoutReader(error: unknown): void {
  if (errnoName(error) !== 'EPIPE') warn(`standard output: ${hostReason(error)}`);
  process.exit(errnoName(error) === 'EPIPE' ? EXIT_BROKEN_PIPE : EXIT_STATUS['host-io']);
}

/** @returns the exit status */
export async function run(args: readonly string[]): Promise<number> {
  process.stdout.on('error', endWithoutReader);
  listenForNotices();
  const status = await runCommand(args);
  await outputIsWritten();
  return status;
}

/** A damaged image may give rise to millions. */
function listenForNotices(): void {
  let count = 0;
  onNotice((message) => {
    count++;
    if (count <= MAX_NOTICES) warn(message);
    else if (count === MAX_NOTICES + 1) warn('there is more of this, which is not shown');
  });
}

/** What fails to be written is told a moment later: to the listener, which then ends the program. */
function outputIsWritten(): Promise<void> {
  return new Promise((resolve) => {
    process.stdout.write('', () => setImmediate(resolve));
  });
}

async function runCommand(args: readonly string[]): Promise<number> {
  const program = buildProgram();
  try {
    await program.parseAsync([...withCommand(args, program)], { from: 'user' });
    return EXIT_SUCCESS;
  } catch (error) {
    if (error instanceof CommandEnd) return error.status;
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT_SUCCESS : EXIT_USAGE;
    const { kind, message } = toErrorRecord(error);
    warn(message);
    if (!(error instanceof Qcow2fsError) && process.env['DEBUG']) warnOfStack(error);
    return EXIT_STATUS[kind];
  }
}

function warnOfStack(error: unknown): void {
  for (const line of inspect(error).split('\n')) warn(line);
}
