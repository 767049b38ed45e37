/** What of the description of the program is put into the completion of bash. */
import type { CompletedOption, Completion } from './model.js';
import { encoded, flagsOf, quoted } from './tables.js';

/** A function that gives what belongs to a key in REPLY. */
function lookup(name: string, key: string, rows: readonly (readonly [string, string])[]): string[] {
  const cases = rows.map(([pattern, reply]) => `    ${pattern}) REPLY='${reply}' ;;`);
  return [`${name}() {`, `  case ${key} in`, ...cases, '    *) return 1 ;;', '  esac', '}'];
}

function patterns(keys: readonly string[]): string {
  return keys.map(quoted).join(' | ');
}

export function bashTables({ options, commands, mountWords }: Completion): string[] {
  const words = mountWords.map(({ word, option }) => (option.value === undefined ? word : `${word}=`));
  const names = (list: readonly CompletedOption[]): string => list.flatMap(flagsOf).join(' ');
  const values = commands.flatMap(({ name, options }) =>
    options.map((option) => [flagsOf(option).map((flag) => `${name} ${flag}`), option.value] as const),
  );
  const inLists = mountWords.map(({ word, option }) => [[`-o ${word}`], option.value] as const);
  return [
    `_qcow2fs_commands=(${commands.map(({ name }) => name).join(' ')})`,
    `_qcow2fs_mount_words=(${words.join(' ')})`,
    ...lookup(
      '_qcow2fs_command',
      '$1',
      commands.map(({ name, aliases }) => [patterns([name, ...aliases]), name]),
    ),
    ...lookup('_qcow2fs_options', '$1', [
      ["''", names(options)],
      ...commands.map(({ name, options }) => [quoted(name), names(options)] as const),
    ]),
    ...lookup(
      '_qcow2fs_value',
      '"$1 $2"',
      [...values, ...inLists].flatMap(([keys, value]) =>
        value === undefined ? [] : [[patterns(keys), encoded(value)] as const],
      ),
    ),
    ...lookup(
      '_qcow2fs_argument',
      '"$1 $2"',
      commands.flatMap(({ name, arguments: list }) =>
        list.map(({ value }, index) => [quoted(`${name} ${index + 1}`), encoded(value)] as const),
      ),
    ),
  ];
}
