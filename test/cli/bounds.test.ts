/** Small images that claim a lot: what the commands make of them ends, and can be read. */

import fs from 'node:fs';
import { expect } from 'chai';
import { FileStorage, openFile } from '../../src/host/file-storage.js';
import { checkImage } from '../../src/qcow2/check/check.js';
import { Findings } from '../../src/qcow2/check/finding.js';
import { fileLength, patchBytes, patchField, patchNumber, readField } from '../support/damage.js';
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

  function nameTable(image: string, table: number, snapshots: number): void {
    addSnapshots(image, new Array<string>(snapshots).fill('x'));
    let entry = Number(readField(image, 'snapshotsOffset'));
    for (let index = 1; index <= snapshots; index++) {
      patchNumber(image, entry, 8, table);
      patchNumber(image, entry + 8, 4, 1024);
      entry += Math.ceil((56 + String(index).length + 1) / 8) * 8;
    }
  }

  it('has the table that all its snapshots name read a few times', async () => {
    const { image, table } = withTable(1024, () => BigInt(CLUSTER));
    nameTable(image, table, 200);
    let reads = 0;
    class Counting extends FileStorage {
      override read(target: Buffer, at: number, length: number, position: number): number {
        if (position === table) reads++;
        return super.read(target, at, length, position);
      }
    }
    const storage = new Counting(openFile(image, 'read-only'));
    await checkImage(storage, new Findings(), { readData: true });
    storage.close();
    expect(reads).to.be.below(20);
  });

  it('has the table that thousands of snapshots name checked a few times', async () => {
    const { image, table } = withTable(1024, () => 0n);
    nameTable(image, table, 2000);
    const { status, stdout } = await runInProcess(['check', '--json', image]);
    expect(status).to.equal(4);
    const { findings, kinds } = JSON.parse(stdout);
    expect(kinds['metadata-overlap']).to.equal(2000);
    const tables = findings.filter(({ kind }: { kind: string }) => kind === 'metadata-overlap');
    expect(tables[0].what).to.match(/overlaps the L1 table/);
    expect(tables.at(-1).what).to.match(/is one of too many for the file/);
  });
});
