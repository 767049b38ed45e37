/** What of the description of the program is put into the completion of zsh: zshcompsys(1), `_arguments`. */
import type { CompletedOption, Completion, MountWord, Value } from './model.js';
import { flagsOf, quoted } from './tables.js';

export function zshTables({ options, commands, mountWords }: Completion): string[] {
  const summaries = commands.map(({ name, summary }) => quoted(`${name}:${summary.replaceAll(':', '\\:')}`));
  return [
    `_qcow2fs_summaries=(\n${indented(summaries, 2)}\n)`,
    '',
    '# What _arguments is to know of a command; without a name, of the program.',
    '_qcow2fs_specs() {',
    '  case $1 in',
    ...specsCase(["''"], options.flatMap(optionSpecs)),
    ...commands.flatMap(({ name, aliases, options, arguments: list }) =>
      specsCase([name, ...aliases].map(quoted), [
        ...options.flatMap(optionSpecs),
        ...list.map(({ name, value }, index) => quoted(`${index + 1}:${name}:${actionFor(value)}`)),
      ]),
    ),
    '    *) return 1 ;;',
    '  esac',
    '}',
    '',
    `_qcow2fs_mount_flags=(\n${indented(mountWords.filter(isFlag).map(described), 2)}\n)`,
    `_qcow2fs_mount_valued=(\n${indented(mountWords.filter((word) => !isFlag(word)).map(described), 2)}\n)`,
    '_qcow2fs_mount_value() {',
    '  local expl',
    '  case $1 in',
    ...mountWords.flatMap(({ word, option: { value } }) =>
      value === undefined || value.kind === 'any' ? [] : [`    ${word}) ${callInList(value)} ;;`],
    ),
    '    *) return 1 ;;',
    '  esac',
    '}',
  ];
}

function specsCase(names: readonly string[], specs: readonly string[]): string[] {
  return [`    ${names.join(' | ')})`, `      specs=(\n${indented(specs, 8)}\n      )`, '      ;;'];
}

function indented(lines: readonly string[], columns: number, end = ''): string {
  return lines.map((line) => ' '.repeat(columns) + line).join(`${end}\n`);
}

function optionSpecs(option: CompletedOption): string[] {
  const flags = flagsOf(option);
  const exclusion = option.long === '--help' || option.long === '--version' ? '- *' : flags.join(' ');
  const start = option.repeatable ? '*' : `(${exclusion})`;
  const end = option.value === undefined ? '' : `:${option.valueName}:${actionFor(option.value)}`;
  // -oVALUE and -o VALUE; --option=VALUE and --option VALUE
  const sign = (flag: string): string =>
    option.value === undefined ? '' : flag.startsWith('--') ? '=' : '+';
  return flags.map((flag) => quoted(`${start}${flag}${sign(flag)}[${inBrackets(option.description)}]${end}`));
}

function isFlag({ option }: MountWord): boolean {
  return option.value === undefined;
}

function described({ word, option }: MountWord): string {
  return quoted(`${word}:${option.description.replaceAll(':', '\\:')}`);
}

/** The command that proposes the value of a word of `-o`. */
function callInList(value: Value): string {
  switch (value.kind) {
    case 'file':
      return '_qcow2fs_files_in_list';
    case 'directory':
      return '_qcow2fs_files_in_list -/';
    case 'secret':
      return '_qcow2fs_secret _qcow2fs_files_in_list';
    case 'words':
      return `_wanted words expl word compadd -qS , ${value.words.join(' ')}`;
    case 'words-or-file':
      return `_qcow2fs_words_or_file ${value.words.join(' ')}`;
    default:
      throw new Error(`completion: a word of -o cannot be of the kind "${value.kind}" yet: see zsh.ts`);
  }
}

function inBrackets(text: string): string {
  return text.replace(/[[\]\\]/g, '\\$&');
}

function actionFor(value: Value): string {
  switch (value.kind) {
    case 'any':
      return ' ';
    case 'file':
      return '_files';
    case 'directory':
      return '_files -/';
    case 'image':
      return '_qcow2fs_images';
    case 'mounted':
      return '_qcow2fs_mounted';
    case 'secret':
      return '_qcow2fs_secret';
    case 'mount-options':
      return '_qcow2fs_mount_options';
    case 'command':
      return '_qcow2fs_commands';
    case 'words':
      return `(${value.words.join(' ')})`;
    // The blank keeps _arguments from adding words of its own.
    case 'list':
      return ` _values -s , word ${value.words.join(' ')}`;
    case 'words-or-file':
      return ` _qcow2fs_words_or_file ${value.words.join(' ')}`;
  }
}
