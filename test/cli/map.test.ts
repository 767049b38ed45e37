/** `qcow2fs map`: the picture, what is damaged, and the command line. */

import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { EXIT_STATUS } from '../../src/cli/exit-status.js';
import { openDisk } from '../../src/qcow2/chain.js';
import { patchL1, patchL2, readL2, truncateImage } from '../support/damage.js';
import {
  createImage,
  type Image,
  imagePath,
  KiB,
  MiB,
  takeSnapshot,
  writeSecret,
  writeSteps,
} from '../support/images.js';
import { expectInProcess, runInProcess } from '../support/in-process.js';
import { BIN, expectQcow2fs, type Outcome, qcow2fs } from '../support/qcow2fs.js';
import { comparableRuns, qemuMap } from '../support/qemu-map.js';
import { run } from '../support/run.js';
import { useScratch } from '../support/scratch.js';
import { elementsOf } from '../support/xml.js';
import { mixedImage } from './mixed-image.js';

const UTF8 = { ...process.env, LC_ALL: 'C.UTF-8' };
const ASCII = { ...process.env, LC_ALL: 'C' };
// biome-ignore lint/suspicious/noControlCharactersInRegex: this is what must not reach a terminal
const CONTROL = /[\x00-\x09\x0b-\x1f\x7f-\x9f]/;

interface Run {
  readonly start: number;
  readonly length: number;
  readonly data: boolean;
  readonly compressed: boolean;
  readonly shared: boolean;
  readonly problem?: string;
}

