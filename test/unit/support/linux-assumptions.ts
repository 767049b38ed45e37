/** What in a source file works on Linux alone: found in its code and its literals, not in comments and messages. */
import { constants } from 'node:os';

/** Of code in which no text is left. */
const NAMES: readonly RegExp[] = [
  // Who asks for the platform assumes something about it.
  /\bprocess\.platform\b|\bprocess\[""\]|\bplatform\(\)|\{[^{}]*\bplatform\b[^{}]*\}\s*=\s*process\b/g,
  // open(2), fcntl(2), madvise(2), prctl(2), mount(2), umount2(2)
  /\bO_(?:NOATIME|PATH|TMPFILE|DIRECT|LARGEFILE)\b|\b(?:F_OFD|MADV|PR_SET|PR_GET|MS|MNT)_[A-Z]+\b/g,
  /\bfallocate\(|\b(?:prctl|umount2|cloneFuseDevice|inotify\w*|epoll\w*|memfd\w*|pidfd\w*|signalfd)\b/g,
  // An errno that is a number: its own system knows it (os.constants.errno).
  new RegExp(`\\b(?:${Object.keys(constants.errno).join('|')})\\s*[:=]\\s*-?\\d+`, 'g'),
];

/** Of a literal as a whole. What has blanks is a message. */
const TEXTS: readonly RegExp[] = [
  /^\/(?:proc|sys|run|dev)(?:[/|]\S*)?$/,
  /^(?:fusermount3?|losetup|findmnt|modprobe|udevadm|blockdev|lsblk|mountinfo|linux|freebsd|darwin)$/,
  // Modules of src/host that say so themselves.
  /-linux\.js$/,
];

const SUBSTITUTION = /\$\{[^{}]*\}/g;
/** Comments are matched first, so that what they quote is no literal; a regular expression stands where a value does. */
const COMMENT_OR_LITERAL =
  /\/\/[^\n]*|\/\*[\s\S]*?\*\/|"((?:\\.|[^"\\\n])*)"|'((?:\\.|[^'\\\n])*)'|`((?:\\.|[^`\\])*)`|(?<=[=(,:[!&|?{};]\s*|return\s+)\/((?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\[\n*])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\[\n])*)\/[a-z]*/g;

/** @returns what gives it away, in the order of the source */
export function linuxAssumptions(source: string): string[] {
  const texts: string[] = [];
  const names = source.replace(COMMENT_OR_LITERAL, (_, ...parts) => {
    const text = (parts.slice(0, 4) as (string | undefined)[]).find((part) => part !== undefined);
    if (text === undefined) return ' ';
    texts.push(text);
    // What a template puts in is code.
    const inner = parts[2] === undefined ? [] : [...text.matchAll(SUBSTITUTION)];
    return `""${inner.map(([code]) => `,${code.slice(2, -1)}`).join('')}`;
  });
  return [
    ...texts.filter((text) => TEXTS.some((pattern) => pattern.test(plain(text)))),
    ...NAMES.flatMap((pattern) => [...names.matchAll(pattern)].map(([found]) => found)),
  ];
}

/** A regular expression escapes slashes; a template puts in what is no part of the path. */
function plain(text: string): string {
  return text.replace(SUBSTITUTION, 'x').replaceAll(/[\\^(]/g, '');
}
