/** A sound image of the matrix: `check` finds nothing in it, and counts what the reference counts. */
import { readFileSync } from 'node:fs';
import { expect } from 'chai';
import { check } from '../support/check-request.js';
import { qemuCheck } from '../support/qemu-check.js';
import type { BuiltImage } from '../support/variant.js';

export async function expectSound({ image, source, unclean }: BuiltImage): Promise<void> {
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
}
