/** Small images that claim a lot: what the commands make of them ends, and can be read. */

import fs from 'node:fs';
import { expect } from 'chai';
import { fileLength, patchBytes, patchField, patchNumber } from '../support/damage.js';
import { addSnapshots } from '../support/directories.js';
import { createImage, imagePath, MiB } from '../support/images.js';
import { runInProcess } from '../support/in-process.js';
import { useScratch } from '../support/scratch.js';

const CLUSTER = 512;
/** Bytes that an L1 entry maps. */
const COVERAGE = 64 * CLUSTER;

describe('an image that claims a lot', () => {
  const scratch = useScratch();

  /** With an L1 table that is filled with one entry, behind everything else. @returns image and place of the table */
  function withTable(entries: number, entry: (end: number) => bigint): { image: string; table: number } {
    const image = imagePath(createImage(scratch.subdir(), { size: MiB, clusterSize: CLUSTER }));
    const table = Math.ceil(fileLength(image) / CLUSTER) * CLUSTER;
    const bytes = Buffer.alloc(entries * 8);
    for (let at = 0; at < bytes.length; at += 8) bytes.writeBigUInt64BE(entry(table + bytes.length), at);
    patchBytes(image, table, bytes);
    patchField(image, 'l1TableOffset', table);
    patchField(image, 'l1Size', entries);
    patchField(image, 'size', entries * COVERAGE);
    return { image, table };
  }

  it('has a few of its thousands of problems told', async () => {
    const { image } = withTable(4096, (end) => BigInt(end));
    fs.appendFileSync(image, Buffer.alloc(24));
    const { status, stderr } = await runInProcess(['map', image]);
    expect(status).to.equal(4);
    expect(stderr).to.include('there is more of this, which is not shown');
    expect(stderr.split('\n').length).to.be.below(100);
  });

  it('has the table that thousands of snapshots name checked a few times', async () => {
    const { image, table } = withTable(1024, () => 0n);
    addSnapshots(image, new Array(2000).fill('x'));
    let entry = Number(fs.readFileSync(image).readBigUInt64BE(64));
    for (let index = 0; index < 2000; index++) {
      patchNumber(image, entry, 8, table);
      patchNumber(image, entry + 8, 4, 1024);
      const tail = String(index + 1).length + 1;
      entry += Math.ceil((56 + tail) / 8) * 8;
    }
    const { status, stdout } = await runInProcess(['check', '--json', image]);
    expect(status).to.equal(4);
    const { findings, kinds } = JSON.parse(stdout);
    expect(kinds['metadata-overlap']).to.equal(2000);
    const tables = findings.filter(({ kind }: { kind: string }) => kind === 'metadata-overlap');
    expect(tables[0].what).to.match(/overlaps the L1 table/);
    expect(tables.at(-1).what).to.match(/is one of too many for the file/);
  });
});
