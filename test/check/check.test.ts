/** `check` beside `qemu-img check`: sound images of all kinds, and damage of many kinds, before and after a repair. */

import { cpSync, readFileSync } from 'node:fs';
import { expect } from 'chai';
import type { CheckReport } from '../../src/qcow2/check/check-file.js';
import type { RepairLevel } from '../../src/qcow2/repair/repair.js';
import { check, kindsOf } from '../support/check-request.js';
import { convertToRaw, type Image, imagePath } from '../support/images.js';
import { qemuCheck } from '../support/qemu-check.js';
import { useScratch } from '../support/scratch.js';
import type { Base } from './bases.js';
import { TRIED } from './damage.js';

const checked = (image: Image, repair?: RepairLevel): Promise<CheckReport> => check(imagePath(image), repair);

describe('qcow2fs check, beside qemu-img check', () => {
  const scratch = useScratch();
  const bases = new Map<Base, { readonly image: Image; readonly content: Buffer }>();

  function baseOf(base: Base): { readonly image: Image; readonly content: Buffer } {
    let made = bases.get(base);
    if (made === undefined) {
      const image = base(scratch.subdir());
      made = { image, content: readFileSync(convertToRaw(image)) };
      bases.set(base, made);
    }
    return made;
  }

  function copyOf({ dir, ...image }: Image): Image {
    const copy = scratch.subdir();
    cpSync(dir, copy, { recursive: true });
    return { dir: copy, ...image };
  }

  for (const [name, { base, damage, kinds, repair, reference: differs }] of TRIED) {
    describe(name, () => {
      let image: Image;
      let content: Buffer;
      before(() => {
        const sound = baseOf(base);
        content = sound.content;
        image = copyOf(sound.image);
        damage(imagePath(image));
      });

      it('is found, and nothing is changed', async () => {
        const bytes = readFileSync(imagePath(image));
        const report = await checked(image);
        expect(kindsOf(report)).to.include.members(kinds);
        expect(readFileSync(imagePath(image)).equals(bytes)).to.equal(true);
        const reference = qemuCheck(image);
        expect(reference.status === 0, reference.output).to.equal(differs === 'silent');
        if (reference.corruptions > 0 || reference.status === 1) {
          expect(report.totals.corruption, reference.output).to.be.above(0);
        } else {
          expect(report.totals.leak, reference.output).to.equal(reference.leaks);
          if (differs === undefined) expect(report.totals.corruption).to.equal(0);
        }
      });

      it(`is ${repair === 'remains' ? 'told, and left alone' : 'repaired'} by --repair all`, async () => {
        const damaged = readFileSync(imagePath(image));
        const mended = copyOf(image);
        const before = kindsOf(await checked(image));
        const report = await checked(mended, 'all');
        const reference = qemuCheck(mended);
        if (repair === 'remains') {
          expect(report.totals.corruption).to.be.above(0);
          expect(before, 'nothing new is wrong').to.include.members(kindsOf(report));
          if (report.repair?.refusal != null) {
            expect(readFileSync(imagePath(mended)).equals(damaged)).to.equal(true);
          }
          return;
        }
        expect(reference.status, reference.output).to.equal(0);
        expect(report.totals, JSON.stringify(report.findings)).to.include({ corruption: 0, leak: 0 });
        if (repair === 'mended') expect(readFileSync(convertToRaw(mended)).equals(content)).to.equal(true);
      });

      if (differs !== undefined) return;
      it('is repaired where the reference can repair it', async () => {
        const byReference = copyOf(image);
        qemuCheck(byReference, 'all');
        if (qemuCheck(byReference).status !== 0) return;
        const report = await checked(copyOf(image), 'all');
        expect(report.totals, JSON.stringify(report.findings)).to.include({ corruption: 0, leak: 0 });
      });
    });
  }
});
