/**
 * A tool for people: looks for images and requests that qcow2fs does not take as it should.
 *
 *     node dist/test/fuzz/fuzz.js --seconds N [--seed S] [--target image|command|request] [--executions N]
 *     node dist/test/fuzz/fuzz.js --replay FILE
 *
 * Findings are kept in the directory fuzz-findings (--findings DIR), and the exit status is 1.
 */
import fs from 'node:fs';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { makeScratch } from '../support/scratch.js';
import { runCampaign } from './campaign.js';
import { runInput } from './explorer.js';
import { Finding } from './finding.js';
import { type Input, TARGETS, type Target } from './input.js';
import { buildSeeds, loadSeeds } from './seeds.js';

const print = (line: string): unknown => process.stdout.write(`${line}\n`);

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      seconds: { type: 'string', default: '60' },
      executions: { type: 'string' },
      seed: { type: 'string', default: '1' },
      target: { type: 'string' },
      findings: { type: 'string', default: 'fuzz-findings' },
      replay: { type: 'string' },
      missing: { type: 'boolean', default: false },
    },
  });
  if (values.replay !== undefined) return replay(values.replay);
  const targets = TARGETS.filter((target: Target) => (values.target ?? target) === target);
  const executions = Number(values.executions ?? Number.MAX_SAFE_INTEGER);
  const report = await runCampaign({
    randomSeed: Number(values.seed),
    targets,
    executions: { image: executions, command: executions, request: executions },
    seconds: Number(values.seconds),
    findings: resolve(values.findings),
    log: print,
  });
  if (values.missing) {
    const files = Object.entries(report.missing).filter(([, count]) => count > 0);
    for (const [file, count] of files.sort((a, b) => b[1] - a[1]))
      print(`${count} blocks not run in ${file}`);
  }
  for (const path of report.findings) {
    const { kind, step, message } = JSON.parse(fs.readFileSync(path, 'utf8'));
    print(`FINDING ${kind} in ${step}: ${message}\n  node dist/test/fuzz/fuzz.js --replay ${path}`);
  }
  return report.findings.length === 0 ? 0 : 1;
}

/** Tries one input in this process: for a debugger. */
async function replay(path: string): Promise<number> {
  const { input } = JSON.parse(fs.readFileSync(path, 'utf8')) as { input: Input };
  const scratch = makeScratch();
  buildSeeds(scratch.dir);
  const seeds = new Map(loadSeeds(scratch.dir).map((seed) => [seed.name, seed]));
  try {
    await runInput(input, seeds);
    print('no finding');
    return 0;
  } catch (error) {
    if (!(error instanceof Finding)) throw error;
    print(`FINDING ${error.kind} in ${error.step}: ${error.message}`);
    return 1;
  } finally {
    scratch.dispose();
  }
}

process.exitCode = await main();
