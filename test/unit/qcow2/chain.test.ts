/** How the files of a chain are put together, where the tools alone cannot make the case. */

import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import type { Qcow2fsError } from '../../../src/errors.js';
import { onNotice } from '../../../src/notice.js';
import { openDisk, openLayers } from '../../../src/qcow2/chain.js';
import { addExtension, EXTENSION, patchField, setFeatureBit } from '../../support/damage.js';
import { longChain } from '../../support/naming.js';
import { run } from '../../support/run.js';
import { useScratch } from '../../support/scratch.js';

const MIB = 1024 * 1024;
const GIB = 1024 * MIB;

describe('a chain of images', () => {
  const scratch = useScratch();
  const dir = scratch.subdir();
  const file = (name: string): string => `${dir}/${name}`;

  before(() => {
    fs.writeFileSync(file('base.raw'), Buffer.alloc(MIB, 0x22));
    run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', file('base.raw'), file('base.qcow2')]);
  });

  function overlay(name: string, backing: string, format: string): string {
    run('qemu-img', ['create', '-q', '-u', '-f', 'qcow2', '-b', backing, '-F', format, file(name), '1M']);
    return file(name);
  }

  async function firstBytes(image: string): Promise<Buffer> {
    const disk = await openDisk(image);
    const bytes = Buffer.alloc(512);
    disk.read(bytes, 0, 512, 0);
    disk.close();
    return bytes;
  }

  async function refusal(image: string): Promise<Qcow2fsError> {
    try {
      (await openDisk(image)).close();
    } catch (error) {
      return error as Qcow2fsError;
    }
    throw new Error('it was opened');
  }

  const json = (options: object): string => `json:${JSON.stringify(options)}`;

  /** Bytes of what the threads of a chain of this length share, each memory once. */
  function sharedBytes(depth: number): number {
    const image = longChain(scratch.subdir(), depth);
    for (const name of fs.readdirSync(path.dirname(image)).filter((name) => /^\d/.test(name))) {
      const layer = path.join(path.dirname(image), name);
      patchField(layer, 'size', 64 * GIB);
      patchField(layer, 'l1Size', 128);
      fs.truncateSync(layer, 4 * 64 * 1024);
    }
    const layers = openLayers(image);
    for (const { file } of layers) fs.closeSync(file.fd);
    const seen = new Set<SharedArrayBuffer>();
    const look = (value: unknown): void => {
      if (value instanceof SharedArrayBuffer) seen.add(value);
      else if (typeof value === 'object' && value !== null) Object.values(value).forEach(look);
    };
    look(layers);
    return [...seen].reduce((sum, { byteLength }) => sum + byteLength, 0);
  }

  it('takes as much memory for its caches when it is long as when it is short', () => {
    const short = sharedBytes(4);
    expect(short).to.be.above(30 * MIB);
    expect(sharedBytes(200)).to.be.below(short + 4 * MIB);
  });

  it('keeps apart what lies at the same place of its files', async () => {
    const step = (name: string, pattern: number, offset: string): string =>
      run('qemu-io', ['-c', `write -q -c -P ${pattern} ${offset} 64k`, file(name)]);
    run('qemu-img', ['create', '-q', '-f', 'qcow2', file('lower.qcow2'), '1M']);
    step('lower.qcow2', 7, '0');
    // So far above that the two share a cache.
    let below = 'lower.qcow2';
    for (let layer = 0; layer < 3; layer++)
      below = path.basename(overlay(`layer-${layer}.qcow2`, below, 'qcow2'));
    const image = overlay('upper.qcow2', below, 'qcow2');
    step('upper.qcow2', 8, '64k');
    const disk = await openDisk(image);
    const bytes = Buffer.alloc(512);
    for (const [offset, pattern] of [
      [512, 7],
      [65_536 + 512, 8],
    ] as const) {
      disk.read(bytes, 0, 512, offset);
      expect(bytes.equals(Buffer.alloc(512, pattern)), `at ${offset}`).to.equal(true);
    }
    disk.close();
  });

  it('believes the declared format more than the name', async () => {
    const name = json({ driver: 'qcow2', file: { driver: 'file', filename: file('base.qcow2') } });
    const bytes = await firstBytes(overlay('declared.qcow2', name, 'raw'));
    expect(bytes.subarray(0, 4).toString('latin1')).to.equal('QFI\xfb');
  });

  it('takes a part of a raw file only', async () => {
    const name = json({ driver: 'raw', offset: 512, file: { driver: 'file', filename: file('base.qcow2') } });
    const error = await refusal(overlay('part.qcow2', name, 'qcow2'));
    expect(error).to.include({ kind: 'named-file' });
    expect(error.message).to.contain('only raw files have parts');
  });

  it('reads what there is of an image whose archive was cut off, and says so in one line', async () => {
    const base = fs.readFileSync(file('base.qcow2'));
    const told: string[] = [];
    onNotice((message) => told.push(message));
    fs.writeFileSync(file('whole.ova'), Buffer.concat([Buffer.alloc(512), base, Buffer.alloc(512)]));
    fs.writeFileSync(file('cut.ova'), Buffer.concat([Buffer.alloc(512), base.subarray(0, -MIB / 2)]));
    for (const archive of ['whole', 'cut']) {
      const inner = { driver: 'file', filename: file(`${archive}.ova`) };
      const name = { driver: 'qcow2', file: { driver: 'raw', offset: 512, size: base.length, file: inner } };
      const bytes = await firstBytes(overlay(`on-${archive}.qcow2`, json(name), 'qcow2'));
      expect(bytes.equals(Buffer.alloc(512, 0x22))).to.equal(true);
      expect(told).to.have.length(archive === 'whole' ? 0 : 1);
    }
    onNotice(() => {});
    expect(told[0]).to.contain(`cut.ova: has ${base.length + 512 - MIB / 2} bytes`);
    expect(told[0]).to.contain(`ends at ${base.length + 512}; was it cut off?`);
  });

  it('reads what there is of a raw part that was cut off, and tells the rest from a hole', async () => {
    const told: unknown[] = [];
    onNotice((message, missing) => told.push([message.includes('cut off'), missing]));
    fs.writeFileSync(file('cut.raw'), Buffer.alloc(MIB / 2 + 700, 0x22));
    const inner = { driver: 'file', filename: file('cut.raw') };
    const name = json({ driver: 'raw', offset: 512, size: MIB, file: inner });
    const disk = await openDisk(overlay('on-raw.qcow2', name, 'raw'));
    const bytes = Buffer.alloc(MIB, 0xff);
    disk.read(bytes, 0, MIB, 0);
    const there = MIB / 2 + 188;
    expect(bytes.equals(Buffer.concat([Buffer.alloc(there, 0x22), Buffer.alloc(MIB - there)]))).to.equal(
      true,
    );
    const offset = MIB / 2 + 512;
    expect(told).to.deep.equal([[true, { offset, length: MIB - offset }]]);
    const runs: unknown[] = [];
    disk.scan(0, MIB, (run) => runs.push([run.offset, run.length, run.data]) > 0, { steps: 100 });
    expect(runs).to.deep.equal([
      [0, offset, true],
      [offset, MIB - offset, true],
    ]);
    disk.close();
    onNotice(() => {});
  });

  it('refuses a part of a disk that the disk does not have', async () => {
    const inner = { driver: 'qcow2', file: { driver: 'file', filename: file('base.qcow2') } };
    for (const part of [
      { offset: 2 * MIB },
      { size: 2 * MIB },
      { offset: 512, size: MIB },
      { offset: 100 },
    ]) {
      const error = await refusal(
        overlay('beyond.qcow2', json({ driver: 'raw', ...part, file: inner }), 'raw'),
      );
      expect(error).to.include({ kind: 'named-file' });
      expect(error.message).to.contain('base.qcow2').and.to.contain(`has ${MIB} bytes`);
    }
  });

  for (const [what, name] of [
    ['a part of a file', json({ driver: 'raw', offset: 65536, file: { filename: 'base.raw' } })],
    ['a qcow2 file', json({ driver: 'qcow2', file: { filename: 'base.qcow2' } })],
    ['the image itself', 'data.qcow2'],
  ] as const) {
    it(`refuses ${what} as a data file`, async () => {
      run('qemu-img', ['create', '-q', '-f', 'qcow2', file('data.qcow2'), '1M']);
      setFeatureBit(file('data.qcow2'), 'incompatibleFeatures', 2);
      addExtension(file('data.qcow2'), EXTENSION.dataFile, Buffer.from(name));
      expect(await refusal(file('data.qcow2'))).to.include({ kind: 'named-file' });
    });
  }

  it('refuses images whose L1 tables take more memory together than anybody needs', async () => {
    let below: string | undefined;
    for (let layer = 0; layer < 6; layer++) {
      const image = file(`l1-${layer}.qcow2`);
      const backing = below === undefined ? [] : ['-b', below, '-F', 'qcow2', '-u'];
      run('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', 'cluster_size=512', ...backing, image, '1M']);
      const entries = 4 * MIB;
      const table = Math.ceil(fs.statSync(image).size / 512) * 512;
      fs.truncateSync(image, table + entries * 8);
      patchField(image, 'l1TableOffset', table);
      patchField(image, 'l1Size', entries);
      patchField(image, 'size', entries * 64 * 512);
      below = image;
    }
    const error = await refusal(below!);
    expect(error).to.include({ kind: 'format' });
    expect(error.message).to.contain('L1 tables');
  });
});
