/** The options of `mount`, given as words of the command line or of mount(8)'s `-o` list. */
import { TRANSPORTS, type Transport } from '../daemon/config.js';
import { SECTOR_SIZES, type SectorSize } from '../daemon/sector-size.js';
import { Qcow2fsError } from '../errors.js';
import { isMountWord, type MountWord } from '../fuse/mount-words.js';
import { encodeName } from '../names.js';
import { BACKING_FORMATS, type BackingFormat } from '../qcow2/backing-file.js';
import { SECRET_FORMATS, type SecretFormat } from './secret.js';

export const MAX_THREADS = 64;
/** As the name of an overlay: one that is gone after unmounting. */
export const TEMPORARY_OVERLAY = 'temp';
const MAX_NAME_BYTES = 255;

/** As commander collects them. */
export interface MountFlags {
  readOnly?: boolean;
  secretFile?: string[];
  secretFormat?: string;
  maxIterations?: string;
  snapshot?: string;
  allowDir?: string[];
  backingFormat?: string;
  overlay?: string;
  resizable?: boolean;
  forceShare?: boolean;
  ignoreLocks?: boolean;
  errorMap?: string;
  allowOther?: boolean;
  mode?: string;
  loop?: boolean;
  sectorSize?: string;
  name?: string;
  threads?: string;
  transport?: string;
  log?: string;
  foreground?: boolean;
  option?: string[];
  /** User and group that the disk shows as its owners. */
  uid?: number;
  gid?: number;
  /** What mount tables show instead of the image. */
  source?: string;
  /** Mount over a directory that has files, and hide these. */
  nonEmpty?: boolean;
  /** What the kernel is to know of the mount: keys of `MOUNT_FLAGS`. */
  mountWords?: MountWord[];
}

/** Words that mount(8) and fstab pass along and that mean nothing here, or what is so anyway. */
export const IGNORED_WORDS = (
  'defaults rw dev nodev suid nosuid relatime norelatime strictatime nostrictatime lazytime nolazytime ' +
  'auto noauto user nouser users nousers owner noowner group nogroup nofail _netdev loud silent default_permissions ' +
  'mand nomand iversion noiversion symfollow nosymfollow ' +
  'auto_unmount big_writes large_read kernel_cache auto_cache noauto_cache async_read sync_read atomic_o_trunc ' +
  'no_remote_lock no_remote_flock no_remote_posix_lock intr hard_remove use_ino readdir_ino noforget'
).split(' ');
/** Words of FUSE with a value, which tune what is tuned here already, or repeat what mount tables show. */
export const IGNORED_KEYS = (
  'subtype max_read max_write max_readahead max_background congestion_threshold blksize ' +
  'attr_timeout ac_attr_timeout entry_timeout negative_timeout intr_signal dmask user_id group_id rootmode'
).split(' ');
/** Words of other FUSE file systems that are no options of the command line; `=` where they take a value. */
export const FUSE_WORDS = ['nonempty', 'allow_root', 'fsname=', 'uid=', 'gid=', 'umask=', 'fmask='] as const;
/** Words that take one of the mount's back, which the kernel is told otherwise. */
export const UNDOING_WORDS: Readonly<Record<string, readonly MountWord[]>> = {
  exec: ['noexec'],
  async: ['sync', 'dirsync'],
  atime: ['noatime'],
  diratime: ['nodiratime'],
};
/** Words of `-o` and what they set: flags, values, and values that can be repeated. */
export const FLAG_WORDS = {
  ro: 'readOnly',
  'read-only': 'readOnly',
  resizable: 'resizable',
  'force-share': 'forceShare',
  'ignore-locks': 'ignoreLocks',
  'allow-other': 'allowOther',
  loop: 'loop',
  foreground: 'foreground',
} as const;
export const VALUE_WORDS = {
  'secret-format': 'secretFormat',
  'max-iterations': 'maxIterations',
  'backing-format': 'backingFormat',
  snapshot: 'snapshot',
  overlay: 'overlay',
  mode: 'mode',
  'sector-size': 'sectorSize',
  name: 'name',
  threads: 'threads',
  transport: 'transport',
  log: 'log',
  'error-map': 'errorMap',
} as const;
export const LIST_WORDS = {
  'allow-dir': 'allowDir',
  'secret-file': 'secretFile',
} as const;

