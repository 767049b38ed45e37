/** A damaged image, checked and repaired: what is called repaired is sound, and reads as it did. */
import { FileStorage, openFile } from '../../src/host/file-storage.js';
import { checkImage } from '../../src/qcow2/check/check.js';
import { Findings } from '../../src/qcow2/check/finding.js';
import { markSound, repairImage } from '../../src/qcow2/repair/repair.js';
import { attempt, Finding, refuseCanary } from './finding.js';

/** CPU seconds. Tables may claim a quarter of a billion entries. */
const MAX_CHECK_SECONDS = 8;

class UnsyncedFile extends FileStorage {
  override sync(): void {}
}

/** @returns what was found; undefined where the image is refused */
export async function checkOnly(image: string, step = 'checking'): Promise<Findings | undefined> {
  const findings = new Findings();
  const checked = await attempt(step, MAX_CHECK_SECONDS, async () => {
    const storage = new UnsyncedFile(openFile(image, 'read-only'));
    try {
      return await checkImage(storage, findings, { readData: true });
    } finally {
      storage.close();
    }
  });
  refuseCanary(Buffer.from(JSON.stringify(findings.kept)), step);
  return checked && findings;
}

export async function repair(image: string): Promise<void> {
  const before = await checkOnly(image, 'repairing: check');
  if (before === undefined) return;
  const done = await attempt('repairing', 2 * MAX_CHECK_SECONDS, () => {
    const storage = new UnsyncedFile(openFile(image, 'read-write'));
    try {
      repairImage(storage, before, 'all');
      return true;
    } finally {
      storage.close();
    }
  });
  const after = await checkOnly(image, 'repairing: check again');
  if (after === undefined) throw new Finding('content', 'repairing', 'the image cannot be checked any more');
  if (after.totals.corruption > before.totals.corruption) {
    throw new Finding('content', 'repairing', `${after.totals.corruption} corruptions, more than before`);
  }
  if (done !== true) return;
  // The marks go last; and what looks compressed, but does not inflate, keeps its flags.
  const mayStay = new Set(['dirty', 'marked-corrupt', 'compressed-flag']);
  const left = after.kept.find(({ kind, remedy }) => remedy !== 'none' && !mayStay.has(kind));
  if (left !== undefined) {
    throw new Finding('content', 'repairing', `${left.kind} is left: ${left.what}`);
  }
  if (after.totals.corruption === 0) {
    const storage = new UnsyncedFile(openFile(image, 'read-write'));
    await attempt('repairing: mark', MAX_CHECK_SECONDS, () => markSound(storage));
    storage.close();
  }
}
