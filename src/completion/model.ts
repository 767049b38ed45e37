/** What shells complete: the commands of the program, their options and arguments, and of what kind each value is. */
import type { Argument, Command, Option } from 'commander';
import { collect } from '../cli/image-options.js';
import { MAP_OUTPUTS } from '../cli/map.js';
import { FLAG_WORDS, LIST_WORDS, TEMPORARY_OVERLAY, VALUE_WORDS } from '../cli/mount-options.js';
import { SECRET_FORMATS } from '../cli/secret.js';
import { TRANSPORTS } from '../daemon/config.js';
import { SECTOR_SIZES } from '../daemon/sector-size.js';
import { ALGORITHM_NAMES } from '../hash/algorithms.js';
import { BACKING_FORMATS } from '../qcow2/backing-file.js';

export type Kind =
  /** Nothing can be proposed: a number, a new name. */
  | 'any'
  | 'file'
  | 'directory'
  /** A file or block device, best one that is called like an image. */
  | 'image'
  /** Where a disk of this program is mounted now. */
  | 'mounted'
  /** FILE or IMAGE=FILE. */
  | 'secret'
  /** A list for `-o`. */
  | 'mount-options'
  | 'command';

export type Value =
  | { readonly kind: Kind }
  /** One of these. */
  | { readonly kind: 'words'; readonly words: readonly string[] }
  /** Several of these, with commas. */
  | { readonly kind: 'list'; readonly words: readonly string[] }
  /** One of these, or a file. */
  | { readonly kind: 'words-or-file'; readonly words: readonly string[] };

export interface CompletedOption {
  /** `-r`, without it undefined. */
  readonly short: string | undefined;
  readonly long: string;
  readonly description: string;
  /** Undefined for a flag. */
  readonly value: Value | undefined;
  /** How help names the value. */
  readonly valueName: string;
  readonly repeatable: boolean;
}

export interface CompletedArgument {
  readonly name: string;
  readonly value: Value;
}

export interface CompletedCommand {
  readonly name: string;
  readonly aliases: readonly string[];
  readonly summary: string;
  readonly options: readonly CompletedOption[];
  readonly arguments: readonly CompletedArgument[];
}

/** A word of `-o`; `option` is the option of `mount` that it stands for. */
export interface MountWord {
  readonly word: string;
  readonly option: CompletedOption;
}

export interface Completion {
  readonly program: string;
  /** Options before any command. */
  readonly options: readonly CompletedOption[];
  readonly commands: readonly CompletedCommand[];
  /** The command of a line that names none. */
  readonly defaultCommand: 'mount';
  readonly mountWords: readonly MountWord[];
}

/**
 * What values are, by `COMMAND --option`, `--option`, `COMMAND ARGUMENT`, or the name in the help, `<file>` or `IMAGE`;
 * the first of these that is here counts.
 */
const VALUES: Readonly<Record<string, Value>> = {
  'map --output': { kind: 'words', words: Object.keys(MAP_OUTPUTS) },
  'umount MOUNTPOINT': { kind: 'mounted' },
  '--backing-format': { kind: 'words', words: BACKING_FORMATS },
  '--algorithm': { kind: 'list', words: ALGORITHM_NAMES },
  '--option': { kind: 'mount-options' },
  '--overlay': { kind: 'words-or-file', words: [TEMPORARY_OVERLAY] },
  '--secret-file': { kind: 'secret' },
  '--secret-format': { kind: 'words', words: SECRET_FORMATS },
  '--sector-size': { kind: 'words', words: SECTOR_SIZES.map(String) },
  '--transport': { kind: 'words', words: TRANSPORTS },
  '<dir>': { kind: 'directory' },
  '<file>': { kind: 'file' },
  '<mode>': { kind: 'any' },
  '<n>': { kind: 'any' },
  '<name>': { kind: 'any' },
  '<size>': { kind: 'any' },
  IMAGE: { kind: 'image' },
  MOUNTPOINT: { kind: 'file' },
  command: { kind: 'command' },
};

/** @throws Error for a value of which it is not known what it is */
export function describeProgram(program: Command): Completion {
  const commands = program.createHelp().visibleCommands(program).map(describeCommand);
  const mount = commands.find(({ name }) => name === 'mount');
  if (mount === undefined) throw new Error('completion: there is no command "mount"');
  return {
    program: program.name(),
    options: optionsOf(program),
    commands,
    defaultCommand: 'mount',
    mountWords: mountWords(program.commands.find((command) => command.name() === 'mount')!, mount),
  };
}

function describeCommand(command: Command): CompletedCommand {
  return {
    name: command.name(),
    aliases: command.aliases(),
    summary: command.summary() || command.description(),
    options: optionsOf(command),
    arguments: command.registeredArguments.map((argument) => describeArgument(command, argument)),
  };
}

function optionsOf(command: Command): CompletedOption[] {
  return command
    .createHelp()
    .visibleOptions(command)
    .map((option) => describeOption(command, option));
}

function describeOption(command: Command, option: Option): CompletedOption {
  const { short, long, description, optional, variadic, parseArg } = option;
  if (!long) throw new Error(`completion: ${command.name()} ${option.flags}: an option needs a long name`);
  if (optional || variadic) throw new Error(`completion: ${command.name()} ${long}: cannot be [x] or <x...>`);
  const valueName = /<(.+)>/.exec(option.flags)?.[1] ?? '';
  const keys = [`${command.name()} ${long}`, long, `<${valueName}>`];
  const value = option.required ? kindOfValue(keys, option.argChoices) : undefined;
  return {
    short,
    long,
    // One that explains its words word by word stays whole.
    description: value?.kind.startsWith('words') ? description : firstSentence(description),
    value,
    valueName,
    repeatable: parseArg === (collect as unknown),
  };
}

function describeArgument(command: Command, argument: Argument): CompletedArgument {
  const name = argument.name();
  if (argument.variadic) throw new Error(`completion: ${command.name()} ${name}: cannot be variadic`);
  return { name, value: kindOfValue([`${command.name()} ${name}`, name], argument.argChoices) };
}

function kindOfValue(keys: readonly string[], choices: readonly string[] | undefined): Value {
  if (choices !== undefined) return { kind: 'words', words: choices };
  const key = keys.find((candidate) => Object.hasOwn(VALUES, candidate));
  if (key !== undefined) return VALUES[key]!;
  throw new Error(
    `completion: what is the value of "${keys[0]}"? Add one of these to VALUES in src/completion/model.ts: ` +
      keys.map((candidate) => `"${candidate}"`).join(', '),
  );
}

function firstSentence(text: string): string {
  return text.split(/[.;] /)[0]!;
}

function mountWords(command: Command, { options }: CompletedCommand): MountWord[] {
  const words: Record<string, string> = { ...FLAG_WORDS, ...VALUE_WORDS, ...LIST_WORDS };
  return Object.entries(words).map(([word, attribute]) => {
    const declared = command.options.find((option) => option.attributeName() === attribute);
    const option = options.find(({ long }) => long === declared?.long);
    if (option === undefined) throw new Error(`completion: no option of mount is what "-o ${word}" sets`);
    return { word, option };
  });
}
