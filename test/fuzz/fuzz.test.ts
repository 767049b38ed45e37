/** A short campaign, the same in every run: what fuzz.ts looks for by hand and for long. */
import { expect } from 'chai';
import { useScratch } from '../support/scratch.js';
import { runCampaign } from './campaign.js';
import type { Target } from './input.js';

/** Fewer on a slow machine, where the time ends it. */
const EXECUTIONS: Readonly<Record<Target, number>> = { image: 300, request: 1500 };
const ENOUGH: Readonly<Record<Target, number>> = { image: 100, request: 300 };
const SECONDS = 60;

describe('damaged images and requests', () => {
  const scratch = useScratch();

  for (const target of ['image', 'request'] as const) {
    it(`${target}: nothing crashes, hangs, leaks or takes what it must not`, async () => {
      const report = await runCampaign({
        randomSeed: 1,
        targets: [target],
        executions: EXECUTIONS[target],
        seconds: SECONDS,
        findings: scratch.path(target),
        log: () => {},
      });
      expect(report.findings).to.deep.equal([]);
      expect(report.executions[target]).to.be.at.least(ENOUGH[target]);
      expect(report.covered).to.be.above(500);
      expect(report.corpus[target]).to.be.above(20);
    });
  }
});
