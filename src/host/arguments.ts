/**
 * What a process is given by its caller, and gives to programs that it starts: arguments and a working directory, with
 * their bytes (`names.ts`). Node.js takes and gives UTF-8 only.
 */
import fs from '../fs.js';
import { encodeName, hasRawBytes, mayHaveLostBytes } from '../names.js';

/** Behind the program: the words of the command line. */
export function programArguments(): string[] {
  const words = process.argv.slice(2);
  if (process.platform !== 'linux' || !words.some(mayHaveLostBytes)) return words;
  const all = fs.readFileSync('/proc/self/cmdline', 'utf8').split('\0').slice(0, -1);
  return all.slice(all.length - words.length);
}

/** @throws a system error when it is gone */
export function workingDirectory(): string {
  const directory = process.cwd();
  if (process.platform !== 'linux' || !mayHaveLostBytes(directory)) return directory;
  return fs.readlinkSync('/proc/self/cwd');
}

/** Written to be read by printf(1) as %b, with something behind it: the shell takes newlines away at the end. */
// biome-ignore lint/suspicious/noTemplateCurlyInString: it is for a shell
const START = 'for word; do shift; word=$(printf %b_ "$word"); set -- "$@" "${word%_}"; done; exec "$@"';

/**
 * A program and its arguments as node:child_process takes them: where an argument has bytes that are not UTF-8, a shell
 * starts the program in its own place.
 */
export function commandLine(program: string, args: readonly string[]): readonly [string, readonly string[]] {
  if (!args.some(hasRawBytes)) return [program, args];
  return ['/bin/sh', ['-c', START, 'sh', ...[program, ...args].map(escapeForPrintf)]];
}

function escapeForPrintf(word: string): string {
  const escaped = (byte: number): string => `\\0${byte.toString(8).padStart(3, '0')}`;
  return [...encodeName(word)]
    .map((byte) => (byte < 0x80 && byte !== 0x5c ? String.fromCharCode(byte) : escaped(byte)))
    .join('');
}
