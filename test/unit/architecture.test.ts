import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { ROOT } from '../support/qcow2fs.js';
import { type Source, sources } from '../support/sources.js';
import { linuxAssumptions } from './support/linux-assumptions.js';

const MAX_LINES = 400;
/** These speak to the kernel of Linux, and are not used where there is another one. */
const KERNEL_TRANSPORT = [
  'daemon/kernel-session.ts',
  'fuse/device.ts',
  'fuse/dispatch.ts',
  'fuse/mount-linux.ts',
  'fuse/protocol.ts',
  'fuse/serve.ts',
];

const below = (...directories: string[]): Source[] =>
  sources.filter(({ name }) => directories.some((directory) => name.startsWith(`${directory}/`)));

function offenders(among: readonly Source[], forbidden: (wanted: string) => boolean): string[] {
  return among.flatMap(({ name, imports }) =>
    imports.filter(forbidden).map((wanted) => `${name} imports ${wanted}`),
  );
}

// biome-ignore-start lint/suspicious/noTemplateCurlyInString: they are source
const PLANTED = [
  'const stat = read(`/proc/${pid}/stat`);',
  "const mounts = read('/proc/self/mountinfo');",
  "write('/sys/fs/fuse/connections/1/abort', '1');",
  'const device = "/dev/fuse";',
  "const directory = '/run/qcow2fs';",
  'const isOpen = exists(`/dev/fd/${fd}`);',
  'if (/^\\/(dev|proc)\\//.test(file)) warn();',
  'export const text = `a ${`${read(`/proc/uptime`)}`}`;',
  "run('fusermount3', ['-u', mountpoint]);",
  "run('losetup', ['--detach', device]);",
  'if (process.platform !== name) leave();',
  'const isLinux = os.platform() === name;',
  'const { arch, platform } = process;',
  'const fd = open(file, O_RDONLY | O_NOATIME);',
  'const O_PATH = 0o10000000;',
  'const { O_TMPFILE } = constants;',
  'fallocate(fd, 3, offset, length);',
  'unmount(place, MNT_DETACH);',
  'const Errno = { ENOSYS: 38 };',
  'const EOPNOTSUPP = 95;',
  "import { linuxMounts } from '../host/mounts-linux.js';\nlinuxMounts();",
];

const HARMLESS = [
  '/** As /proc/self/mountinfo has it; O_NOATIME, process.platform */\nconst a = 1; // /dev/fuse, fallocate',
  "fail('/dev/fuse is missing: load the kernel module first: modprobe fuse');",
  "fail(`cannot keep the mount's state below /run or /tmp: ${reason}`);",
  "say('a URL: https://example.org/proc/self'); const other = 'https://example.org/run';",
  "const half = size / 2; const third = size / 3; const name = 'a/proc/b';",
  "if (code === 'ENOSYS') giveUp(); const number = Errno.ENOSYS;",
  'interface Host { process: { platform: string } }',
];
// biome-ignore-end lint/suspicious/noTemplateCurlyInString: they are source