describe('qcow2fs map', () => {
  const scratch = useScratch();

  const mixed = (dir = scratch.subdir(), name?: string): Image => mixedImage(dir, name);
  const extents = async (args: readonly string[]): Promise<Run[]> =>
    JSON.parse(await expectInProcess(['map', '--json', ...args])).extents;
  const human = (args: readonly string[], env = UTF8): Promise<string> =>
    expectInProcess(['map', ...args], { env });

  it('draws what is where, a character for a cluster at least', async () => {
    const text = await human([imagePath(mixed())]);
    expect(text).to.match(/^disk size: +4 MiB \(4194304 bytes\)$/m);
    expect(text).to.match(/^cluster size: +64 KiB$/m);
    expect(text).to.contain(`0  ${'█'.repeat(16)}${'▒'.repeat(16)}${'░'.repeat(16)}${'·'.repeat(16)}\n`);
    for (const what of ['data', 'compressed data', 'zeros', 'nothing stored']) {
      expect(text).to.contain(`${what} 1 MiB (25%)`);
    }
    expect(text).to.not.contain('shared').and.not.contain('damaged');
  });

  it('draws in ASCII where the locale has nothing else', async () => {
    const text = await human([imagePath(mixed())], ASCII);
    expect(text).to.contain(`${'#'.repeat(16)}${'+'.repeat(16)}${'-'.repeat(16)}${'.'.repeat(16)}\n`);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: all of ASCII
    expect(text).to.match(/^[\x00-\x7f]*$/);
  });

  it('shows each layer in a strip of its own, and in a table what the disk shows of it', async () => {
    const dir = scratch.subdir();
    mixed(dir, 'base.qcow2');
    const spec = {
      name: 'top.qcow2',
      size: 4 * MiB,
      backing: { file: 'base.qcow2', format: 'qcow2' } as const,
    };
    const top = createImage(dir, spec);
    writeSteps(top, 2, [{ do: 'data', offset: 3 * MiB, length: MiB }]);
    const lines = (await human([imagePath(top)])).split('\n');
    const row = (start: string): string[] => lines.find((line) => line.startsWith(start))!.split(/ {2,}/);
    expect(row('LAYER')).to.deep.equal([
      'LAYER',
      'FILE',
      'FORMAT',
      'CLUSTER',
      'DATA',
      'COMPRESSED',
      'ZEROS',
      'OF DISK',
    ]);
    expect(row('0  ')).to.deep.equal(['0', 'top.qcow2', 'qcow2', '64 KiB', '1 MiB', '-', '-', '25%']);
    expect(row('1  ')).to.deep.equal([
      '1',
      'base.qcow2',
      'qcow2',
      '64 KiB',
      '1 MiB',
      '1 MiB',
      '1 MiB',
      '75%',
    ]);
    expect(lines.find((line) => line.startsWith('0 top'))).to.match(/^0 top.qcow2 +│ {40,}█{15,20}│$/);
    expect(lines.find((line) => line.startsWith('1 base'))).to.match(
      /^1 base.qcow2 │█{15,20}▒{15,20}░{15,20} {15,20}│$/,
    );
    expect(lines.some((line) => /^ +0 +512 KiB +1 MiB +1\.5 MiB +2 MiB .* 4 MiB$/.test(line))).to.equal(true);
  });

  it('marks clusters that a snapshot shares, until they are written again', async () => {
    const image = createImage(scratch.subdir(), { size: 2 * MiB });
    writeSteps(image, 1, [{ do: 'data', offset: 0, length: MiB }]);
    takeSnapshot(image, 'old', '1');
    writeSteps(image, 2, [{ do: 'data', offset: 0, length: 256 * KiB }]);
    const shared = (await extents([imagePath(image)])).filter((extent) => extent.shared);
    expect(shared.map(({ start, length }) => [start, length])).to.deep.equal([[256 * KiB, 768 * KiB]]);
    expect(await human([imagePath(image)])).to.contain(`${'█'.repeat(4)}${'▓'.repeat(12)}${'·'.repeat(16)}`);
    expect(await human(['--snapshot', 'old', imagePath(image)])).to.match(/^snapshot: +old$/m);
  });

  it('tells what is compressed', async () => {
    const runs = (await extents([imagePath(mixed())])).filter(({ compressed }) => compressed);
    expect(runs.map(({ start, length, data }) => [start, length, data])).to.deep.equal([[MiB, MiB, true]]);
  });

  it('needs no key', async () => {
    const secret = writeSecret(scratch.subdir(), 'secret');
    const encryption = ['encrypt.format=luks', 'encrypt.iter-time=10'];
    const image = createImage(scratch.subdir(), { size: MiB, secret, encryption });
    writeSteps(image, 1, [{ do: 'data', offset: 0, length: MiB / 2 }]);
    expect(await human([imagePath(image)])).to.contain('data 512 KiB (50%)');
  });

  it('fits the width of the terminal, and is coloured there unless NO_COLOR is set', () => {
    const image = imagePath(mixed());
    const onTerminal = (columns: number, env: NodeJS.ProcessEnv): string[] =>
      run('script', ['-qec', `stty cols ${columns}; ${BIN} map ${image}`, '/dev/null'], { env }).split(
        /\r?\n/,
      );
    const coloured = { ...UTF8, TERM: 'xterm', NO_COLOR: '' };
    expect(onTerminal(80, coloured).join('\n')).to.contain(`\x1b[32m${'█'.repeat(16)}\x1b[0m`);
    for (const columns of [40, 80, 120]) {
      const lines = onTerminal(columns, { ...coloured, NO_COLOR: '1' });
      expect(lines.join('\n')).to.not.match(CONTROL);
      const drawn = lines.filter((line) => line.includes('█') || line.startsWith('Each'));
      for (const line of drawn) expect(line.length, line).to.be.at.most(columns);
    }
  });

  it('prints no colours into a pipe', () => {
    expect(expectQcow2fs(['map', imagePath(mixed())], { env: UTF8 })).to.not.match(CONTROL);
  });

  it('does not let names write on the terminal or into the report', async () => {
    const dir = scratch.subdir();
    const image = imagePath(mixed(dir, 'e\x1b[31m\n<b>&\x9b.qcow2'));
    const text = await human([image]);
    expect(text).to.not.match(CONTROL);
    expect(text).to.contain('e\\u001b[31m\\u000a<b>&\\u009b.qcow2');
    await human(['--svg', path.join(dir, 'map.svg'), image]);
    const svg = fs.readFileSync(path.join(dir, 'map.svg'), 'utf8');
    expect(svg).to.not.match(CONTROL);
    expect(elementsOf(svg).find(({ name }) => name === 'title')?.text).to.equal(
      'Map of e\\u001b[31m\\u000a<b>&\\u009b.qcow2',
    );
  });

  describe('on a damaged image', () => {
    function damaged(clusters: number): string {
      const image = imagePath(mixed());
      for (let cluster = 0; cluster < clusters; cluster++) {
        patchL2(image, cluster * 64 * KiB, readL2(image, cluster * 64 * KiB) + 512n);
      }
      return image;
    }

    function expectDamaged(outcome: Outcome, warnings: number): Outcome {
      expect(outcome.status).to.equal(EXIT_STATUS.corrupt);
      const lines = outcome.stderr.trimEnd().split('\n');
      expect(lines.length).to.equal(warnings);
      for (const line of lines) expect(line).to.match(/^qcow2fs: /);
      return outcome;
    }

    it('tells the rest, marks what is damaged and ends with the status of damage', () => {
      const image = damaged(1);
      const { stdout, stderr } = expectDamaged(qcow2fs(['map', image], { env: UTF8 }), 1);
      expect(stdout).to.contain(`0  !${'█'.repeat(15)}${'▒'.repeat(16)}`);
      expect(stdout).to.contain('! damaged 64 KiB (1.6%)');
      expect(stderr).to.contain(`${image}: L2 entry 0 of table 0`).and.to.contain('not aligned');
    });

    it('--json and --output=json give the problem of each run, and count it as data', async () => {
      const image = damaged(2);
      for (const format of ['--json', '--output=json']) {
        const { stdout } = expectDamaged(await runInProcess(['map', format, image]), 2);
        const found = JSON.parse(stdout);
        const runs: Run[] = format === '--json' ? found.extents : found;
        const bad = runs.filter(({ problem }) => problem !== undefined);
        expect(bad.map(({ start, length, data }) => [start, length, data])).to.deep.equal([
          [0, 64 * KiB, true],
          [64 * KiB, 64 * KiB, true],
        ]);
        expect(bad[1]?.problem).to.contain('L2 entry 1 of table 0').and.to.contain('not aligned');
        if (format === '--json') expect(found.totals[0].damaged).to.equal(128 * KiB);
      }
    });

    it('says of a lot of damage how much it is', async () => {
      const { stderr } = expectDamaged(await runInProcess(['map', damaged(16)]), 11);
      expect(stderr).to.match(/\nqcow2fs: and 6 more runs are damaged\n$/);
    });

    it('takes an L2 table outside the file for damage of what it maps', async () => {
      const image = imagePath(mixed());
      patchL1(image, 0, (1n << 63n) | (1n << 40n));
      const { stdout, stderr } = expectDamaged(await runInProcess(['map', '--json', image]), 1);
      expect(JSON.parse(stdout).totals[0].damaged).to.equal(4 * MiB);
      expect(stderr)
        .to.contain('lies outside the file')
        .and.to.not.match(/image\.qcow2.*image\.qcow2/);
    });

    it('agrees with qemu-img map on a file that was cut off within its data', async () => {
      const dir = scratch.subdir();
      const preallocated = createImage(dir, { size: 2 * MiB, options: ['preallocation=metadata'] });
      writeSteps(preallocated, 1, [
        { do: 'data', offset: 256 * KiB, length: 64 * KiB },
        { do: 'data', offset: MiB, length: 512 * KiB },
      ]);
      truncateImage(imagePath(preallocated), 0x50000 + MiB + 100_000);
      const ours = comparableRuns(await expectInProcess(['map', '--output=json', imagePath(preallocated)]));
      expect(ours).to.deep.equal(comparableRuns(qemuMap(preallocated)));
      expect(ours.map(({ zero }) => zero)).to.deep.equal([true, false, true, false, true]);
    });
  });

  describe('with clusters set aside', () => {
    for (const bits of [1, 2, 4, 8, 16, 32, 64]) {
      it(`finds out that nobody wrote them, with ${bits}-bit refcounts`, async () => {
        const options = ['preallocation=metadata', `refcount_bits=${bits}`];
        const image = createImage(scratch.subdir(), { size: 8 * MiB, clusterSize: 4 * KiB, options });
        writeSteps(image, 1, [{ do: 'data', offset: MiB, length: 64 * KiB }]);
        const ours = comparableRuns(await expectInProcess(['map', '--output=json', imagePath(image)]));
        expect(ours).to.deep.equal(comparableRuns(qemuMap(image)));
        const written = ours.filter(({ zero }) => !zero);
        expect(written.reduce((sum, { length }) => sum + length, 0)).to.equal(64 * KiB);
      });
    }
  });

  describe('the command line', () => {
    let image: string;
    before(() => {
      image = imagePath(mixed());
    });

    for (const [title, args, status, words] of [
      ['--json with --output', ['--json', '--output', 'json', 'IMG'], 2, '--json and --output'],
      ['--json with --output human', ['--json', '--output=human', 'IMG'], 2, '--json and --output'],
      ['an unknown output', ['--output', 'xml', 'IMG'], 2, 'json or human'],
      ['--svg without a name', ['--svg=', 'IMG'], 2, '--svg'],
      ['an unknown option', ['--colour', 'IMG'], 2, '--colour'],
      ['no image', [], 2, 'IMAGE'],
      ['two images', ['IMG', 'IMG'], 2, 'arguments'],
      ['an unknown snapshot', ['--snapshot', 'none', 'IMG'], 8, 'the image has none'],
      ['a missing image', ['/nowhere/image.qcow2'], 3, '/nowhere/image.qcow2'],
      ['what is no image', ['/etc/passwd'], 4, '/etc/passwd'],
    ] as const) {
      it(`refuses ${title} in one line`, async () => {
        const outcome = await runInProcess(['map', ...args.map((word) => (word === 'IMG' ? image : word))]);
        expect(outcome.status).to.equal(status);
        expect(outcome.stdout).to.equal('');
        expect(outcome.stderr)
          .to.match(/^qcow2fs: [^\n]+\n$/)
          .and.to.contain(words);
      });
    }

    it('--output=human is what it prints without', async () => {
      expect(await human(['--output=human', image])).to.equal(await human([image]));
    });

    it('opens what the image names below --allow-dir alone', async () => {
      const bases = scratch.subdir();
      mixed(bases, 'base.qcow2');
      const file = path.join(bases, 'base.qcow2');
      const overlay = createImage(scratch.subdir(), { size: MiB, backing: { file, format: 'qcow2' } });
      expect((await runInProcess(['map', imagePath(overlay)])).status).to.equal(EXIT_STATUS['named-file']);
      expect(await human(['--allow-dir', bases, imagePath(overlay)])).to.contain('1 base.qcow2');
    });

    it('ends quietly when the reader has seen enough', () => {
      const dir = scratch.subdir();
      const fragmented = createImage(dir, { size: 4 * MiB, clusterSize: 512 });
      const offsets = Array.from({ length: 3000 }, (_, index) => index * 1024);
      writeSteps(
        fragmented,
        1,
        offsets.map((offset) => ({ do: 'zero' as const, offset, length: 512 })),
      );
      const script = `{ "$0" map --json "$1"; echo $? >status; } 2>errors | head -c 100 >/dev/null`;
      run('sh', ['-c', script, BIN, imagePath(fragmented)], { cwd: dir });
      expect(fs.readFileSync(path.join(dir, 'status'), 'utf8')).to.equal('141\n');
      expect(fs.readFileSync(path.join(dir, 'errors'), 'utf8')).to.equal('');
    });

    it('shows a disk without a byte', async () => {
      const empty = createImage(scratch.subdir(), { size: 0 });
      expect(await human([imagePath(empty)])).to.contain('0 bytes');
      expect(await extents([imagePath(empty)])).to.deep.equal([]);
      expect(await expectInProcess(['map', '--output', 'json', imagePath(empty)])).to.contain('"length": 0');
    });

    it('looks at an image that is being written with --force-share alone', async () => {
      const shared = imagePath(mixed());
      const writer = await openDisk(shared, { writable: true });
      try {
        expect((await runInProcess(['map', shared])).status).to.equal(EXIT_STATUS.locked);
        expect(await human(['--force-share', shared])).to.contain('compressed data 1 MiB');
      } finally {
        writer.close();
      }
    });
  });
});
