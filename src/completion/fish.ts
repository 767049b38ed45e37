/** What of the description of the program is put into the completion of fish: `complete`, one line for each thing. */
import type { CompletedCommand, CompletedOption, Completion, Value } from './model.js';
import { encoded, flagsOf } from './tables.js';

export function fishTables(completion: Completion): string[] {
  const { program, options, commands, mountWords } = completion;
  const complete = (condition: string, ...rest: readonly string[]): string =>
    [`complete -c ${program} -n ${quoted(condition)}`, ...rest].join(' ');
  return [
    'function __qcow2fs_commands',
    `    printf '%s\\n' ${commands.map(({ name }) => name).join(' ')}`,
    'end',
    ...switchFunction(
      '__qcow2fs_command_named',
      commands.map(({ name, aliases }) => [[name, ...aliases], `echo ${name}`]),
    ),
    '# Options that take a value.',
    ...switchFunction(
      '__qcow2fs_valued',
      commands.flatMap(({ name, options }) => {
        const flags = options.filter(({ value }) => value !== undefined).flatMap(flagsOf);
        return flags.length === 0 ? [] : [[[name], `printf '%s\\n' ${flags.join(' ')}`] as const];
      }),
    ),
    'function __qcow2fs_mount_words',
    ...mountWords.map(({ word, option }) => {
      const equals = option.value === undefined ? '' : '=';
      return `    printf '%s\\t%s\\n' ${word}${equals} ${quoted(option.description)}`;
    }),
    'end',
    ...switchFunction(
      '__qcow2fs_mount_kind',
      mountWords.flatMap(({ word, option: { value } }) =>
        value === undefined ? [] : [[[word], `printf '%s\\n' ${encoded(value)}`] as const],
      ),
    ),
    '',
    `complete -c ${program} -f`,
    ...options.map((option) => complete('__qcow2fs_at none 0', ...optionWords(option))),
    ...commands.map(({ name, summary }) =>
      complete('__qcow2fs_at none 0', `-a ${name}`, `-d ${quoted(summary)}`),
    ),
    complete('__qcow2fs_needs_no_command', proposals({ kind: 'image' })),
    ...commands.flatMap((command) => [
      ...command.options.map((option) => complete(`__qcow2fs_is ${command.name}`, ...optionWords(option))),
      ...argumentLines(command, commands, complete),
    ]),
  ];
}

function argumentLines(
  { name, arguments: list }: CompletedCommand,
  commands: readonly CompletedCommand[],
  complete: (condition: string, ...rest: string[]) => string,
): string[] {
  return list.flatMap(({ value }, index) => {
    const condition = `__qcow2fs_at ${name} ${index + 1}`;
    if (value.kind === 'image') {
      return [
        complete(condition, proposals(value)),
        complete(`${condition}; and __qcow2fs_has_variable`, '-F'),
      ];
    }
    if (value.kind !== 'command') return [complete(condition, proposals(value))];
    return commands.map((command) =>
      complete(condition, `-a ${command.name}`, `-d ${quoted(command.summary)}`),
    );
  });
}

function switchFunction(name: string, rows: readonly (readonly [readonly string[], string])[]): string[] {
  const cases = rows.flatMap(([keys, action]) => [`        case ${keys.join(' ')}`, `            ${action}`]);
  return [
    `function ${name}`,
    '    switch $argv[1]',
    ...cases,
    "        case '*'",
    '            return 1',
    '    end',
    'end',
  ];
}

function optionWords({ short, long, description, value }: CompletedOption): string[] {
  return [
    ...(short === undefined ? [] : [`-s ${short.slice(1)}`]),
    `-l ${long.slice(2)}`,
    `-d ${quoted(description)}`,
    ...(value === undefined ? [] : [`-r ${proposals(value)}`]),
  ];
}

/** Files are left to fish where it knows them, because it knows variables, too. Others come in an order of their own. */
function proposals(value: Value): string {
  switch (value.kind) {
    case 'any':
      return '-f';
    case 'file':
      return '-F';
    case 'words-or-file':
      return `-F -k -a ${quoted(`(printf '%s\\t\\n' ${value.words.join(' ')})`)}`;
    case 'secret':
      return `-F -a ${quoted('(__qcow2fs_secret_of_image (__qcow2fs_typed))')}`;
    default:
      return `-f -k -a ${quoted(`(__qcow2fs_propose ${encoded(value)})`)}`;
  }
}

function quoted(text: string): string {
  return `'${text.replace(/[\\']/g, '\\$&')}'`;
}
