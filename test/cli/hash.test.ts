/** `qcow2fs hash`, beside what coreutils say of the same bytes. */

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { useCleanUp } from '../support/clean-up.js';
import { hostOffset, patchBytes, readBytes, truncateImage } from '../support/damage.js';
import {
  convertToRaw,
  createImage,
  type Image,
  imagePath,
  KiB,
  MiB,
  TiB,
  takeSnapshot,
  writeSecret,
  writeSteps,
} from '../support/images.js';
import { expectInProcess, runInProcess } from '../support/in-process.js';
import { BIN, qcow2fs } from '../support/qcow2fs.js';
import { run } from '../support/run.js';
import { useScratch } from '../support/scratch.js';
import { waitUntil } from '../support/wait.js';

/** The tool of coreutils for each algorithm. */
const TOOLS = {
  sha256: 'sha256sum',
  sha512: 'sha512sum',
  sha1: 'sha1sum',
  md5: 'md5sum',
  sha384: 'sha384sum',
  sha224: 'sha224sum',
  blake2b512: 'b2sum',
} as const;
const ALL = Object.keys(TOOLS) as (keyof typeof TOOLS)[];
/** Ends in the middle of whatever the disk is read in. */
const SIZE = 5 * MiB + 512;

const sum = (tool: string, file: string): string => run(tool, [file]).split(/[ \\]/)[0]!;
const hash = (...args: string[]): Promise<string> => expectInProcess(['hash', ...args]);

