/** `--repair leaks`: gives back what is lost, and touches nothing that is corrupt. */

import { cpSync, readFileSync } from 'node:fs';
import { expect } from 'chai';
import { check, kindsOf } from '../support/check-request.js';
import { convertToRaw, imagePath } from '../support/images.js';
import { qemuCheck } from '../support/qemu-check.js';
import { useScratch } from '../support/scratch.js';
import { TRIED } from './damage.js';

describe('qcow2fs check --repair leaks', () => {
  const scratch = useScratch();
  for (const [name, { base, damage }] of TRIED) {
    it(name, async () => {
      const image = base(scratch.subdir());
      const content = (): Buffer | string => {
        try {
          return readFileSync(convertToRaw(image));
        } catch {
          return 'cannot be read';
        }
      };
      damage(imagePath(image));
      const before = content();
      const damaged = readFileSync(imagePath(image));
      const found = await check(imagePath(image));
      const byReference = { ...image, dir: scratch.subdir() };
      cpSync(image.dir, byReference.dir, { recursive: true });
      qemuCheck(byReference, 'leaks');

      const report = await check(imagePath(image), 'leaks');
      const after = qemuCheck(image);
      if (report.repair?.refusal != null || found.totals.leak === 0) {
        const unchanged = readFileSync(imagePath(image)).equals(damaged);
        const onlyFlags = kindsOf(found).every((kind) => kind === 'copied-flag');
        expect(unchanged || found.totals.corruption === 0 || onlyFlags).to.equal(true);
        if (onlyFlags) expect(after.status, after.output).to.equal(0);
      } else {
        expect(after.leaks, after.output).to.equal(0);
        expect(report.totals.leak).to.equal(0);
        const reference = qemuCheck(byReference);
        if (reference.status !== 1)
          expect(after.corruptions).to.be.at.most(Math.max(reference.corruptions, 0));
      }
      expect(content()).to.deep.equal(before);
    });
  }
});
