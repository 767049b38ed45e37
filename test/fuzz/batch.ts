/**
 * The process that runs one batch, so that a hang, a crash or too much memory ends nothing else. Coverage starts
 * before the code under test is loaded.
 */
import { Coverage } from './coverage.js';
import { type BatchResult, type Job, Workshop } from './workshop.js';

const job: Job = JSON.parse(process.argv[2]!);
const coverage = new Coverage(new Workshop(job.directory, job.findings).coverage());
const { Explorer } = await import('./explorer.js');
coverage.advance();
await new Explorer(job, coverage).run();
const result: BatchResult = { ...coverage.counts(), missing: Object.fromEntries(coverage.missing()) };
process.send?.(result, () => process.disconnect());