describe('qcow2fs hash', () => {
  const scratch = useScratch();
  const defer = useCleanUp();
  let image: Image;
  let file: string;
  let raw: string;

  before(() => {
    image = createImage(scratch.subdir(), { size: SIZE });
    writeSteps(image, 1, [
      { do: 'compressed', offset: 0, length: 256 * KiB },
      { do: 'data', offset: MiB + 64 * KiB, length: MiB },
      { do: 'data', offset: 5 * MiB, length: 512 },
    ]);
    file = imagePath(image);
    raw = convertToRaw(image);
  });

  /** The lines of `split -b | sha256sum` for the raw file. */
  function pieceLines(tool: string, size: number, source = raw): string[] {
    const total = fs.statSync(source).size;
    return Array.from({ length: Math.ceil(total / size) }, (_, i) => {
      const end = Math.min(total, (i + 1) * size) - 1;
      const script = `dd status=none bs=${size} skip=${i} count=1 if="$1" | ${tool}`;
      return `${run('sh', ['-c', script, 'sh', source]).split(' ')[0]}  disk.raw offset ${i * size}-${end}`;
    });
  }

  for (const algorithm of ALL) {
    it(`--algorithm ${algorithm} is that of ${TOOLS[algorithm]}`, async () => {
      const digest = sum(TOOLS[algorithm], raw);
      // 128 digits without a tag are those of sha512.
      const line = algorithm === 'blake2b512' ? `BLAKE2b (disk.raw) = ${digest}` : `${digest}  disk.raw`;
      expect(await hash('--algorithm', algorithm, file)).to.equal(`${line}\n`);
    });
  }

  it('makes several in one pass, with any number of threads, and each tool accepts its own', async () => {
    const dir = path.dirname(raw);
    const lines = run('sh', [
      '-c',
      `for tool in ${Object.values(TOOLS).join(' ')}; do $tool --tag ${raw}; done`,
    ]);
    for (const threads of ['1', '2', '5', '9']) {
      const output = await hash('--algorithm', ALL.join(','), '--threads', threads, '--name', raw, file);
      expect(output).to.equal(lines);
    }
    fs.writeFileSync(path.join(dir, 'sums'), await hash('--algorithm', ALL.join(','), '--name', raw, file));
    for (const tool of Object.values(TOOLS)) run(tool, ['-c', 'sums'], { cwd: dir });
  });

  it('prints nothing on standard error when all is well', async () => {
    expect((await runInProcess(['hash', file])).stderr).to.equal('');
    expect((await runInProcess(['hash', '--piecewise', '1M', file])).stderr).to.equal('');
  });

  it('--verify reads standard input', async () => {
    const input = await hash('--algorithm', 'md5,sha1', file);
    const { stdout, status } = spawnSync(BIN, ['hash', '--verify', '-', file], { input, encoding: 'utf8' });
    expect([stdout, status]).to.deep.equal(['disk.raw: OK\n', 0]);
  });

  for (const piece of [512 * KiB, MiB, 3 * MiB, 123 * 512, 512, 64 * MiB]) {
    it(`--piecewise ${piece} gives what dd and sha256sum give`, async () => {
      const source = piece === 512 ? small() : { file, raw };
      const lines = (await hash('--piecewise', String(piece), source.file)).trimEnd().split('\n');
      expect(lines).to.deep.equal(pieceLines('sha256sum', piece, source.raw));
    });
  }

  it('--piecewise gives pieces of zeros their own digest, the last and shorter one too', async () => {
    const zeros = createImage(scratch.subdir(), { size: 9 * MiB + 512 });
    writeSteps(zeros, 1, [{ do: 'data', offset: 2 * MiB, length: 64 * KiB }]);
    for (const piece of [64 * KiB, 2 * MiB, 4 * MiB]) {
      const lines = (await hash('--piecewise', String(piece), imagePath(zeros))).trimEnd().split('\n');
      expect(lines).to.deep.equal(pieceLines('sha256sum', piece, convertToRaw(zeros)));
    }
  });

  /** A disk of which a process for each sector is not too many. */
  function small(): { file: string; raw: string } {
    const other = createImage(scratch.subdir(), { size: 40 * 512 });
    writeSteps(other, 2, [{ do: 'data', offset: 512, length: 3 * KiB }]);
    return { file: imagePath(other), raw: convertToRaw(other) };
  }

  it('--algorithm may be given several times', async () => {
    const twice = await hash('--algorithm', 'md5', '--algorithm', 'sha1', file);
    expect(twice).to.equal(await hash('--algorithm', 'md5,sha1', file));
  });

  it('--piecewise with several algorithms tags its lines, and --verify accepts them', async () => {
    const output = await hash('--piecewise', '2M', '--algorithm', 'sha1,md5', file);
    const [sha1, md5] = ['sha1sum', 'md5sum'].map((tool) => pieceLines(tool, 2 * MiB));
    const tagged = (tag: string, line: string): string => {
      const [digest, name] = line.split('  ');
      return `${tag} (${name}) = ${digest}`;
    };
    const expected = sha1!.flatMap((line, i) => [tagged('SHA1', line), tagged('MD5', md5![i]!)]);
    expect(output.trimEnd().split('\n')).to.deep.equal(expected);
    fs.writeFileSync(scratch.path('tagged'), output);
    expect(await hash('--verify', scratch.path('tagged'), file)).to.equal('disk.raw: OK\n');
  });

  it('--verify finds a piece that differs in only one of several digests', async () => {
    const output = await hash('--piecewise', '4M', '--algorithm', 'sha1,md5', file);
    const wrong = output.replace(/^MD5 (.*) = \w+$/m, (_, name) => `MD5 ${name} = ${'0'.repeat(32)}`);
    fs.writeFileSync(scratch.path('wrong'), wrong);
    const { status, stdout } = await runInProcess(['hash', '--verify', scratch.path('wrong'), file]);
    expect(stdout).to.equal(`disk.raw offset 0-${4 * MiB - 1}: FAILED\ndisk.raw: FAILED\n`);
    expect(status).to.equal(14);
  });

  it('hashes a snapshot', async () => {
    const own = createImage(scratch.subdir(), { size: 2 * MiB });
    writeSteps(own, 1, [{ do: 'data', offset: 0, length: MiB }]);
    const { expected } = takeSnapshot(own, 'before', '1');
    writeSteps(own, 2, [{ do: 'data', offset: 512 * KiB, length: MiB }]);
    expect(await hash('--snapshot', 'before', imagePath(own))).to.equal(
      `${sum('sha256sum', expected)}  disk.raw\n`,
    );
    expect(await hash(imagePath(own))).not.to.contain(sum('sha256sum', expected));
    expect((await runInProcess(['hash', '--snapshot', 'never', imagePath(own)])).status).to.equal(8);
  });

  it('of a disk of 0 bytes is that of nothing', async () => {
    const empty = imagePath(createImage(scratch.subdir(), { size: 0 }));
    expect(await hash(empty)).to.equal(`${sum('sha256sum', '/dev/null')}  disk.raw\n`);
    expect(await runInProcess(['hash', '--piecewise', '1M', empty])).to.deep.equal({
      status: 0,
      stdout: '',
      stderr: '',
    });
  });

  it('finds a single bit that changed, and --piecewise names its piece', async () => {
    const sums = scratch.path('sums');
    const pieces = scratch.path('pieces');
    fs.writeFileSync(sums, await hash(file));
    fs.writeFileSync(pieces, await hash('--piecewise', '64K', file));
    const changed = path.join(scratch.subdir(), 'changed.qcow2');
    fs.copyFileSync(file, changed);
    const at = hostOffset(changed, MiB + 128 * KiB) + 1000;
    patchBytes(changed, at, Buffer.from([readBytes(changed, at, 1)[0]! ^ 4]));
    const whole = qcow2fs(['hash', '--verify', sums, changed]);
    expect([whole.status, whole.stdout]).to.deep.equal([14, 'disk.raw: FAILED\n']);
    const found = await runInProcess(['hash', '--verify', pieces, changed]);
    const [first, last] = [MiB + 128 * KiB, MiB + 192 * KiB - 1];
    expect(found.stdout).to.equal(`disk.raw offset ${first}-${last}: FAILED\ndisk.raw: FAILED\n`);
    expect(found.status).to.equal(14);
    expect((await runInProcess(['hash', '--verify', pieces, file])).status).to.equal(0);
  });

  it('finds that pieces cover another size than the disk has', async () => {
    const pieces = scratch.path('short');
    const lines = (await hash('--piecewise', '1M', file)).split('\n');
    fs.writeFileSync(pieces, lines.slice(0, 3).join('\n'));
    const { status, stdout, stderr } = await runInProcess(['hash', '--verify', pieces, file]);
    expect([status, stdout]).to.deep.equal([14, 'disk.raw: FAILED\n']);
    expect(stderr).to.contain(`covers ${3 * MiB} bytes, the disk has ${SIZE}`);
  });

  it('--json has exactly the fields of its schema', async () => {
    const schema = JSON.parse(fs.readFileSync('contrib/schema/hash-1.json', 'utf8'));
    const digest = sum('sha256sum', raw);
    const found = JSON.parse(await hash('--json', file));
    expect(Object.keys(found)).to.have.members(schema.required);
    expect(Object.keys(schema.properties)).to.have.members(schema.required);
    expect(found).to.include({ image: file, size: SIZE, pieceSize: null, pieces: null, verified: null });
    expect(found.digests).to.deep.equal({ sha256: digest });
    const pieces = JSON.parse(await hash('--json', '--piecewise', '4M', file));
    expect(pieces.pieces.map(({ offset, length }: Record<string, number>) => [offset, length])).to.deep.equal(
      [
        [0, 4 * MiB],
        [4 * MiB, SIZE - 4 * MiB],
      ],
    );
    fs.writeFileSync(scratch.path('wrong'), `${'0'.repeat(64)}  disk.raw\n`);
    const wrong = await runInProcess(['hash', '--json', '--verify', scratch.path('wrong'), file]);
    expect(wrong.status).to.equal(14);
    expect(JSON.parse(wrong.stdout).verified).to.deep.equal({
      file: scratch.path('wrong'),
      matches: false,
      differing: [{ offset: 0, length: SIZE }],
    });
  });

  it('tells that the image was cut off, and where, and reads as the reference does', async () => {
    const cut = createImage(scratch.subdir(), { size: 8 * MiB });
    writeSteps(cut, 1, [{ do: 'data', offset: 0, length: 8 * MiB }]);
    truncateImage(imagePath(cut), hostOffset(imagePath(cut), 3 * MiB));
    const reference = convertToRaw(cut);
    const { status, stdout, stderr } = await runInProcess(['hash', '--threads', '4', imagePath(cut)]);
    expect([status, stdout]).to.deep.equal([4, `${sum('sha256sum', reference)}  disk.raw\n`]);
    expect(
      stderr.split('\n').filter((line) => /ends at 0x[0-9a-f]+, .*was it cut off\?$/.test(line)),
    ).to.have.length(2);
    expect(stderr).to.contain('bytes 3145728-8388607 (5 MiB) cannot be read');
  });

  for (const [what, args, words] of [
    ['an unknown algorithm', ['--algorithm', 'sha256,crc32'], ['"crc32"', 'sha512']],
    ['no algorithm', ['--algorithm', ''], ['--algorithm']],
    ['pieces that are no sectors', ['--piecewise', '1000'], ['--piecewise', '512']],
    ['pieces of nothing', ['--piecewise', '0'], ['--piecewise']],
    ['pieces of words', ['--piecewise', 'some'], ['--piecewise']],
    ['a name of two lines', ['--name', 'a\nb'], ['--name']],
    ['a name with a backslash', ['--name', 'a\\b'], ['--name']],
    ['no threads', ['--threads', '0'], ['--threads']],
    ['--verify with --piecewise', ['--verify', 'x', '--piecewise', '1M'], ['leave out --piecewise']],
    ['--verify with --tag', ['--verify', 'x', '--tag'], ['leave out --tag']],
    ['digests that are none', ['--verify', '/proc/version'], ['/proc/version', 'line 1']],
    ['too many digests', ['--verify', '/dev/zero'], ['/dev/zero', 'digests?']],
    ['a secret that nobody wants', ['--secret-file', 'SECRET'], ['not encrypted']],
  ] as const) {
    it(`refuses ${what} in one line`, async () => {
      const secret = writeSecret(scratch.subdir(), 'x').file;
      const given = args.map((word) => (word === 'SECRET' ? secret : word));
      const { status, stdout, stderr } = await runInProcess(['hash', ...given, file]);
      expect(status).to.equal(what.startsWith('a secret') ? 7 : 2);
      expect(stdout).to.equal('');
      expect(stderr).to.match(/^qcow2fs: [^\n]+\n$/);
      for (const word of words) expect(stderr).to.contain(word);
    });
  }

  it('refuses digests that are not there, and pieces that no JSON object holds', async () => {
    const missing = await runInProcess(['hash', '--verify', scratch.path('missing'), file]);
    expect([missing.status, missing.stderr.split('\n').length]).to.deep.equal([3, 2]);
    const huge = imagePath(createImage(scratch.subdir(), { size: TiB }));
    const json = await runInProcess(['hash', '--json', '--piecewise', '512', huge]);
    expect([json.status, json.stderr.split('\n').length]).to.deep.equal([2, 2]);
  });

  it('shows a bar on a terminal, and takes it away', () => {
    const large = imagePath(createImage(scratch.subdir(), { size: 3 * 1024 * MiB }));
    const env = { ...process.env, TERM: 'xterm' };
    const output = run('script', ['-qec', `${BIN} hash ${large}`, '/dev/null'], { env });
    expect(output).to.match(/\[#*-+\] hashing {2}\d+ % {2}[\d.]+ \w+ of 3 GiB {2}[\d.]+ \w+\/s/);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: erases the line
    expect(output).to.match(/\r\x1b\[K[0-9a-f]{64} {2}disk\.raw\r\n$/);
  });

  describe('while it works', () => {
    /** A disk that takes minutes. The map is made when the work begins. */
    function start(...args: string[]): Promise<{ child: ChildProcess; map: string; said: () => string }> {
      return startBy(['node', path.resolve('dist/app/cli/main.js')], ...args);
    }

    async function startBy(
      [command, ...before]: readonly string[],
      ...args: string[]
    ): Promise<{ child: ChildProcess; map: string; said: () => string }> {
      const large = imagePath(createImage(scratch.subdir(), { size: TiB }));
      const map = path.join(scratch.subdir(), 'map');
      const child = spawn(command!, [...before, 'hash', '--error-map', map, ...args, large], {
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      defer(() => child.kill('SIGKILL'));
      let text = '';
      child.stderr!.setEncoding('utf8').on('data', (part: string) => {
        text += part;
      });
      child.stdout!.resume();
      await waitUntil('the work has begun', () => fs.existsSync(map));
      return { child, map, said: () => text };
    }

    /** Asks until something is done. */
    async function untilDone(child: ChildProcess, said: () => string): Promise<void> {
      await waitUntil('a part is done', () => {
        child.kill('SIGUSR1');
        return /[1-9][\d.]* [GM]iB of 1 TiB/.test(said());
      });
    }

    it('prints a line of status for SIGUSR1', async () => {
      const { child, said } = await start();
      await untilDone(child, said);
      expect(said().split('\n').filter(Boolean).at(-1)).to.match(
        /^qcow2fs: hashing, \d+ %, [\d.]+ \w+ of 1 TiB, [\d.]+ \w+\/s, [\d:]+ left$/,
      );
    });

    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
      it(`ends by ${signal}, and its map tells what was not tried`, async () => {
        const { child, map, said } = await start('--threads', '3');
        await untilDone(child, said);
        child.kill(signal);
        const [code, by] = await once(child, 'exit');
        expect([code, by]).to.deep.equal([null, signal]);
        const [status, read, rest] = fs
          .readFileSync(map, 'utf8')
          .split('\n')
          .filter((line) => /^0x/.test(line))
          .map((line) => line.split(/ +/));
        expect([status![1], read![2], rest![2]]).to.deep.equal(['?', '+', '?']);
        expect(Number(read![1])).to.be.above(0);
        expect(Number(read![1]) + Number(rest![1])).to.equal(TiB);
        expect(fs.readdirSync(path.dirname(map))).to.deep.equal(['map']);
        expect(said()).not.to.match(/Error|at /);
      });
    }

    it('is named to those who want to write the image meanwhile', async () => {
      const { child } = await start();
      const { status, stderr } = await runInProcess(['check', '--repair', 'leaks', child.spawnargs.at(-1)!]);
      expect(status).to.equal(12);
      expect(stderr).to.contain(
        `in use by qcow2fs hash (process ${child.pid}), which must not see it change; wait until that is done`,
      );
    });

    it('goes on without its terminal when nohup(1) calls it', async () => {
      const { child, said } = await startBy(['nohup', BIN]);
      await untilDone(child, said);
      child.kill('SIGHUP');
      const before = said().length;
      await waitUntil('it still answers', () => {
        expect(child.signalCode).to.equal(null);
        child.kill('SIGUSR1');
        return said().length > before;
      });
      child.kill('SIGTERM');
      expect((await once(child, 'exit'))[1]).to.equal('SIGTERM');
    });

    it('ends at once by SIGINT in the middle of pieces', async () => {
      const { child, said } = await start('--piecewise', '1G');
      await untilDone(child, said);
      child.kill('SIGINT');
      expect((await once(child, 'exit'))[1]).to.equal('SIGINT');
    });

    it('ends quietly when nobody reads what it prints', () => {
      const large = imagePath(createImage(scratch.subdir(), { size: TiB }));
      const script = `"$1" hash --piecewise 64K "$2" | head -n 1; echo "\${PIPESTATUS[0]}"`;
      const { stdout, stderr } = spawnSync('bash', ['-c', script, 'bash', BIN, large], { encoding: 'utf8' });
      expect(stderr).to.equal('');
      expect(stdout).to.match(/^[0-9a-f]{64} {2}disk\.raw offset 0-65535\n141\n$/);
    });
  });
});
