/** The manual pages say what the program does: its commands, options, words of -o and exit statuses, and no others. */

import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import type { Command, Option } from 'commander';
import { EXIT_MEANINGS, EXIT_STATUS } from '../../src/cli/exit-status.js';
import {
  applyOptionLists,
  FLAG_WORDS,
  FUSE_WORDS,
  IGNORED_KEYS,
  IGNORED_WORDS,
  LIST_WORDS,
  type MountFlags,
  parseAccess,
  UNDOING_WORDS,
  VALUE_WORDS,
} from '../../src/cli/mount-options.js';
import { buildProgram } from '../../src/cli/program.js';
import { MOUNT_FLAGS } from '../../src/fuse/mount-words.js';
import { ROOT } from '../support/qcow2fs.js';
import { run } from '../support/run.js';
import {
  commandsOf,
  expectParsed,
  itemHeads,
  literalBlocks,
  MANUALS,
  type ManPage,
  optionForms,
  readPage,
  references,
  sectionOf,
  shownPage,
  shownSection,
  wordForms,
} from './man-page.js';

const PROGRAM = 'qcow2fs.1';
const MOUNT_HELPER = 'mount.fuse.qcow2fs.8';
const UNIT = 'qcow2fs@.service.8';

const SECTIONS = [
  'NAME',
  'SYNOPSIS',
  'DESCRIPTION',
  'OPTIONS',
  'ENVIRONMENT',
  'FILES',
  'EXIT STATUS',
  'EXAMPLES',
  'SEE ALSO',
];
const OPTIONAL = ['ENVIRONMENT', 'FILES'];

const program = buildProgram();
const pageOf = (command: Command | string): string =>
  `qcow2fs-${typeof command === 'string' ? command : command.name()}.1`;
const commandPages = program.commands.map(pageOf);
/** Symbolic links to the pages that describe these, too. */
const LINKS = [
  ...program.commands.flatMap((command) => command.aliases().map(pageOf)),
  'umount.fuse.qcow2fs.8',
];
const pages = [PROGRAM, ...commandPages, MOUNT_HELPER, UNIT].map(readPage);
const pageCalled = (file: string): ManPage => pages.find((page) => page.file === file)!;

// README.md: "The manual pages describe every command, option and exit status"
describe('the manual pages', () => {
  it('are there for each command and alias, and for nothing else', () => {
    const files = fs.readdirSync(MANUALS, { withFileTypes: true });
    const namesOf = (links: boolean): string[] =>
      files.filter((file) => file.isSymbolicLink() === links).map(({ name }) => name);
    expect(namesOf(false)).to.have.members(pages.map(({ file }) => file));
    expect(namesOf(true)).to.have.members(LINKS);
    for (const file of [...namesOf(false), ...namesOf(true)]) {
      const page = path.basename(fs.realpathSync(path.join(MANUALS, file)));
      expect(shownSection(readPage(page), 'NAME').join(' ').split(/[ ,]+/)).to.include(file.slice(0, -2));
    }
    for (const command of program.commands) {
      for (const alias of command.aliases()) {
        expect(fs.readlinkSync(path.join(MANUALS, pageOf(alias)))).to.equal(pageOf(command));
      }
    }
  });

  it('are put in place by npm', () => {
    const manifest = JSON.parse(fs.readFileSync(path.join(ROOT, 'package.json'), 'utf8')) as {
      readonly man: string[];
    };
    // It packs no symbolic links.
    expect(manifest.man).to.have.members(pages.map(({ file }) => `contrib/man/${file}`));
  });

  for (const { file, sections } of pages) {
    it(`have all sections in their order, and names: ${file}`, () => {
      const wanted = SECTIONS.filter((heading) => sections.has(heading) || !OPTIONAL.includes(heading));
      expect([...sections.keys()]).to.deep.equal(wanted);
      const source = fs.readFileSync(path.join(MANUALS, file), 'utf8');
      const [name, section] = [file.slice(0, -2), file.slice(-1)];
      expect(source).to.match(/^\.Dd [A-Z][a-z]+ \d{1,2}, \d{4}$/m);
      expect(source).to.contain(`\n.Dt ${name.toUpperCase()} ${section}\n`);
      expect(sections.get('NAME')![0]!.split(' ').slice(0, 2)).to.deep.equal(['.Nm', name]);
    });

    it(`are sound mdoc: ${file}`, () => {
      // Which manuals of others are installed is not the page's business.
      const findings = run('sh', ['-c', 'mandoc -T lint "$1" || :', 'sh', path.join(MANUALS, file)])
        .split('\n')
        .filter((line) => line !== '' && !line.includes('referenced manual not found'));
      expect(findings).to.deep.equal([]);
    });

    it(`fit in 80 columns: ${file}`, () => {
      const lines = shownPage(pageCalled(file), 78);
      expect(lines.filter((line) => line.length > 80)).to.deep.equal([]);
    });

    it(`refer to pages that exist: ${file}`, () => {
      const page = pageCalled(file);
      const own = references(page).filter((name) => name.includes('qcow2fs'));
      expect(pages.map((other) => other.file)).to.include.members(own);
      const listed = sectionOf(page, 'SEE ALSO').map((line) => line.replace(/^\.Xr (\S+) (\d).*/, '$2 $1'));
      expect(listed, 'by section, then by name').to.deep.equal(listed.toSorted());
      expect(listed).not.to.include(`${file.slice(-1)} ${file.slice(0, -2)}`);
    });
  }

  it('are all named in qcow2fs(1)', () => {
    const named = sectionOf(pageCalled(PROGRAM), 'SEE ALSO').join('\n');
    for (const { file } of pages.filter((page) => page.file !== PROGRAM)) {
      expect(named).to.contain(`.Xr ${file.slice(0, -2)} ${file.slice(-1)}`);
    }
  });
});

