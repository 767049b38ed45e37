/** What a check finds: plain data, of kinds that people can look up and programs can tell apart. */

/** `corruption`: something is wrong or lost. `leak`: space is. `warning`: nothing is, but somebody should know. */
export type Severity = 'corruption' | 'leak' | 'warning';

/** What mends it: `check --repair leaks` (and `all`), `check --repair all`, or nothing that this program does. */
export type Remedy = 'leaks' | 'all' | 'none';

interface KindOfFinding {
  readonly severity: Severity;
  readonly remedy: Remedy;
  /** What else can be done. */
  readonly advice?: string;
}

const COPY = 'restore the image from a backup, or copy what can be read: qcow2fs mount -r and ddrescue';

/** All that can be found. The kinds are part of the JSON schema. */
export const FINDING_KINDS = {
  /** Clusters that are counted more often than they are used: their space is lost, nothing else. */
  leak: { severity: 'leak', remedy: 'leaks' },
  /** Clusters that are used more often than they are counted: they may be overwritten. */
  'refcount-too-low': { severity: 'corruption', remedy: 'all' },
  /** More references than the width of the image's refcounts can tell. */
  'refcount-overflow': {
    severity: 'corruption',
    remedy: 'none',
    advice: 'make the refcounts wider: qemu-img amend -o refcount_bits=64',
  },
  /** The refcount table, or a block of it, lies where it cannot. */
  'refcount-structure': { severity: 'corruption', remedy: 'all' },
  /** Bit 63 of an active L1 or L2 entry disagrees with the refcount. */
  'copied-flag': { severity: 'corruption', remedy: 'all' },
  /** Bits that must be zero are set; nobody looks at them. */
  'reserved-bits': { severity: 'corruption', remedy: 'all' },
  /** A compressed cluster with a flag or bitmap that only others have. */
  'compressed-flag': { severity: 'corruption', remedy: 'all' },
  /** A subcluster that is both allocated and zero; repaired, it reads as zeros. */
  'subcluster-bitmap': { severity: 'corruption', remedy: 'all' },
  /** Allocated subclusters in an entry without a cluster. */
  'subclusters-lost': { severity: 'corruption', remedy: 'none', advice: COPY },
  /** A zero cluster whose place is not aligned. */
  'misplaced-zeros': { severity: 'corruption', remedy: 'all' },
  /** A data cluster that is not aligned: where its bytes are nobody knows. */
  'misplaced-data': { severity: 'corruption', remedy: 'none', advice: COPY },
  /** A table that maps or counts other things lies where it cannot: what it referred to is unknown. */
  'lost-table': { severity: 'corruption', remedy: 'none', advice: COPY },
  /** A cluster beyond the end of the file; it reads as zeros. */
  'outside-file': {
    severity: 'corruption',
    remedy: 'none',
    advice: 'was the file cut off? restore it from a backup, or finish the copy',
  },
  /** A guest cluster that lies on metadata: the guest sees that instead of its data. */
  overlap: { severity: 'warning', remedy: 'none', advice: 'restore the files that lie there from a backup' },
  /** Two structures in one cluster: a change to one destroys the other. */
  'metadata-overlap': { severity: 'corruption', remedy: 'none', advice: COPY },
  /** A zero cluster in a version 2 image, which knows none. */
  'zero-flag': {
    severity: 'corruption',
    remedy: 'none',
    advice: 'make it a version 3 image: qemu-img amend -o compat=1.1',
  },
  /** A compressed cluster in an image whose data lie in another file. */
  'compressed-external': { severity: 'corruption', remedy: 'none', advice: COPY },
  /** A cluster in the data file that does not lie at its guest offset. */
  'data-file-offset': { severity: 'corruption', remedy: 'none', advice: COPY },
  /** The snapshot table cannot be read. */
  'snapshot-table': { severity: 'corruption', remedy: 'none', advice: COPY },
  /** A snapshot that does not tell its disk size, which version 3 demands. */
  'snapshot-incomplete': {
    severity: 'corruption',
    remedy: 'none',
    advice: 'qemu-img check -r all completes it',
  },
  /** A snapshot that cannot be shown. */
  snapshot: { severity: 'corruption', remedy: 'none', advice: 'delete it: qemu-img snapshot -d' },
  /** Two snapshots of one ID. */
  'snapshot-ambiguous': {
    severity: 'warning',
    remedy: 'none',
    advice: 'name snapshots by their name, or delete one',
  },
  /** A bitmap that makes no sense. */
  bitmap: { severity: 'corruption', remedy: 'none', advice: 'remove the bitmap: qemu-img bitmap --remove' },
  /** The bitmap directory cannot be read. */
  'bitmap-directory': { severity: 'corruption', remedy: 'none', advice: COPY },
  /** A bitmap that was not saved properly: a backup that trusts it misses changes. */
  'bitmap-in-use': {
    severity: 'warning',
    remedy: 'none',
    advice: 'remove the bitmap (qemu-img bitmap --remove) and make a full backup',
  },
  /** Bitmaps that a program did not know that wrote the image. */
  'bitmaps-stale': {
    severity: 'warning',
    remedy: 'none',
    advice: 'remove the bitmaps (qemu-img bitmap --remove) and make a full backup',
  },
  /** The LUKS header, or a key slot of it, makes no sense. */
  luks: {
    severity: 'corruption',
    remedy: 'none',
    advice: 'restore the header from a backup; other key slots may still open the image',
  },
  /** A compressed cluster that does not inflate; only --read-data finds it. */
  inflate: { severity: 'corruption', remedy: 'none', advice: COPY },
  /** The host cannot read a part of the file; --read-data finds all of them. */
  unreadable: {
    severity: 'corruption',
    remedy: 'none',
    advice: 'copy what can be read to another disk: ddrescue',
  },
  /** A file of the chain cannot be opened: the disk cannot be read without it. */
  chain: { severity: 'corruption', remedy: 'none' },
  /** The data file is shorter than the disk: what it lacks reads as zeros. */
  'data-file': { severity: 'warning', remedy: 'none', advice: 'was the data file cut off?' },
  /** Not closed properly: refcounts may be behind. */
  dirty: { severity: 'warning', remedy: 'all' },
  /** Marked corrupt by whoever found it damaged: it cannot be written. */
  'marked-corrupt': { severity: 'warning', remedy: 'all' },
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

/** Findings that are kept one by one: an image may have millions. */
const MAX_KEPT = 10_000;

export class Findings {
  readonly kept: Finding[] = [];
  /** By severity: clusters, entries and ranges. */
  readonly totals: Record<Severity, number> = { corruption: 0, leak: 0, warning: 0 };
  readonly kinds = new Set<FindingKind>();
  /** Findings that were not kept. */
  omitted = 0;

  /** @param image the file that is looked at */
  reportFor(image: string): Report {
    return (kind, place, what, { entry = null, count = 1 } = {}) => {
      const { severity, remedy, advice }: KindOfFinding = FINDING_KINDS[kind];
      this.totals[severity] += count;
      this.kinds.add(kind);
      if (this.kept.length === MAX_KEPT) {
        this.omitted++;
        return;
      }
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
