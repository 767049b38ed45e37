/**
 * Processes that contend for one mounted disk, past the page cache and through it, whose daemon has one, two or eight
 * threads. Every image kind with one of these; with all: QCOW2FS_THREADS=1,2,8 make test-long TESTS=dist/test/mount/contention.test.js
 */

import { type ChildProcess, fork } from 'node:child_process';
import fs from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type Defer, useCleanUp } from '../support/clean-up.js';
import type { Report } from '../support/contention/contender.js';
import { contendedVariants, fileOf } from '../support/contention/images.js';
import { expectConsistent } from '../support/contention/verdict.js';
import { lane } from '../support/lane.js';
import { daemonOf, endDaemon, logLines, mountWritableOn } from '../support/mounts.js';
import { withNodeOptions } from '../support/node-options.js';
import { expectQcow2fs, keyOptions } from '../support/qcow2fs.js';
import { useScratch } from '../support/scratch.js';
import { threadCounts } from '../support/threads.js';
import type { MountedOrder } from './mounted-contender.js';

/** Of all processes together. */
const OPERATIONS = Number(process.env['QCOW2FS_OPERATIONS'] ?? lane(600, 3600));
const SEED = Number(process.env['QCOW2FS_SEED'] ?? 1);
const MIXED = ['both', 'both', 'both', 'reader'] as const;
const WRITERS = ['writer', 'writer', 'writer', 'writer'] as const;
const CONTENDER = fileURLToPath(new URL('./mounted-contender.js', import.meta.url));
const STALLER = new URL('./stalling-host.js', import.meta.url).href;

describe('processes that contend for one mounted disk', function () {
  this.timeout(300_000 + OPERATIONS * 50);
  for (const [index, { name, speed, build }] of contendedVariants.entries()) {
    describe(name, () => {
      const scratch = useScratch();
      const defer = useCleanUp();

      const mixed = threadCounts(index).map((count) => [MIXED, count] as const);
      const writers = [[WRITERS, 8] as const];
      for (const [roles, threads] of lane(index % 2 === 0 ? mixed : writers, [...mixed, ...writers])) {
        const who = roles === WRITERS ? 'four that only write' : 'three, and one that only reads';
        it(`agree, with --threads ${threads}: ${who}`, async () => {
          const contended = build(scratch.subdir());
          const args = ['--threads', String(threads), ...keyOptions(contended.image)];
          const env = { ...withNodeOptions(`--import ${STALLER}`), STALLING_SEED: String(SEED) };
          const mount = mountWritableOn(defer, fileOf(contended), scratch.subdir(), args, { env });
          const { mountpoint, disk, log } = mount;
          const daemon = daemonOf(mountpoint);
          defer(() => endDaemon(daemon));
          const order = {
            disk,
            contenders: roles.length,
            layout: contended.layout,
            operations: Math.ceil((OPERATIONS * speed) / roles.length),
            seed: SEED,
            initial: contended.initial,
            erasing: 0.4,
          };
          const reports = await Promise.all(
            roles.map((role, contender) => contend(defer, { ...order, contender, role })),
          );
          const seen = fs.readFileSync(disk);
          expectQcow2fs(['umount', mountpoint]);
          expectConsistent(contended, reports, seen);
          const complaints = logLines(log).filter((line) => !/: (mounted on .*|unmounted)$/.test(line));
          if (complaints.length > 0) throw new Error(complaints.join('\n'));
        });
      }
    });
  }
});

function contend(defer: Defer, order: MountedOrder): Promise<Report> {
  const child: ChildProcess = fork(CONTENDER, {
    serialization: 'advanced',
    stdio: ['ignore', 2, 'pipe', 'ipc'],
  });
  defer(() => child.kill('SIGKILL'));
  let complaint = '';
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    complaint += text;
  });
  return new Promise((resolve, reject) => {
    let report: Report | undefined;
    child.once('error', reject);
    child.once('message', (message: Report) => {
      report = message;
    });
    child.once('close', (status) => {
      const reason = complaint.split('\n').find((line) => /Error/.test(line)) ?? complaint;
      if (report === undefined)
        reject(new Error(`contender ${order.contender}: status ${status}: ${reason}`));
      else resolve(report);
    });
    child.send(order);
  });
}