function usage(message: string): Qcow2fsError {
  return new Qcow2fsError('usage', message);
}

/** Splits at commas, unless a backslash protects them or the value is in double quotes (mount(8)). */
function splitList(list: string): string[] {
  const words = list.match(/[^,=]*="[^"]*"(?=,|$)|(?:\\,|[^,])+/g) ?? [];
  return words.map((word) => word.replace(/="([^"]*)"$/, '=$1').replaceAll('\\,', ','));
}

/** Adds the words of all `-o` lists to the flags. @throws Qcow2fsError `usage` */
export function applyOptionLists(flags: MountFlags): MountFlags {
  const merged: MountFlags = { ...flags };
  for (const word of (flags.option ?? []).flatMap(splitList)) applyWord(merged, word);
  return merged;
}

function applyWord(flags: MountFlags, word: string): void {
  if (word === '' || IGNORED_WORDS.includes(word) || /^(x-|X-|comment=|user=)/.test(word)) return;
  if (IGNORED_KEYS.some((key) => word.startsWith(`${key}=`))) return;
  if (applyMountWord(flags, word) || applyFuseWord(flags, word)) return;
  const equals = word.indexOf('=');
  const key = (equals === -1 ? word : word.slice(0, equals)).replaceAll('_', '-');
  const value = equals === -1 ? undefined : word.slice(equals + 1);
  if (Object.hasOwn(FLAG_WORDS, key)) {
    if (value !== undefined) throw usage(`-o ${word}: ${key} takes no value`);
    flags[FLAG_WORDS[key as keyof typeof FLAG_WORDS]] = true;
  } else if (Object.hasOwn(VALUE_WORDS, key) || Object.hasOwn(LIST_WORDS, key)) {
    if (value === undefined || value === '') throw usage(`-o ${word}: ${key} needs a value: ${key}=VALUE`);
    if (Object.hasOwn(LIST_WORDS, key)) {
      const list = LIST_WORDS[key as keyof typeof LIST_WORDS];
      flags[list] = [...(flags[list] ?? []), value];
    } else flags[VALUE_WORDS[key as keyof typeof VALUE_WORDS]] = value;
  } else {
    throw usage(`-o ${word}: unknown option; see qcow2fs mount --help, or mount.fuse.qcow2fs(8)`);
  }
}

/** Of words that contradict each other the last one counts. @returns false when it is none of them */
function applyMountWord(flags: MountFlags, word: string): boolean {
  if (word === 'remount') {
    throw usage('-o remount: a disk cannot change while it is mounted; unmount it, and mount it again');
  }
  const words = flags.mountWords ?? [];
  if (isMountWord(word)) flags.mountWords = [...words.filter((other) => other !== word), word];
  else if (Object.hasOwn(UNDOING_WORDS, word)) {
    flags.mountWords = words.filter((other) => !UNDOING_WORDS[word]!.includes(other));
  } else return false;
  return true;
}

/** @returns false when it is none of `FUSE_WORDS` */
function applyFuseWord(flags: MountFlags, word: string): boolean {
  const equals = word.indexOf('=');
  const known = FUSE_WORDS.find((one) => one === (equals === -1 ? word : word.slice(0, equals + 1)));
  const value = word.slice(equals + 1);
  switch (known) {
    case undefined:
      return false;
    case 'nonempty':
      flags.nonEmpty = true;
      break;
    case 'allow_root':
      // Root is let in where root mounts.
      if (process.getuid?.() !== 0)
        throw usage('-o allow_root: FUSE lets in everybody (allow_other) or nobody else');
      break;
    case 'fsname=':
      if (value === '') throw usage(`-o ${word}: a name is needed`);
      flags.source = value;
      break;
    case 'uid=':
    case 'gid=':
      flags[known === 'uid=' ? 'uid' : 'gid'] = parseId(word, value);
      break;
    case 'umask=':
    case 'fmask=':
      if (!/^[0-7]{1,4}$/.test(value)) throw usage(`-o ${word}: permissions in octal are needed, as 022`);
      flags.mode = (0o666 & ~Number.parseInt(value, 8)).toString(8).padStart(4, '0');
  }
  return true;
}

