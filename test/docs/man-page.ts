/** Manual pages, as their mdoc(7) source has them and as mandoc shows them. */

import fs from 'node:fs';
import path from 'node:path';
import { applyOptionLists, type MountFlags, parseAccess } from '../../src/cli/mount-options.js';
import { buildProgram } from '../../src/cli/program.js';
import { ROOT } from '../support/qcow2fs.js';
import { run } from '../support/run.js';

export const MANUALS = path.join(ROOT, 'contrib', 'man');

export interface ManPage {
  /** `qcow2fs-mount.1` */
  readonly file: string;
  /** Lines of source by the heading of the section, in their order. */
  readonly sections: ReadonlyMap<string, readonly string[]>;
}

export function readPage(file: string): ManPage {
  const source = fs.readFileSync(path.join(MANUALS, file), 'utf8');
  const [, ...parts] = source.split(/^\.Sh /m);
  const sections = parts.map((part): [string, string[]] => {
    const [heading = '', ...lines] = part.trimEnd().split('\n');
    return [heading, lines];
  });
  return { file, sections: new Map(sections) };
}

/** @throws when the page has no such section */
export function sectionOf({ file, sections }: ManPage, heading: string): readonly string[] {
  const lines = sections.get(heading);
  if (lines === undefined) throw new Error(`${file}: no section ${heading}`);
  return lines;
}

/** What a reader sees, in lines of at most `width` columns. */
export function shownPage({ file }: ManPage, width: number): string[] {
  const text = run('mandoc', ['-T', 'ascii', '-O', `width=${width}`, path.join(MANUALS, file)]);
  // Bold and underlined characters are overstruck.
  return text.replaceAll(/.[\b]/g, '').split('\n');
}

/** What a reader sees of a section, each paragraph in one line. */
export function shownSection(page: ManPage, heading: string): string[] {
  const lines = shownPage(page, 1000);
  const start = lines.indexOf(heading) + 1;
  const length = lines.slice(start).findIndex((line) => /^\S/.test(line));
  return lines.slice(start, start + length);
}

/** The heads of lists of a section that begin with the macro `Fl` or `Cm`, without `.It`. */
export function itemHeads(lines: readonly string[], macro: 'Fl' | 'Cm'): string[] {
  return lines.filter((line) => line.startsWith(`.It ${macro} `)).map((line) => line.slice('.It '.length));
}

/** `Fl o Ar list , Fl -option Ar list` as `-o <list>`, `--option <list>`. */
export function optionForms(head: string): string[] {
  return head.split(' , ').map((form) => form.replace(/^Fl /, '-').replace(/ Ar (\S+)$/, ' <$1>'));
}

/** `Cm ro , read-only` as `ro`, `read-only`; `Cm name Ns = Ns Ar name` as `name=name`. */
export function wordForms(head: string): string[] {
  return head.split(' , ').map((form) => form.replaceAll(/\b(?:Cm|Ar) /g, '').replaceAll(' Ns ', ''));
}

/** The literal blocks of a section, as they are shown. */
export function literalBlocks(lines: readonly string[]): string[] {
  const blocks = lines.join('\n').matchAll(/^\.Bd -literal.*\n([\s\S]*?)\n\.Ed$/gm);
  return [...blocks].map(([, text]) => text!.replaceAll('\\-', '-').replaceAll('\\e', '\\'));
}

/** `mount(8)` for each cross reference of the page. */
export function references({ sections }: ManPage): string[] {
  const source = [...sections.values()].flat().join('\n');
  return [...source.matchAll(/\bXr (\S+) (\d)/g)].map(([, name, section]) => `${name}.${section}`);
}

/**
 * The commands of a script that call `program`, as the shell would split them: words without quotes, and without
 * redirections. Knows as much of the shell as examples need.
 */
export function commandsOf(script: string, program: string): string[][] {
  const commands: string[][] = [[]];
  const tokens = script.replaceAll('\\\n', ' ').matchAll(/"(?:\\.|[^"])*"|[^\s"|;&()<>]+|[|;&()<>\n]/g);
  for (const [token] of tokens) {
    if (/^[|;&()\n]$/.test(token)) commands.push([]);
    else commands.at(-1)!.push(token.replaceAll('"', ''));
  }
  return commands
    .map((words) => words.filter((word, index) => !/[<>]/.test(word) && !/[<>]/.test(words[index - 1] ?? '')))
    .filter((words) => words.includes(program))
    .map((words) => words.slice(words.indexOf(program)));
}

/** Parses a command line of the program without running it. @throws when it makes no sense */
export async function expectParsed(words: readonly string[]): Promise<void> {
  const parsed = buildProgram();
  let flags: MountFlags | undefined;
  for (const command of parsed.commands) {
    command.action(() => {
      if (command.name() === 'mount') flags = command.opts<MountFlags>();
    });
  }
  const isNamed = parsed.commands.some((command) =>
    [command.name(), ...command.aliases()].includes(words[0]!),
  );
  await parsed.parseAsync(isNamed ? [...words] : ['mount', ...words], { from: 'user' });
  if (flags !== undefined) parseAccess(applyOptionLists(flags));
}