describe('the architecture', () => {
  it('is looked at: the sources and their imports are found', () => {
    expect(sources.length).to.be.above(30);
    expect(offenders(sources, (wanted) => wanted === 'node:fs')).not.to.deep.equal([]);
    expect(offenders(sources, (wanted) => wanted === 'koffi')).not.to.deep.equal([]);
  });

  it('has every module of src/host in what a port would need', () => {
    const text = fs.readFileSync(path.join(ROOT, 'contrib/docs/transports.md'), 'utf8');
    const table = text.slice(text.indexOf('| module of `src/host`'));
    const missing = below('host').filter(({ name }) => !table.includes(`\`${path.basename(name)}\``));
    expect(missing.map(({ name }) => name)).to.deep.equal([]);
  });

  // ARCHITECTURE.md: "A mount is not its path"
  it('lets nothing act on a mounted disk by its path', () => {
    const allowed: readonly (readonly [call: RegExp, files: readonly string[]])[] = [
      [/int umount2\(/, ['host/libc.ts']],
      [/\bunmountDirectly\(|libc\.unmount\(/, ['host/mounts-linux.ts']],
      [/\blibc\.mount\(/, ['fuse/mount-linux.ts']],
      [/\brunHelper\(/, ['fuse/mount-linux.ts', 'host/mounts-linux.ts']],
      [/\b(?:setSize|setModificationTime)\(/, ['daemon/kernel-inode.ts', 'host/disk-programs.ts']],
      [/\btryOpen\(/, ['daemon/session.ts', 'host/disk-programs.ts']],
      [/\b(?:l?utimes|futimes)(?:Sync)?\(/, []],
      [/\bfs\.(?:promises\.truncate|truncateSync)\(/, []],
    ];
    const found = allowed.flatMap(([call, files]) =>
      sources
        .filter(({ name, text }) => call.test(text) && !files.includes(name))
        .map(({ name }) => `${name}: ${call}`),
    );
    expect(found).to.deep.equal([]);
    for (const [call, files] of allowed) {
      for (const file of files) expect(sources.find(({ name }) => name === file)?.text).to.match(call);
    }
  });

  it('lets only src/host import koffi', () => {
    const others = sources.filter(({ name }) => !name.startsWith('host/'));
    expect(offenders(others, (wanted) => wanted === 'koffi')).to.deep.equal([]);
  });

  it('lets only src/fs.ts import node:fs, which loses names that are not UTF-8', () => {
    const others = sources.filter(({ name }) => name !== 'fs.ts');
    expect(offenders(others, (wanted) => /^(node:)?fs(\/|$)/.test(wanted))).to.deep.equal([]);
    const callers = sources
      .filter(({ text }) => /process\.(argv\b|cwd\(\))/.test(text))
      .map(({ name }) => name);
    // It moves when the directory is gone, whatever its name.
    expect(callers.sort()).to.deep.equal(['cli/paths.ts', 'host/arguments.ts']);
  });

  it('keeps I/O out of the formats and the cryptography', () => {
    const pure = below('qcow2/format', 'crypto', 'luks');
    const io = /^(node:)?(fs|child_process|net|http|worker_threads)\b|^host\//;
    // The ciphers themselves, and WebAssembly of our own, which lies beside its module.
    const code = [
      'crypto/block-cipher.ts imports host/nettle.js',
      'crypto/block-cipher.ts imports host/openssl.js',
      'crypto/work-area.ts imports fs.js',
    ];
    expect(offenders(pure, (wanted) => io.test(wanted)).sort()).to.deep.equal(code);
  });

  it('lets the engine know nothing of FUSE, the command line and the daemon', () => {
    const engine = below('qcow2', 'luks', 'crypto');
    expect(offenders(engine, (wanted) => /^(fuse|cli|daemon)\//.test(wanted))).to.deep.equal([]);
  });

  it('changes an image in few places: the tables that commit writes, the mover of data, and the rooms for it', () => {
    const rooms = ['qcow2/writing/', 'qcow2/repair/'];
    const known = ['qcow2/cluster-data.ts', 'qcow2/entry-table.ts', 'qcow2/metadata.ts'];
    const writing = below('qcow2').filter(({ text }) =>
      /\b#?(storage|image)\.(write|zero|punch|truncate)\(/.test(text),
    );
    expect(writing.length).to.be.above(8);
    const others = writing.filter(({ name }) => !rooms.some((room) => name.startsWith(room)));
    expect(others.map(({ name }) => name).sort()).to.deep.equal(known);
  });

  describe('beyond src/host and the kernel transport', () => {
    it('assumes nothing that only Linux has', () => {
      const names = sources.map(({ name }) => name);
      expect(names).to.include.members(KERNEL_TRANSPORT);
      const others = sources.filter(
        ({ name }) => !name.startsWith('host/') && !KERNEL_TRANSPORT.includes(name),
      );
      const found: string[] = [];
      for (const { name, text } of others) {
        for (const what of linuxAssumptions(text)) found.push(`${name}: ${what}`);
      }
      expect(found).to.deep.equal([]);
    });

    it('would be caught at each of these', () => {
      const known = sources.find(({ name }) => name === 'fuse/mount-linux.ts')!;
      expect(linuxAssumptions(known.text)).to.include('/dev/fuse');
      for (const planted of PLANTED) {
        expect(linuxAssumptions(planted), planted).to.have.lengthOf(1);
      }
    });

    it('may talk and write of it', () => {
      for (const harmless of HARMLESS) expect(linuxAssumptions(harmless), harmless).to.deep.equal([]);
    });
  });

  it(`has no source file of more than ${MAX_LINES} lines`, () => {
    const long = sources.filter(({ text }) => text.trimEnd().split('\n').length > MAX_LINES);
    expect(long.map(({ name }) => name)).to.deep.equal([]);
  });

  it('gives every structure a name of its own', () => {
    const names = sources.flatMap(({ text }) =>
      [...text.matchAll(/\bstruct\('([^']+)'/g)].map(([, name]) => name!),
    );
    expect(names.length).to.be.above(20);
    expect(names.filter((name, index) => names.indexOf(name) !== index)).to.deep.equal([]);
  });
});
