/** What the pages say of the repository: files that there are, links that lead somewhere, directories and their imports. */

import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { ROOT } from '../support/qcow2fs.js';
import { sources } from '../support/sources.js';
import { headingsOf, linksOf } from './links.js';

const read = (name: string): string => fs.readFileSync(path.join(ROOT, name), 'utf8');
const pagesIn = (directory: string): string[] =>
  fs
    .readdirSync(path.join(ROOT, directory))
    .filter((name) => name.endsWith('.md'))
    .map((name) => path.join(directory, name));
const PAGES = [...pagesIn('.'), ...pagesIn('contrib/docs')];
const ARCHITECTURE = read('ARCHITECTURE.md');

/** What is named like a file or directory of the repository; compiled tests by their sources. */
function namedFiles(page: string): string[] {
  // The first cell of a row is looked at below.
  const text = page.replaceAll(/^\| `[\w/]+` \|/gm, '');
  const words = text.match(/(?<![\w/.-])(?:(?:dist\/)?(?:src|test)|contrib|bin)\/[\w./*-]*[\w*]/g) ?? [];
  return words.map((word) => word.replace(/^dist\/(.*)\.js$/, '$1.ts').replace(/^dist\//, ''));
}

/** Where a name ends in a pattern, its directory counts. */
function exists(name: string): boolean {
  const [plain] = name.split('*');
  return fs.existsSync(path.join(ROOT, plain === name ? name : path.dirname(`${plain}x`)));
}

/** The directories that have sources: `src/qcow2/format`, or `test/unit` without what is below it. */
function directoriesOf(top: string, depth: number): string[] {
  const files = fs.readdirSync(path.join(ROOT, top), { recursive: true, encoding: 'utf8' });
  const directories = files
    .filter((name) => name.endsWith('.ts'))
    .map((name) => path.dirname(name).split('/').slice(0, depth).join('/'));
  return [...new Set(directories)].map((directory) => path.join(top, directory)).sort();
}

/** Rows of the tables whose first cell is a directory: it, and its last cell. */
function rowsOf(top: string): ReadonlyMap<string, string> {
  const rows = [...ARCHITECTURE.matchAll(/^\| `([\w/]+)` \|.*?([^|]*) \|$/gm)];
  return new Map(
    rows.filter(([, name]) => name!.split('/')[0] === top).map(([, name, last]) => [name!, last!.trim()]),
  );
}

function testsBelow(): string[] {
  const names = fs.readdirSync(path.join(ROOT, 'test'), { recursive: true, encoding: 'utf8' });
  return names.filter((name) => name.endsWith('.test.ts')).map((name) => path.join('test', name));
}

/** A comment above a test quotes the sentence that the test checks: `PAGE.md: "SENTENCE"`. */
function quotesIn(source: string): { page: string; words: string }[] {
  const comments = source.replaceAll(/\n *\/\/ /g, ' ').matchAll(/ ([\w/-]+\.md): "([^"]+)"/g);
  return [...comments].map(([, page, words]) => ({ page: page!, words: words! }));
}

describe('the pages', () => {
  for (const page of PAGES) {
    // SECURITY.md: "Each promise names the test or the code that keeps it."
    it(`name files that exist, and link to such: ${page}`, () => {
      const text = read(page);
      const links = linksOf(text).map(({ file }) => path.join(path.dirname(page), file));
      expect([...links, ...namedFiles(text)].filter((name) => !exists(name))).to.deep.equal([]);
    });

    it(`link to headings that exist: ${page}`, () => {
      const missing = linksOf(read(page)).filter(({ file, heading }) => {
        if (heading === '') return false;
        return !headingsOf(read(path.join(path.dirname(page), file))).includes(heading);
      });
      expect(missing).to.deep.equal([]);
    });

    it(`name rules of the Makefile that exist: ${page}`, () => {
      const wanted = [...read(page).matchAll(/(?:`|^ {4,})make ([a-z]+)/gm)].map(([, rule]) => rule!);
      const rules = [...read('Makefile').matchAll(/^([a-z]+):/gm)].map(([, rule]) => rule!);
      expect(wanted.filter((rule) => !rules.includes(rule))).to.deep.equal([]);
    });
  }

  it('contain every sentence that a test quotes', () => {
    const quotes = testsBelow().flatMap((name) => quotesIn(read(name)).map((quote) => ({ name, ...quote })));
    const oneLine = (text: string): string => text.replaceAll(/\s+/g, ' ');
    expect(quotes.length).to.be.above(20);
    expect(quotes.filter(({ page, words }) => !oneLine(read(page)).includes(words))).to.deep.equal([]);
  });

  it('are looked at: files are found in them', () => {
    expect(PAGES).to.include.members(['README.md', 'CONTRIBUTING.md', 'SECURITY.md']);
    expect(namedFiles(ARCHITECTURE).length).to.be.above(50);
  });

  // ARCHITECTURE.md: "compares this page with the actual directories, files and imports."
  it('show every directory of the sources and of the tests', () => {
    expect([...rowsOf('src').keys()]).to.have.members(directoriesOf('src', 2));
    expect([...rowsOf('test').keys()]).to.have.members(directoriesOf('test', 1));
  });

  it('tell what each directory of the sources may import', () => {
    const rows = rowsOf('src');
    const strangers = sources.flatMap(({ name, imports }) => {
      const home = path.dirname(name);
      const allowed = rows.get(path.join('src', home)) ?? '';
      // Packages have no path from src/, and everybody may import what lies at its top.
      const others = imports.filter((wanted) => wanted.includes('/') && wanted.endsWith('.js'));
      const isAllowed = (wanted: string): boolean =>
        path.dirname(wanted) === home ||
        allowed === 'everything' ||
        allowed.includes(`\`${wanted.split('/')[0]}\``);
      return others.filter((wanted) => !isAllowed(wanted)).map((wanted) => `${name} imports ${wanted}`);
    });
    expect(strangers).to.deep.equal([]);
  });
});
