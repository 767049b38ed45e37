/** What the disk of a mount may grant, beside what the kernel grants to each of the people it would be granted to. */

import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { type Grants, grantsOf } from '../../src/host/grants.js';
import { type AccessList, setAccess } from '../support/access-list.js';
import { lane } from '../support/lane.js';
import { Random } from '../support/random.js';
import { useScratch } from '../support/scratch.js';

/** Of users and groups; the last user has no file. */
const USERS = [64001, 64002, 64003] as const;
const GROUPS = [65001, 65002, 65003] as const;
const [OWNER] = USERS;
const [GROUP] = GROUPS;

interface Person {
  readonly uid: number;
  readonly groups: readonly number[];
}

/** Everybody but the owner and root: each in any of the groups. */
const PEOPLE: readonly Person[] = USERS.filter((uid) => uid !== OWNER).flatMap((uid) =>
  Array.from({ length: 2 ** GROUPS.length }, (_, set) => ({
    uid,
    groups: GROUPS.filter((_, index) => set & (1 << index)),
  })),
);

/** What the kernel lets this person do: 4 to read, 2 to write. */
function allowed({ uid, groups }: Person, file: string): number {
  const before = process.getgroups!();
  process.setgroups!([...groups]);
  process.setegid!(groups[0] ?? 65099);
  process.seteuid!(uid);
  try {
    return (canOpen(file, 'r') ? 4 : 0) | (canOpen(file, 'r+') || canOpen(file, 'a') ? 2 : 0);
  } finally {
    process.seteuid!(0);
    process.setegid!(0);
    process.setgroups!(before);
  }
}

function canOpen(file: string, flags: string): boolean {
  try {
    fs.closeSync(fs.openSync(file, flags));
    return true;
  } catch {
    return false;
  }
}

describe('what a file grants', () => {
  const scratch = useScratch();

  before(() => {
    for (let at = scratch.dir; at.includes('qcow2fs-test-'); at = path.dirname(at)) fs.chmodSync(at, 0o755);
  });

  /** To everybody of a kind, whoever they are. */
  function byKernel(file: string): Grants {
    const common = (people: readonly Person[]): number =>
      people.reduce((bits, person) => bits & allowed(person, file), 6);
    return {
      group: common(PEOPLE.filter(({ groups }) => groups.includes(GROUP))),
      others: common(PEOPLE.filter(({ groups }) => !groups.includes(GROUP))),
    };
  }

  function byProgram(file: string): Grants {
    const fd = fs.openSync(file, 'r');
    try {
      const { group, others } = grantsOf(fd, OWNER, GROUP);
      return { group: group & 6, others: others & 6 };
    } finally {
      fs.closeSync(fd);
    }
  }

  it('is what each of the people has, by permissions and lists of the file and of all directories above it', () => {
    const random = new Random(17);
    const bits = (): number => random.below(8);
    const list = (): AccessList => ({
      // Linux looks at no list whose mask is empty.
      ...{ user: bits(), group: bits(), mask: 1 + random.below(7), other: bits() },
      users: Object.fromEntries(USERS.slice(0, 2).flatMap((id) => (random.below(2) ? [[id, bits()]] : []))),
      groups: Object.fromEntries(GROUPS.slice(1, 2).flatMap((id) => (random.below(2) ? [[id, bits()]] : []))),
    });
    let some = 0;
    for (let round = 0; round < lane(100, 3000); round++) {
      const top = scratch.subdir();
      const places = [top, path.join(top, 'a'), path.join(top, 'a', 'b'), path.join(top, 'a', 'b', 'image')];
      fs.mkdirSync(places[2]!, { recursive: true });
      fs.writeFileSync(places[3]!, '');
      for (const place of places) {
        const isOpen = place !== places[3] && random.below(4) > 0;
        fs.chownSync(
          place,
          [0, ...USERS.slice(0, 2)][random.below(3)]!,
          [GROUP, GROUPS[2]][random.below(2)]!,
        );
        fs.chmodSync(place, isOpen ? 0o711 : (bits() << 6) | (bits() << 3) | bits());
        if (!isOpen && random.below(2) === 0) setAccess(place, list());
      }
      const granted = byProgram(places[3]!);
      expect(granted, `round ${round}`).to.deep.equal(byKernel(places[3]!));
      if (granted.group !== 0 || granted.others !== 0) some++;
    }
    expect(some).to.be.above(10);
  });

  it('is nothing when its directory has got another name, or it has none any more', () => {
    const dir = scratch.subdir();
    const file = path.join(dir, 'image');
    fs.writeFileSync(file, '');
    fs.chmodSync(file, 0o644);
    fs.chmodSync(dir, 0o755);
    const fd = fs.openSync(file, 'r');
    try {
      expect(grantsOf(fd, OWNER, GROUP).others).to.equal(4);
      fs.rmSync(file);
      expect(grantsOf(fd, OWNER, GROUP)).to.deep.equal({ group: 0, others: 0 });
      fs.writeFileSync(`${file} (deleted)`, '');
      expect(grantsOf(fd, OWNER, GROUP)).to.deep.equal({ group: 0, others: 0 });
    } finally {
      fs.closeSync(fd);
    }
  });
});