const MAX_ID = 0xffff_fffe;

function parseId(word: string, value: string): number {
  const id = Number(value);
  if (/^\d+$/.test(value) && id <= MAX_ID) return id;
  throw usage(`-o ${word}: a number is needed, as id(1) prints it`);
}

export type Access = 'reading' | 'writing' | 'overlay';

/** @throws Qcow2fsError `usage` for options that contradict each other */
export function parseAccess(flags: MountFlags): Access {
  const { readOnly, snapshot, overlay, resizable, forceShare, ignoreLocks, errorMap, backingFormat } = flags;
  if (overlay !== undefined) {
    if (readOnly) throw usage('--overlay takes writes: leave out -r, or leave out --overlay');
    if (snapshot !== undefined) throw usage('--overlay stands on the disk itself: leave out --snapshot');
  }
  const writes = !readOnly && snapshot === undefined;
  if (resizable && !writes) throw usage('--resizable: a disk that is read-only cannot grow');
  if (forceShare && writes) throw usage('--force-share is for reading alone: add -r');
  if (ignoreLocks && writes) throw usage('--ignore-locks is for reading only: add -r');
  if (errorMap !== undefined && writes) throw usage('--error-map is for reading alone: add -r');
  if (backingFormat !== undefined && writes && overlay === undefined) {
    throw usage(
      '--backing-format is for reading: add -r or --overlay, or declare the format: qemu-img rebase -u -F FORMAT -b NAME IMAGE',
    );
  }
  if (!writes) return 'reading';
  return overlay === undefined ? 'writing' : 'overlay';
}

export function parseThreads(text: string): number {
  const threads = Number(text);
  if (!/^\d+$/.test(text) || threads < 1 || threads > MAX_THREADS) {
    throw usage(`--threads ${text}: a number from 1 to ${MAX_THREADS} is needed`);
  }
  return threads;
}

export function parseIterations(text: string): number {
  const iterations = Number(text);
  if (!/^\d+$/.test(text) || iterations < 1 || !Number.isSafeInteger(iterations)) {
    throw usage(`--max-iterations ${text}: a whole number from 1 is needed`);
  }
  return iterations;
}

export function parseTransport(text: string): Transport {
  const transport = TRANSPORTS.find((known) => known === text);
  if (transport === undefined) throw usage(`--transport ${text}: ${TRANSPORTS.join(' or ')} is needed`);
  return transport;
}

export function parseSectorSize({ sectorSize, loop }: MountFlags): SectorSize | undefined {
  if (sectorSize === undefined) return undefined;
  const size = SECTOR_SIZES.find((known) => String(known) === sectorSize);
  if (size === undefined) throw usage(`--sector-size ${sectorSize}: ${SECTOR_SIZES.join(' or ')} is needed`);
  if (!loop) {
    throw usage(
      '--sector-size is for the loop device of --loop; for the file, tell the tool: fdisk -b, mmls -b',
    );
  }
  return size;
}

export function parseSecretFormat(text: string): SecretFormat {
  const format = SECRET_FORMATS.find((known) => known === text);
  if (format === undefined) throw usage(`--secret-format ${text}: ${SECRET_FORMATS.join(' or ')} is needed`);
  return format;
}

export function parseBackingFormat(text: string): BackingFormat {
  const format = BACKING_FORMATS.find((known) => known === text);
  if (format === undefined)
    throw usage(`--backing-format ${text}: ${BACKING_FORMATS.join(' or ')} is needed`);
  return format;
}

export function parseFileName(text: string): string {
  const valid = text !== '' && text !== '.' && text !== '..' && !/[/\0]/.test(text);
  if (!valid || encodeName(text).length > MAX_NAME_BYTES) {
    throw usage(`--name ${text}: a file name without "/" of at most ${MAX_NAME_BYTES} bytes is needed`);
  }
  return text;
}

/** Permission bits of a file. @throws Qcow2fsError `usage` */
export function parseMode(text: string): number {
  const mode = Number.parseInt(text, 8);
  if (/^0?[0-7]{3}$/.test(text) && (mode & 0o400) !== 0 && (mode & 0o111) === 0) return mode;
  throw usage(
    `--mode ${text}: permissions in octal that let the owner read and nobody execute are needed, as 0640`,
  );
}
