/** What the tests of installing and packaging share: trees to compare, the package as it is built here, clones. */

import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { ROOT } from '../support/qcow2fs.js';
import { run } from '../support/run.js';
import { NOBODY } from '../support/users.js';

/** Any time but now: packages bear it. */
const BUILD_TIME = 1_700_000_000;

/** Everything below a directory: path, kind, mode and owner, and what is in it. Two equal trees have equal lists. */
export function treeOf(top: string, isIncluded: (name: string) => boolean = () => true): string[] {
  const entries: string[] = [];
  const visit = (name: string): void => {
    const place = path.join(top, name);
    const stat = fs.lstatSync(place);
    const who = `${(stat.mode & 0o7777).toString(8)} ${stat.uid}:${stat.gid}`;
    if (stat.isSymbolicLink()) entries.push(`${name} -> ${fs.readlinkSync(place)}`);
    else if (stat.isFile()) entries.push(`${name} ${who} ${digest(place)}`);
    else entries.push(`${name}${stat.isDirectory() ? '/' : ''} ${who}`);
    if (!stat.isDirectory()) return;
    for (const child of fs.readdirSync(place).sort()) {
      const inner = path.join(name, child);
      if (isIncluded(inner)) visit(inner);
    }
  };
  visit('.');
  return entries;
}

export function digest(file: string): string {
  return createHash('sha256').update(fs.readFileSync(file)).digest('hex');
}

/** Builds the Debian package of the program as it is built here. @returns its path */
export function buildPackage(out: string): string {
  const env = { ...process.env, SOURCE_DATE_EPOCH: String(BUILD_TIME) };
  return run(path.join(ROOT, 'contrib/debian/build'), [out], { env }).trim();
}

/** Files of the repository below a directory, as they lie now, those that no commit has yet among them. */
export function filesBelow(directory: string, pattern: RegExp): string[] {
  const top = path.join(ROOT, directory);
  if (!fs.existsSync(top)) return [];
  return fs
    .readdirSync(top)
    .filter((name) => pattern.test(name))
    .sort();
}

/**
 * A clone of the repository with all that this one has, committed or not, as one more commit.
 * @param place where it is made
 */
export function cloneHere(place: string): void {
  // The checkout may belong to another user.
  const trust = { GIT_CONFIG_COUNT: '1', GIT_CONFIG_KEY_0: 'safe.directory', GIT_CONFIG_VALUE_0: '*' };
  const env = { ...process.env, ...trust };
  const git = (args: readonly string[], cwd: string): string => run('git', args, { cwd, env });
  git(['clone', '--quiet', '--no-hardlinks', ROOT, place], ROOT);
  const names = git(['ls-files', '-z', '--cached', '--others', '--exclude-standard'], ROOT).split('\0');
  for (const name of names.filter((each) => each !== '' && each !== 'node_modules')) {
    const [from, to] = [path.join(ROOT, name), path.join(place, name)];
    fs.rmSync(to, { force: true });
    if (fs.existsSync(from)) fs.cpSync(from, to, { verbatimSymlinks: true });
  }
  git(['add', '--all'], place);
  if (git(['status', '--porcelain'], place) === '') return;
  const who = ['-c', 'user.name=test', '-c', 'user.email=test@localhost'];
  git([...who, 'commit', '--quiet', '--no-verify', '--message', 'what is not committed yet'], place);
}

/** Runs a program as an ordinary user whose home is `home`. */
export function runAsNobody(home: string, command: string, ...args: string[]): string {
  const who = [`--reuid=${NOBODY.uid}`, `--regid=${NOBODY.gid}`, '--clear-groups'];
  const env = {
    PATH: process.env['PATH'],
    HOME: home,
    NODE_EXTRA_CA_CERTS: process.env['NODE_EXTRA_CA_CERTS'],
  };
  return run('setpriv', [...who, command, ...args], { cwd: home, env });
}