/** `-o <list>, --option <list>`, as commander knows it. */
function formsOf({ flags, short, long }: Option): string[] {
  const argument = /[<[].*/.exec(flags)?.[0];
  return [short, long]
    .filter((name) => name !== undefined)
    .map((name) => (argument === undefined ? name : `${name} ${argument}`));
}

const optionsOf = (command: Command): readonly Option[] => command.createHelp().visibleOptions(command);

/** The forms of a SYNOPSIS; letters that stand together one by one. */
function synopsisForms(page: ManPage): string[] {
  const heads = sectionOf(page, 'SYNOPSIS').flatMap((line) => line.match(/\bFl \S+( Ar \S+)?/g) ?? []);
  return heads.flatMap((head) => {
    const letters = /^Fl (\w+)$/.exec(head)?.[1];
    return letters === undefined ? optionForms(head) : [...letters].map((letter) => `-${letter}`);
  });
}

// CONTRIBUTING.md: "For an option: its help, its entry in `contrib/man`, and its `-o` form in
// `src/cli/mount-options.ts`. Tests compare them."
describe('the OPTIONS of a manual page', () => {
  for (const command of [program, ...program.commands]) {
    const page = pageCalled(command === program ? PROGRAM : pageOf(command));
    it(`are those of the program: ${page.file}`, () => {
      const written = itemHeads(sectionOf(page, 'OPTIONS'), 'Fl').map(optionForms);
      expect(written).to.have.deep.members(optionsOf(command).map(formsOf));
    });

    if (command === program) continue;
    it(`are in its SYNOPSIS: ${page.file}`, () => {
      const options = optionsOf(command)
        .filter(({ long }) => long !== '--help')
        .map(formsOf);
      const shown = synopsisForms(page);
      expect(options.flat()).to.include.members(shown);
      for (const forms of options) expect(shown).to.include.oneOf(forms);
    });
  }
});

describe('the EXIT STATUS of a manual page', () => {
  const statuses = (page: ManPage): string[][] =>
    shownSection(page, 'EXIT STATUS').flatMap((line) => {
      const parts = /^ {5}(\d+) +(.*)$/.exec(line);
      return parts === null ? [] : [[parts[1]!, parts[2]!]];
    });

  it('is that of the program, word for word, in qcow2fs(1)', () => {
    const meanings = Object.entries(EXIT_MEANINGS).map(([status, text]) => [
      status,
      text.replaceAll('`', ''),
    ]);
    const listed = statuses(pageCalled(PROGRAM));
    expect(listed).to.deep.equal(meanings);
    const used = Object.values(EXIT_STATUS).filter((status) => status !== EXIT_STATUS['read-only']);
    expect(listed.map(([status]) => Number(status))).to.include.members(used);
  });

  for (const file of commandPages) {
    it(`has statuses of the program, in their order: ${file}`, () => {
      const listed = statuses(pageCalled(file)).map(([status]) => Number(status));
      expect(listed.length).to.be.greaterThan(1);
      expect(listed).to.deep.equal(listed.toSorted((a, b) => a - b));
      expect(Object.keys(EXIT_MEANINGS).map(Number)).to.include.members(listed);
    });
  }

  it('is that of mount(8) for its helper', () => {
    const listed = statuses(pageCalled(MOUNT_HELPER)).map(([status]) => status);
    expect(listed).to.deep.equal(['0', '1', '2', '32']);
  });
});

describe('the words of -o in mount.fuse.qcow2fs(8)', () => {
  const parts = sectionOf(pageCalled(MOUNT_HELPER), 'OPTIONS')
    .join('\n')
    .split(/^\.Ss .*$/m);
  const [own, kernel, ignored, fuse] = parts.map((part) =>
    itemHeads(part.split('\n'), 'Cm').flatMap(wordForms),
  );
  /** Any value, any ending. */
  const isPattern = (word: string): boolean => /^(?:[xX]-|comment=|user=)/.test(word);
  const without = (flags: MountFlags): MountFlags => ({ ...flags, option: [] });

  it('are those that the program knows', () => {
    expect(own!.map((word) => word.replace(/=.*/, '='))).to.have.members([
      ...Object.keys(FLAG_WORDS),
      ...[...Object.keys(VALUE_WORDS), ...Object.keys(LIST_WORDS)].map((word) => `${word}=`),
    ]);
    expect(kernel).to.have.members([...Object.keys(MOUNT_FLAGS), ...Object.keys(UNDOING_WORDS)]);
    const plain = ignored!.filter((word) => !isPattern(word));
    expect(plain.filter((word) => !word.includes('='))).to.have.members(IGNORED_WORDS);
    const keys = plain.filter((word) => word.includes('=')).map((word) => word.replace(/=.*/, ''));
    expect(keys).to.have.members(IGNORED_KEYS);
    expect(fuse!.map((word) => word.replace(/=.*/, '='))).to.have.members([...FUSE_WORDS]);
  });

  it('mean nothing where the page says so', () => {
    expect(ignored!.filter(isPattern)).to.have.length(4);
    expect(without(applyOptionLists({ option: [ignored!.join(',')] }))).to.deep.equal({ option: [] });
  });

  it('name every option of mount', () => {
    const mount = program.commands.find((command) => command.name() === 'mount')!;
    const options = optionsOf(mount).map(({ long }) => long!.slice(2));
    expect(own!.map((word) => word.replace(/=.*/, ''))).to.include.members(
      options.filter((name) => !['option', 'help'].includes(name)),
    );
  });
});

describe('the EXAMPLES of a manual page', () => {
  const scripts = (page: ManPage): string[] => literalBlocks(sectionOf(page, 'EXAMPLES'));

  for (const page of pages.filter(({ file }) => [PROGRAM, ...commandPages].includes(file))) {
    it(`are commands that the program understands: ${page.file}`, async () => {
      const commands = scripts(page).flatMap((script) => commandsOf(script, 'qcow2fs'));
      const name = page.file.slice('qcow2fs-'.length, -2);
      expect(commands.map(([, command]) => command)).to.include(page.file === PROGRAM ? 'mount' : name);
      for (const [, ...words] of commands) await expectParsed(words);
    });
  }

  it('have words of -o that the program understands', () => {
    const lines = [MOUNT_HELPER, UNIT].flatMap((file) => scripts(pageCalled(file)).join('\n').split('\n'));
    const lists = lines.flatMap((line) => {
      const fstab = /^\S+ +\S+ +fuse\.qcow2fs +(\S+) 0 0$/.exec(line);
      return fstab?.[1] ?? /^(?:mount .* -o |OPTIONS=)?(ro\b\S*)/.exec(line)?.[1] ?? [];
    });
    for (const list of lists) parseAccess(applyOptionLists({ option: [list] }));
    expect(
      lists.flatMap((list) => list.split(',').map((word) => word.replace(/=.*/, ''))),
    ).to.include.members([
      'ro',
      'secret-file',
      'x-systemd.automount',
      'x-systemd.requires-mounts-for',
      'noauto',
      'user',
      'nofail',
    ]);
  });
});

describe('the ENVIRONMENT of qcow2fs(1)', () => {
  const sources = fs
    .readdirSync(path.join(ROOT, 'src'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => fs.readFileSync(path.join(ROOT, 'src', name), 'utf8'));
  const lines = sectionOf(pageCalled(PROGRAM), 'ENVIRONMENT');

  it('has every variable that the program reads', () => {
    const named = lines.flatMap((line) => (line.startsWith('.It Ev ') ? line.slice(7).split(' , ') : []));
    const read = sources.flatMap((source) => [
      ...[...source.matchAll(/process\.env\['(\w+)'\]/g)].map(([, name]) => name!),
      ...[...source.matchAll(/\{([^{}]*)\} = process\.env/g)].flatMap(([, names]) => names!.match(/\w+/g)!),
    ]);
    // Node's own.
    expect(named).to.include.members(read.filter((name) => name !== 'NODE_CHANNEL_FD'));
  });

  it('has every area of traces', () => {
    const areas = sources.flatMap((source) => [...source.matchAll(/createTrace\('([a-z]+)'\)/g)]);
    const named = lines.flatMap((line) => /^\.Ql qcow2fs:([a-z]+)/.exec(line)?.[1] ?? []);
    expect(named).to.deep.equal([...new Set(areas.map(([, area]) => area!))].sort());
  });
});
