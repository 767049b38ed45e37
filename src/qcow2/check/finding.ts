/** What a check finds: plain data, of kinds that people can look up and programs can tell apart. */

/**
 * `corruption`: something is wrong or lost. `missing`: a file that the image stands on. `leak`: space is lost.
 * `warning`: nothing is, but somebody should know.
 */
export type Severity = 'corruption' | 'missing' | 'leak' | 'warning';

/** What mends it: `check --repair leaks` (and `all`), `check --repair all`, or nothing that this program does. */
export type Remedy = 'leaks' | 'all' | 'none';

interface KindOfFinding {
  /** For people. */
  readonly meaning: string;
  readonly severity: Severity;
  readonly remedy: Remedy;
  /** What else can be done. */
  readonly advice?: string;
}

const COPY = 'restore the image from a backup, or copy what can be read: qcow2fs mount -r and ddrescue';

/** All that can be found. The kinds are part of the JSON schema. */
export const FINDING_KINDS = {
  leak: {
    meaning: 'clusters are counted more often than they are used: their space is lost',
    severity: 'leak',
    remedy: 'leaks',
  },
  'refcount-too-low': {
    meaning: 'clusters are used more often than they are counted: they may be overwritten',
    severity: 'corruption',
    remedy: 'all',
  },
  'refcount-overflow': {
    meaning: 'clusters are used more often than a refcount can tell',
    severity: 'corruption',
    remedy: 'none',
    advice: 'make the refcounts wider: qemu-img amend -o refcount_bits=64',
  },
  'refcount-structure': {
    meaning: 'the refcount table, or a block of it, lies where it cannot',
    severity: 'corruption',
    remedy: 'all',
  },
  'copied-flag': {
    meaning: 'the COPIED flag of an L1 or L2 entry disagrees with the refcount',
    severity: 'corruption',
    remedy: 'all',
  },
  'reserved-bits': { meaning: 'bits that must be zero are set', severity: 'corruption', remedy: 'all' },
  'compressed-flag': {
    meaning: 'a compressed cluster has a flag or a bitmap that only others have',
    severity: 'corruption',
    remedy: 'all',
  },
  'subcluster-bitmap': {
    meaning: 'a subcluster is both data and zeros, so the cluster cannot be read; repaired, it is zeros',
    severity: 'corruption',
    remedy: 'all',
  },
  'subclusters-lost': {
    meaning: 'subclusters are allocated in an entry without a cluster',
    severity: 'corruption',
    remedy: 'none',
    advice: COPY,
  },
  'misplaced-zeros': {
    meaning: 'the place of a zero cluster starts inside a cluster',
    severity: 'corruption',
    remedy: 'all',
  },
  'misplaced-data': {
    meaning: 'the place of a data cluster makes no sense: where its bytes are nobody knows',
    severity: 'corruption',
    remedy: 'none',
    advice: COPY,
  },
  'lost-table': {
    meaning: 'a table lies where it cannot: what it referred to is unknown',
    severity: 'corruption',
    remedy: 'none',
    advice: COPY,
  },
  'outside-file': {
    meaning:
      'clusters lie beyond the end of the file: what is missing reads as zeros, or, compressed, not at all',
    severity: 'corruption',
    remedy: 'none',
    advice: 'was the file cut off? restore it from a backup, or finish the copy',
  },
  overlap: {
    meaning: 'a cluster of the disk lies on metadata: the guest sees that instead of its data',
    severity: 'warning',
    remedy: 'none',
    advice: 'restore the files that lie there from a backup',
  },
  'metadata-overlap': {
    meaning: 'two structures share a cluster: a change to one destroys the other',
    severity: 'corruption',
    remedy: 'none',
    advice: COPY,
  },
  'zero-flag': {
    meaning: 'a version 2 image has a zero cluster, which version 2 does not know',
    severity: 'corruption',
    remedy: 'none',
    advice: 'make it a version 3 image: qemu-img amend -o compat=1.1',
  },
  'compressed-external': {
    meaning: 'a compressed cluster in an image whose data lie in another file',
    severity: 'corruption',
    remedy: 'none',
    advice: COPY,
  },
  'data-file-offset': {
    meaning: 'a cluster does not lie at its guest offset in the data file',
    severity: 'corruption',
    remedy: 'none',
    advice: COPY,
  },
  'snapshot-table': {
    meaning: 'the snapshot table cannot be read',
    severity: 'corruption',
    remedy: 'none',
    advice: COPY,
  },
  'snapshot-incomplete': {
    meaning: 'a snapshot does not tell its disk size, as version 3 demands',
    severity: 'corruption',
    remedy: 'all',
  },
  snapshot: {
    meaning: 'a snapshot cannot be shown',
    severity: 'corruption',
    remedy: 'none',
    advice: 'delete it: qemu-img snapshot -d',
  },
  'snapshot-ambiguous': {
    meaning: 'two snapshots have the same ID',
    severity: 'warning',
    remedy: 'none',
    advice: 'name snapshots by their name, or delete one',
  },
  bitmap: {
    meaning: 'a bitmap is invalid: QEMU does not open the image',
    severity: 'corruption',
    remedy: 'none',
    advice: COPY,
  },
  'bitmap-directory': {
    meaning: 'the bitmap directory cannot be read',
    severity: 'corruption',
    remedy: 'none',
    advice: COPY,
  },
  'bitmap-in-use': {
    meaning: 'a bitmap was not saved properly: a backup that trusts it misses changes',
    severity: 'warning',
    remedy: 'none',
    advice: 'remove the bitmap (qemu-img bitmap --remove) and make a full backup',
  },
  'bitmaps-stale': {
    meaning: 'a program wrote the image that does not know its bitmaps: none of them is valid',
    severity: 'warning',
    remedy: 'none',
    advice: 'make a full backup, and a new bitmap: qemu-img bitmap --add',
  },
  luks: {
    meaning: 'the LUKS header, or a key slot of it, makes no sense',
    severity: 'corruption',
    remedy: 'none',
    advice: 'restore the header from a backup; other key slots may still open the image',
  },
  inflate: {
    meaning: 'a compressed cluster does not inflate',
    severity: 'corruption',
    remedy: 'none',
    advice: COPY,
  },
  unreadable: {
    meaning: 'the host cannot read a part of the file',
    severity: 'corruption',
    remedy: 'none',
    advice: 'copy what can be read to another disk: ddrescue',
  },
  chain: {
    meaning: 'a file that the image stands on cannot be opened: the disk cannot be read without it',
    severity: 'missing',
    remedy: 'none',
  },
  'data-file': {
    meaning: 'the data file is shorter than the disk: what it lacks reads as zeros',
    severity: 'warning',
    remedy: 'none',
    advice: 'was the data file cut off?',
  },
  dirty: { meaning: 'the image was not closed properly', severity: 'warning', remedy: 'all' },
  'marked-corrupt': {
    meaning: 'the image is marked corrupt: it cannot be written',
    severity: 'warning',
    remedy: 'all',
  },
} as const satisfies Record<string, KindOfFinding>;
export type FindingKind = keyof typeof FINDING_KINDS;

