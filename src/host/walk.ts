/**
 * Follows a name a step at a time, and touches nothing outside of some roots: what lies there may hang, or notice.
 *
 * Above the roots a name is only text. Below, each step is made from a descriptor of the directory before (openat(2), by
 * way of /proc/self/fd), and never follows a link: the text of a link is a name again. openat2(2) with RESOLVE_BENEATH
 * would do the same for a name that stays below one root, and refuse links between roots and absolute ones.
 */

import path from 'node:path';
import fs from '../fs.js';

/** Linux: opens a place in the file system without touching what is there. */
export const O_PATH = process.platform === 'linux' ? 0o10000000 : 0;
const { O_DIRECTORY, O_NOFOLLOW } = fs.constants;
/** Where devices are. */
export const DEVICES = '/dev';
/** As many links as Linux follows in a path. */
const MAX_LINKS = 40;
/** statfs(2): f_type of /proc, where absolute links lead elsewhere than their text says. */
const PROC_SUPER_MAGIC = 0x9fa0;

/** A directory in which a name may lie. */
export interface Root {
  /** Symbolic links resolved. */
  readonly real: string;
  /** All absolute paths by which it is known, that one too: the links in the others are the user's. */
  readonly names: readonly string[];
}

/** `foreign`: it leads through a link of /proc, and so perhaps into the file systems of another process. */
export interface Refused {
  readonly refused: 'outside' | 'foreign';
  /** Where to, as far as that is known without looking. */
  readonly path: string;
}

export class Walk {
  readonly #roots: readonly Root[];
  /** Steps that are still to come. */
  #rest: string[];
  /** Of what is open, its path; of what is not, as far as the name has come above the roots. */
  #path = '/';
  /** Directories, from the root on, and what comes at the end; nothing above the roots. */
  #open: number[] = [];
  #links = 0;

  /** @param name absolute */
  constructor(name: string, roots: readonly Root[]) {
    this.#roots = roots;
    this.#rest = stepsOf(name);
  }

  /**
   * @returns a path that leads there and follows no link, valid until `close`
   * @throws a system error
   */
  end(): { readonly path: string } | Refused {
    this.#enter();
    while (this.#rest.length > 0) {
      const step = this.#rest.shift()!;
      if (step === '.') continue;
      const refused = this.#open.length > 0 ? this.#inside(step) : this.#above(step);
      if (refused !== undefined) return refused;
    }
    return this.#open.length > 0 ? { path: this.#here() } : { refused: 'outside', path: this.#path };
  }

  close(): void {
    for (const fd of this.#open) fs.closeSync(fd);
    this.#open = [];
  }

  #enter(): void {
    const root = this.#roots.find(({ names }) => names.includes(this.#path));
    if (root === undefined) return;
    this.#path = root.real;
    this.#open.push(fs.openSync(root.real, O_PATH));
  }

  #above(step: string): Refused | undefined {
    // Behind a link of an alias, `..` leads elsewhere.
    const isReal = this.#roots.some(({ real }) => isBelow(real, this.#path));
    if (step === '..' && !isReal)
      return { refused: 'outside', path: [this.#path, step, ...this.#rest].join('/') };
    this.#path = path.join(this.#path, step);
    this.#enter();
    const leadsOn = ({ names }: Root): boolean => names.some((name) => isBelow(name, this.#path));
    if (this.#open.length > 0 || this.#roots.some(leadsOn)) return undefined;
    return { refused: 'outside', path: path.join(this.#path, ...this.#rest) };
  }

  #inside(step: string): Refused | undefined {
    if (step === '..') {
      this.#leave();
      return undefined;
    }
    const at = `${this.#here()}/${step}`;
    const target = readLink(at);
    if (target === undefined) {
      // What has a step behind it is mounted first where it is an automount.
      this.#open.push(fs.openSync(at, O_PATH | O_NOFOLLOW | (this.#rest.length > 0 ? O_DIRECTORY : 0)));
      this.#path = path.join(this.#path, step);
      return undefined;
    }
    if (++this.#links > MAX_LINKS) {
      throw Object.assign(new Error('ELOOP: too many symbolic links encountered, open'), { code: 'ELOOP' });
    }
    if (path.isAbsolute(target)) {
      const isOfProc = fs.statfsSync(this.#here()).type === PROC_SUPER_MAGIC;
      if (isOfProc) return { refused: 'foreign', path: path.join(this.#path, step, ...this.#rest) };
      this.#restart(target);
    } else this.#rest.unshift(...stepsOf(target));
    return undefined;
  }

  /** To where it was entered from, and from the root to its directory. */
  #leave(): void {
    const parent = path.dirname(this.#path);
    if (this.#open.length === 1) {
      this.#restart(parent);
      return;
    }
    fs.closeSync(this.#open.pop()!);
    this.#path = parent;
  }

  #restart(name: string): void {
    this.close();
    this.#rest.unshift(...stepsOf(name));
    this.#path = '/';
    this.#enter();
  }

  /** Without O_PATH, paths must do, which may change. */
  #here(): string {
    return O_PATH === 0 ? this.#path : `/proc/self/fd/${this.#open.at(-1)}`;
  }
}

/** A slash at the end asks for a directory. */
function stepsOf(name: string): string[] {
  const steps = name.split('/').filter((step) => step !== '');
  return name.endsWith('/') ? [...steps, '.'] : steps;
}

function readLink(name: string): string | undefined {
  try {
    return fs.readlinkSync(name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EINVAL') return undefined;
    throw error;
  }
}

export function isBelow(name: string, directory: string): boolean {
  return name !== directory && name.startsWith(directory === '/' ? '/' : `${directory}/`);
}
