/** How the files of a chain are put together, where the tools alone cannot make the case. */

import fs from 'node:fs';
import { expect } from 'chai';
import type { Qcow2fsError } from '../../../src/errors.js';
import { openDisk } from '../../../src/qcow2/chain.js';
import { addExtension, EXTENSION, patchField, setFeatureBit } from '../../support/damage.js';
import { run } from '../../support/run.js';
import { useScratch } from '../../support/scratch.js';

const MIB = 1024 * 1024;

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
