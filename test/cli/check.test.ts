/** `qcow2fs check` as people and scripts use it; what it finds is the business of test/check. */

import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import {
  l2EntryOffset,
  patchBytes,
  patchL2,
  patchNumber,
  readL2,
  readNumber,
  setFeatureBit,
  snapshotEntryOffset,
  truncateImage,
} from '../support/damage.js';
import { addBitmaps } from '../support/directories.js';
import { createImage, GiB, type Image, imagePath, KiB, MiB, qemuImg, writeSteps } from '../support/images.js';
import { runInProcess } from '../support/in-process.js';
import { overlayWithFormat } from '../support/naming.js';
import { BIN, type Outcome, qcow2fs } from '../support/qcow2fs.js';
import { run } from '../support/run.js';
import { useScratch } from '../support/scratch.js';

const RESERVED = 1n << 58n;

describe('qcow2fs check on the command line', () => {
  const scratch = useScratch();

  function makeImage(dir = scratch.subdir(), name = 'image.qcow2'): Image {
    const image = createImage(dir, { name, size: MiB });
    writeSteps(image, 1, [{ do: 'data', offset: 0, length: 256 * KiB }]);
    return image;
  }
  const damage = (image: Image): void => patchL2(imagePath(image), 0, readL2(imagePath(image), 0) | RESERVED);
  /** A cluster that the refcounts know and nothing else. */
  const leak = (image: Image): void => {
    const table = Number(readNumber(imagePath(image), 48, 8));
    const end = Math.ceil(fs.statSync(imagePath(image)).size / (64 * KiB));
    patchBytes(imagePath(image), end * 64 * KiB, Buffer.alloc(64 * KiB));
    patchNumber(imagePath(image), Number(readNumber(imagePath(image), table, 8)) + 2 * end, 2, 1);
  };
  const check = (image: Image, ...args: string[]): Promise<Outcome> =>
    runInProcess(['check', ...args, imagePath(image)]);

  it('says that an image is sound, and nothing on standard error', async () => {
    const { status, stdout, stderr } = await check(makeImage());
    expect({ status, stderr }).to.deep.equal({ status: 0, stderr: '' });
    expect(stdout).to.match(/^4 of 16 clusters allocated \(25 %\), .*\n.*image\.qcow2: sound\n$/);
  });

  it('names long names by their beginning, for what is found may be found of each', async () => {
    const image = makeImage();
    addBitmaps(imagePath(image), new Array(300).fill('n'.repeat(60_000)));
    const { status, stdout } = await check(image, '--json');
    expect(status).to.equal(4);
    const { findings } = JSON.parse(stdout) as { findings: { what: string }[] };
    expect(findings.map(({ what }) => what)).to.include(`two bitmaps have the name ${'n'.repeat(100)}...`);
    expect(stdout.length).to.be.below(MiB);
  });

  it('ends with 13 for leaks, 4 for corruption, and 0 when all is repaired', async () => {
    const image = makeImage();
    leak(image);
    expect(qcow2fs(['check', imagePath(image)])).to.include({ status: 13, stderr: '' });
    damage(image);
    const found = await check(image);
    expect(found.status).to.equal(4);
    expect(found.stdout).to.include('1 corruption, 1 leaked cluster');
    expect(found.stdout).to.match(/L2 table at 0x40000, entry 0 \(disk offset 0x0\): reserved bits are set/);
    expect(found.stdout).to.include('to mend it: qcow2fs check --repair all');
    const leaks = await check(image, '--repair', 'leaks');
    expect(leaks.status).to.equal(4);
    expect(leaks.stdout).to.include('repaired: 1 leaked cluster\n');
    const all = await check(image, '--repair', 'all');
    expect(all.status).to.equal(0);
    expect(all.stdout).to.include('repaired: 1 corruption\n');
    expect((await check(image, '--repair', 'all')).stdout).to.include('nothing to repair');
  });

  it('refuses to repair what it does not understand, in one line, and changes nothing', async () => {
    const image = makeImage();
    patchNumber(
      imagePath(image),
      Number(readNumber(imagePath(image), 40, 8)),
      8,
      (1n << 63n) | 0x7f_0000_0000n,
    );
    const before = fs.readFileSync(imagePath(image));
    const { status, stdout } = await check(image, '--repair', 'all');
    expect(status).to.equal(4);
    expect(stdout).to.match(/^not repaired: .*a table is lost.*$/m);
    expect(fs.readFileSync(imagePath(image)).equals(before)).to.equal(true);
  });

  it('finds compressed clusters that do not inflate with --read-data, and not without', async () => {
    const image = createImage(scratch.subdir(), { size: MiB });
    writeSteps(image, 1, [{ do: 'compressed', offset: 0, length: 128 * KiB }]);
    const start = Number(readL2(imagePath(image), 0) & 0xffff_ffffn);
    patchBytes(imagePath(image), start, Buffer.alloc(64, 0xff));
    expect((await check(image)).status).to.equal(0);
    const { status, stdout } = await check(image, '--read-data');
    expect(status).to.equal(4);
    expect(stdout).to.match(
      /entry 0 \(disk offset 0x0\): the compressed cluster at 0x[0-9a-f]+ does not inflate/,
    );
  });

  it('finds with --read-data also what only a snapshot has', async () => {
    const image = createImage(scratch.subdir(), { size: MiB });
    writeSteps(image, 1, [{ do: 'compressed', offset: 0, length: 64 * KiB }]);
    const start = Number(readL2(imagePath(image), 0) & 0xffff_ffffn);
    qemuImg(image.dir, ['snapshot', '-c', 'old', image.name]);
    writeSteps(image, 2, [{ do: 'data', offset: 0, length: 64 * KiB }]);
    expect((await check(image, '--read-data')).status).to.equal(0);
    patchBytes(imagePath(image), start, Buffer.alloc(64, 0xff));
    const { status, stdout } = await check(image, '--read-data');
    expect(status).to.equal(4);
    expect(stdout).to.match(/the compressed cluster at 0x[0-9a-f]+ does not inflate/);
  });

  it('says that two snapshots have one ID', async () => {
    const image = makeImage();
    for (const name of ['first', 'second']) qemuImg(image.dir, ['snapshot', '-c', name, image.name]);
    const path = imagePath(image);
    expect((await check(image)).stdout).to.include('image.qcow2: sound\n');
    // The ID comes behind the extra data.
    const [first, second] = [0, 1].map((index) => {
      const entry = snapshotEntryOffset(path, index);
      return entry + 40 + Number(readNumber(path, entry + 36, 4));
    });
    patchNumber(path, second!, 1, readNumber(path, first!, 1));
    const { status, stdout } = await check(image);
    expect(status).to.equal(0);
    expect(stdout).to.include('snapshot 1 (second): another snapshot has the same ID');
  });

  describe('of a chain', () => {
    function makeChain(): { base: Image; top: Image } {
      const dir = scratch.subdir();
      const base = makeImage(dir, 'base.qcow2');
      return { base, top: createImage(dir, { size: MiB, backing: { file: 'base.qcow2', format: 'qcow2' } }) };
    }

    it('looks into backing files with --chain alone, and never repairs them', async () => {
      const { base, top } = makeChain();
      damage(base);
      const before = fs.readFileSync(imagePath(base));
      expect((await check(top)).status).to.equal(0);
      const { status, stdout } = await check(top, '--chain', '--repair', 'all');
      expect(status).to.equal(4);
      expect(stdout).to.include('base.qcow2: 4 of 16 clusters allocated');
      expect(fs.readFileSync(imagePath(base)).equals(before)).to.equal(true);
    });

    it('says which file is damaged, and proposes what mends that one', async () => {
      const { base, top } = makeChain();
      damage(base);
      leak(top);
      const { status, stdout } = await check(top, '--chain');
      expect(status).to.equal(4);
      const [own, below] = stdout.split(`${imagePath(base)}, on which it stands:\n`);
      expect(own).to.include(`--repair leaks ${imagePath(top)}\n`);
      expect(below)
        .to.include('[reserved-bits]')
        .and.include(`--repair all ${imagePath(base)}\n`);
      expect((await runInProcess(['check', '--repair', 'all', imagePath(base)])).status).to.equal(0);
      expect((await check(top, '--chain')).status).to.equal(13);
    });

    it('ends with 6 where a backing file is missing or not allowed', async () => {
      const { base, top } = makeChain();
      fs.rmSync(imagePath(base));
      expect(await check(top)).to.include({ status: 6, stderr: '' });
      const elsewhere = imagePath(makeImage());
      qemuImg(top.dir, ['rebase', '-u', '-F', 'qcow2', '-b', elsewhere, top.name]);
      const refused = await check(top);
      expect(refused.status).to.equal(6);
      expect(refused.stdout).to.include('--allow-dir');
      expect((await check(top, '--allow-dir', path.dirname(elsewhere))).status).to.equal(0);
    });

    it('ends with 6 where a backing file has a format that is not supported', async () => {
      const dir = scratch.subdir();
      fs.writeFileSync(path.join(dir, 'base.vmdk'), Buffer.alloc(MiB));
      const { status, stdout } = await runInProcess(['check', overlayWithFormat(dir, 'base.vmdk', 'vmdk')]);
      expect(status).to.equal(6);
      expect(stdout).to.include('has the format vmdk; only qcow2 and raw are supported');
    });

    it('warns of a data file that is shorter than the disk', async () => {
      const image = createImage(scratch.subdir(), { size: MiB, options: ['data_file=image.data'] });
      writeSteps(image, 1, [{ do: 'data', offset: 0, length: MiB }]);
      truncateImage(path.join(image.dir, 'image.data'), 512 * KiB);
      const { status, stdout } = await check(image);
      expect(status).to.equal(0);
      expect(stdout).to.include('524288 bytes; the disk has 1048576');
    });
  });

  it('refuses in one line what cannot be checked', async () => {
    const image = imagePath(makeImage());
    const text = scratch.path('text');
    fs.writeFileSync(text, 'no image');
    const cases: [string[], number, RegExp][] = [
      [['check'], 2, /IMAGE/],
      [['check', '--repair', 'some', image], 2, /--repair.*leaks, all/],
      [['check', '--repair', image], 2, /--repair.*leaks, all/],
      [['check', ''], 2, /empty/],
      [['check', '--repair', 'all', '--force-share', image], 2, /--force-share/],
      [['check', '--repair', 'all', '--ignore-locks', image], 2, /--ignore-locks/],
      [['check', '--reapir', 'all', image], 2, /--reapir.*Did you mean --repair/],
      [['check', scratch.path('missing')], 3, /ENOENT/],
      [['check', text], 4, /not a qcow2 image/],
      [['chekc', image], 2, /Did you mean check/],
    ];
    for (const [args, status, words] of cases) {
      const outcome = await runInProcess(args);
      expect(outcome.status, args.join(' ')).to.equal(status);
      expect(outcome.stdout).to.equal('');
      expect(outcome.stderr)
        .to.match(/^qcow2fs: [^\n]+\n$/)
        .and.match(words);
    }
  });

  it('tells many findings completely through a pipe, and lets no kind crowd out another', async () => {
    const image = createImage(scratch.subdir(), { size: 8 * MiB, clusterSize: 512 });
    writeSteps(image, 1, [{ do: 'data', offset: 0, length: 4 * MiB }]);
    const path = imagePath(image);
    for (let at = 0; at < 4 * MiB; at += 1024) patchL2(path, at, readL2(path, at) | RESERVED);
    const table = Number(readNumber(path, 48, 8));
    const block = Number(readNumber(path, table, 8));
    for (let cluster = 100; cluster < 250; cluster += 2) patchNumber(path, block + 2 * cluster, 2, 7);
    // A reader that does not hurry: the pipe is full before it looks.
    const slow = `${BIN} check --json ${path} | (read -r first; cat)`;
    const rest = run('sh', ['-c', slow]);
    const report = JSON.parse(`{${rest}`) as {
      kinds: Record<string, number>;
      findings: { kind: string }[];
      omitted: number;
    };
    expect(rest.length).to.be.above(128 * KiB);
    expect(report.kinds['reserved-bits']).to.equal(4096);
    expect(report.kinds['leak']).to.be.above(50);
    expect(report.findings.filter(({ kind }) => kind === 'reserved-bits')).to.have.length(1000);
    expect(report.omitted).to.be.at.least(3096);
    expect(report.findings.some(({ kind }) => kind === 'leak')).to.equal(true);
    const shown = (await check(image)).stdout;
    expect(shown).to.match(/bits that must be zero are set \(4096\)/);
    expect(shown).to.include('and more; --json lists 1000 of them');
  });

  it('says that an image is marked sound by a repair', async () => {
    const image = makeImage();
    setFeatureBit(imagePath(image), 'incompatibleFeatures', 1);
    expect((await check(image)).stdout).to.include('sound, but 1 warning');
    expect((await check(image, '--repair', 'leaks')).stdout).to.include('nothing to repair');
    expect((await check(image)).stdout).to.include('sound, but 1 warning');
    expect((await check(image, '--repair', 'all')).stdout).to.include('repaired: the image is marked sound');
    expect((await check(image)).stdout).not.to.include('warning');
  });

  it('leaves the mark of an image in which something corrupt remains', async () => {
    const image = makeImage();
    setFeatureBit(imagePath(image), 'incompatibleFeatures', 1);
    damage(image);
    patchL2(imagePath(image), 64 * KiB, (1n << 63n) | (1n << 40n));
    const { status, stdout } = await check(image, '--repair', 'all');
    expect(status).to.equal(4);
    expect(stdout)
      .to.include('repaired: ')
      .and.to.include('marked corrupt')
      .and.not.to.include('marked sound');
    expect(readNumber(imagePath(image), 72, 8)).to.equal(2n);
  });

  it('does not let names write on the terminal', async () => {
    const image = makeImage();
    qemuImg(image.dir, ['snapshot', '-c', 'red \u001b[31m\nname', image.name]);
    const at = Number(readNumber(imagePath(image), 64, 8));
    patchNumber(imagePath(image), at, 8, readNumber(imagePath(image), at, 8) + 512n);
    const { stdout } = await check(image);
    expect(stdout).not.to.include('\u001b');
  });

  it('colours its words on a terminal alone, and heeds NO_COLOR', () => {
    const image = makeImage();
    damage(image);
    const inColour = (env: NodeJS.ProcessEnv): string =>
      run('script', ['-qec', `${BIN} check ${imagePath(image)} || true`, '/dev/null'], {
        env: { ...process.env, TERM: 'xterm', ...env },
      });
    expect(qcow2fs(['check', imagePath(image)]).stdout).not.to.include('\u001b');
    expect(inColour({ NO_COLOR: '' })).to.include('\u001b[31mcorruption\u001b[0m');
    expect(inColour({ NO_COLOR: '1' })).not.to.include('\u001b[31m');
  });

  /** A disk whose metadata take a while. */
  function makeLarge(size: number): string {
    const dir = scratch.subdir();
    const options = ['-q', '-f', 'qcow2', '-o', 'preallocation=metadata'];
    qemuImg(dir, ['create', ...options, 'large.qcow2', String(size)]);
    return path.join(dir, 'large.qcow2');
  }

  /**
   * Runs the program on a terminal of its own.
   * @param answers signals to send when something shows, one after the other
   * @returns how it ended, as a shell shows it
   */
  async function onTerminal(
    args: readonly string[],
    answers: readonly (readonly [shown: RegExp, signal: NodeJS.Signals])[],
  ): Promise<{ status: number | null; output: string; left: number }> {
    // Its own shell tells the process that it becomes.
    const command = `echo pid $$; exec ${BIN} ${args.join(' ')}`;
    const child = spawn('script', ['-qefc', command, '/dev/null'], {
      env: { ...process.env, TERM: 'xterm' },
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const waiting = [...answers];
    let output = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text;
      if (!waiting[0]?.[0].test(output)) return;
      process.kill(Number(/pid (\d+)/.exec(output)![1]), waiting.shift()![1]);
    });
    const status = await new Promise<number | null>((resolve) => child.on('exit', resolve));
    return { status, output, left: waiting.length };
  }

  it('shows a bar on a terminal, a line for SIGUSR1, and ends at once for SIGINT', async () => {
    const image = makeLarge(1024 * GiB);
    const before = fs.statSync(image);
    const { status, output, left } = await onTerminal(
      ['check', image],
      [
        [/\[[#-]{16}\] [a-z ]+ {2}\d+ %/, 'SIGUSR1'],
        [/qcow2fs: [a-z ]+, \d+ %[^\n]*\n/, 'SIGINT'],
      ],
    );
    expect(left, output).to.equal(0);
    expect(status, output).to.equal(130);
    // The bar is gone.
    expect(output).not.to.match(/\[[^\n\r]*$/);
    expect(fs.statSync(image).mtimeMs).to.equal(before.mtimeMs);
  });

  it('ends a repair for SIGINT where it does no harm', async () => {
    const image = makeLarge(256 * GiB);
    const entry = l2EntryOffset(image, 0);
    patchNumber(image, entry, 8, readNumber(image, entry, 8) | RESERVED);
    const { status, output } = await onTerminal(['check', '--repair', 'all', image], [[/\[[#-]/, 'SIGINT']]);
    expect(status, output).to.equal(130);
    // Interrupted while it was looking: as it was; a moment later: repaired.
    expect([0, 2]).to.include(Number(run('sh', ['-c', `qemu-img check -q ${image} >&2; echo $?`])));
  });
});
