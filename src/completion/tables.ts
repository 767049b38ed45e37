/** The tables of the completions: what of the description of the program is put into the shells' own languages. */
import type { CompletedOption, Value } from './model.js';

const FOREWORD =
  '# Made by contrib/completion/generate from the commands of the program: change those, not this.';

/** The file of a shell: its engine, with the tables in the place of the line that says so. */
export function withTables(engine: string, tables: readonly string[]): string {
  const place = '# TABLES\n';
  if (engine.split(place).length !== 2) throw new Error('completion: an engine has one line "# TABLES"');
  return engine.replace(place, () => [FOREWORD, '', ...tables, ''].join('\n'));
}

/** For shells whose engine reads it: the kind, then words. */
export function encoded(value: Value): string {
  return 'words' in value ? [value.kind, ...value.words].join(' ') : value.kind;
}

/** As bash and zsh take it. */
export function quoted(text: string): string {
  if (/^[\w-]+$/.test(text)) return text;
  return `'${text.replaceAll("'", "'\\''")}'`;
}

export function flagsOf({ short, long }: CompletedOption): string[] {
  return short === undefined ? [long] : [short, long];
}
