/** Sound images of every kind: nothing is found, and what is counted is what the reference counts. */

import { readFileSync } from 'node:fs';
import { expect } from 'chai';
import { useScratch } from '../support/scratch.js';
import { variants } from '../support/variants.js';
import { qemuCheck } from './reference.js';
import { check } from './request.js';

describe('qcow2fs check of the image matrix', () => {
  const scratch = useScratch();
  for (const { name, build } of variants) {
    it(name, async () => {
      const { image, source, unclean } = build(scratch.subdir());
      const before = readFileSync(image);
      const report = await check(image, undefined, true);
      expect(readFileSync(image).equals(before)).to.equal(true);
      const reference = qemuCheck(source);
      if (unclean) {
        expect(report.totals.corruption > 0).to.equal(reference.corruptions > 0);
        return;
      }
      expect(report.findings.filter(({ severity }) => severity !== 'warning')).to.deep.equal([]);
      expect(reference.status, reference.output).to.equal(0);
      const { clusters, end } = report.checked[0]!;
      const { allocated, compressed, fragmented, total } = reference;
      expect({ ...clusters, end }).to.deep.equal({
        allocated,
        compressed,
        fragmented,
        total,
        end: reference.end,
      });
    });
  }
});
