/** `check` in this process, for tests that run it thousands of times. */

import { Progress } from '../../src/progress.js';
import { type CheckReport, checkFile } from '../../src/qcow2/check/check-file.js';
import type { RepairLevel } from '../../src/qcow2/repair/repair.js';

export function check(path: string, repair?: RepairLevel, readData = false): Promise<CheckReport> {
  const chain = { wholeChain: false, allowDirectories: [], backingFormat: undefined };
  const request = { path, repair, readData, readLock: 'read' as const, ...chain };
  return checkFile(request, new Progress());
}

export const kindsOf = ({ findings }: CheckReport): string[] => [
  ...new Set(findings.map(({ kind }) => kind)),
];
