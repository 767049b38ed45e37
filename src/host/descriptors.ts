/**
 * Descriptors of this process, and those that it was started with, whatever for: locks of a script, pipes of a
 * pipeline.
 */
import fs from '../fs.js';

const FIRST = 3;

export interface Inherited {
  readonly fd: number;
  /** What /proc says that it is. */
  readonly target: string;
}

/**
 * To be called before the process opens any file of its own: what Node has by then are pipes with both ends, and
 * nothing that is a file or a socket. Linux only; elsewhere nothing is known.
 */
export function inheritedDescriptors(): readonly Inherited[] {
  const all: Inherited[] = [];
  for (const name of namesIn('/proc/self/fd')) {
    const fd = Number(name);
    const target = targetOf(fd);
    if (fd >= FIRST && target !== undefined) all.push({ fd, target });
  }
  const isAlone = (target: string): boolean => all.filter((other) => other.target === target).length === 1;
  return all.filter(({ target }) =>
    target.startsWith('pipe:') ? isAlone(target) : /^(\/|socket:)/.test(target),
  );
}

/** Whether this process has the descriptor open. */
export function isOpen(fd: number): boolean {
  return fs.existsSync(`/dev/fd/${fd}`);
}

/** Whether the path is one of those under which a process finds its own descriptors, as /dev/stdin, or a device. */
export function isDescriptorPath(file: string): boolean {
  return /^\/(dev|proc)\//.test(file);
}

/** Whether a path leads to what a process has open: /dev/fd/3, /dev/stdin, /proc/self/fd/3, /proc/1234/fd/3. */
export function isOpenFilePath(file: string): boolean {
  return /^(?:\/dev|\/proc\/[^/]+)\/(?:fd\/\d+|std(?:in|out|err))$/.test(file);
}

/** The descriptor of this process to which a path leads; undefined for any other path. */
export function descriptorOf(file: string): number | undefined {
  if (file === '/dev/stdin') return 0;
  const own = /^\/(?:dev|proc\/(?:self|thread-self))\/fd\/(\d+)$/.exec(file)?.[1];
  return own === undefined ? undefined : Number(own);
}

/**
 * The name of a file, where a path only leads to what a process has open: for people, and for tables that outlive the
 * process. The file may be gone, or out of reach: the kernel says so behind the name.
 */
export function nameOfOpenFile(file: string): string {
  if (!isOpenFilePath(file)) return file;
  try {
    // /dev/stdin is a link to another such path.
    const name = nameOfOpenFile(fs.readlinkSync(file));
    return name.startsWith('/') ? name : file;
  } catch {
    return file;
  }
}

/** As `nameOfOpenFile`, but only a name under which the file that is open as `fd` can be found. */
export function pathOfOpenFile(fd: number, file: string): string {
  const name = nameOfOpenFile(file);
  if (name === file) return file;
  try {
    const [open, named] = [fs.fstatSync(fd, { bigint: true }), fs.statSync(name, { bigint: true })];
    return open.dev === named.dev && open.ino === named.ino ? name : file;
  } catch {
    return file;
  }
}

/** Closes those that are what they were. What a file system has to say about that, as one whose daemon is dead, is the caller's. */
export function closeDescriptors(inherited: readonly Inherited[]): void {
  for (const { fd, target } of inherited) {
    if (targetOf(fd) !== target) continue;
    try {
      fs.closeSync(fd);
    } catch {
      // It is closed all the same (close(2)).
    }
  }
}

function namesIn(directory: string): string[] {
  try {
    return fs.readdirSync(directory);
  } catch {
    return [];
  }
}

/** Undefined for one that is not open, as that which listed them. */
function targetOf(fd: number): string | undefined {
  try {
    return fs.readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return undefined;
  }
}
