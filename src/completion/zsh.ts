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
    '_qcow2fs_mount_options() {',
    `  _values -s , 'option of mount' \\\n${indented(mountWords.map(wordSpec), 4, ' \\')}`,
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

function wordSpec({ word, option }: MountWord): string {
  const end = option.value === undefined ? '' : `:${option.valueName}:${actionFor(option.value)}`;
  return quoted(`${option.repeatable ? '*' : ''}${word}[${inBrackets(option.description)}]${end}`);
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