export interface Finding {
  readonly kind: FindingKind;
  readonly severity: Severity;
  /** The file that it is in. */
  readonly image: string;
  /** What is wrong, or holds what is wrong: `L2 table`, `header`. */
  readonly structure: string;
  /** Host offset of the structure, bytes. */
  readonly offset: number;
  /** Index in the structure, where that is a table. */
  readonly entry: number | null;
  /** First byte of the guest disk that it concerns, where that is known. */
  readonly guestOffset: number | null;
  /** Clusters, entries or ranges, all alike, that this stands for. */
  readonly count: number;
  readonly what: string;
  readonly remedy: Remedy;
  readonly advice: string | null;
}

/** Where something was found: made once for a table, for entries are many. */
export interface Place {
  readonly name: string;
  /** Host offset, bytes. */
  readonly offset: number;
  /** Where the first entry leads in the guest disk, and each next one beyond; undefined for what maps none of it. */
  readonly guest?: { readonly start: number; readonly step: number } | undefined;
}

export type Report = (
  kind: FindingKind,
  place: Place,
  what: string,
  more?: Partial<Pick<Finding, 'entry' | 'count'>>,
) => void;

/** Findings of a kind that are kept one by one: an image may have millions. */
const MAX_KEPT = 1000;

export class Findings {
  readonly kept: Finding[] = [];
  /** By severity: clusters, entries and ranges. */
  readonly totals: Record<Severity, number> = { corruption: 0, missing: 0, leak: 0, warning: 0 };
  /** How many of each kind, in the same measure. */
  readonly kinds = new Map<FindingKind, number>();
  /** Findings that were not kept. */
  omitted = 0;
  readonly #keptOf = new Map<FindingKind, number>();

  /** For an image of which it is not known what is in use: every repair refuses it. */
  withdrawRemedies(image: string): void {
    for (const [index, finding] of this.kept.entries()) {
      if (finding.image !== image || finding.remedy === 'none') continue;
      this.kept[index] = { ...finding, remedy: 'none', advice: COPY };
    }
  }

  /** @param image the file that is looked at */
  reportFor(image: string): Report {
    return (kind, place, what, { entry = null, count = 1 } = {}) => {
      const { severity, remedy, advice }: KindOfFinding = FINDING_KINDS[kind];
      this.totals[severity] += count;
      this.kinds.set(kind, (this.kinds.get(kind) ?? 0) + count);
      const kept = this.#keptOf.get(kind) ?? 0;
      if (kept === MAX_KEPT) {
        this.omitted++;
        return;
      }
      this.#keptOf.set(kind, kept + 1);
      const { name: structure, offset, guest } = place;
      const guestOffset = guest === undefined ? null : guest.start + (entry ?? 0) * guest.step;
      this.kept.push({
        kind,
        severity,
        image,
        structure,
        offset,
        entry,
        guestOffset,
        count,
        what,
        remedy,
        advice: advice ?? null,
      });
    };
  }
}
