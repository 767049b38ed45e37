/** A short campaign that starts with the same inputs each time: what fuzz.ts looks for by hand and for long. */
import fs from 'node:fs';
import { expect } from 'chai';
import { lane } from '../support/lane.js';
import { useScratch } from '../support/scratch.js';
import { runCampaign } from './campaign.js';
import { TARGETS, type Target } from './input.js';

/** Fewer on a slow machine, where the time ends it. */
const EXECUTIONS: Readonly<Record<Target, number>> = lane(
  { image: 200, command: 25, request: 120 },
  { image: 1000, command: 120, request: 600 },
);
const ENOUGH: Readonly<Record<Target, number>> = { image: 40, command: 10, request: 15 };
const SECONDS = lane(120, 300);
const TIMEOUT_MS = 900_000;

describe('damaged images, and requests that no kernel sends', () => {
  const scratch = useScratch();

  it('make nothing crash, hang, leak or reach what it must not', async function () {
    this.timeout(TIMEOUT_MS);
    const report = await runCampaign({
      randomSeed: 1,
      targets: TARGETS,
      executions: EXECUTIONS,
      seconds: SECONDS,
      findings: scratch.path('findings'),
      log: () => {},
    });
    const findings = report.findings.map((path) => fs.readFileSync(path, 'utf8'));
    expect(findings).to.deep.equal([]);
    for (const target of TARGETS) {
      expect(report.executions[target]).to.be.at.least(ENOUGH[target]);
      expect(report.corpus[target]).to.be.above(20);
    }
    expect(report.covered).to.be.above(1000);
  });
});
