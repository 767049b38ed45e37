/** Positions on a disk, and parts of it, as people read them. */

/** Round positions from 0 on, at most `most` of them, all before the end of the disk. Bytes. */
export function ticks(size: number, most: number): number[] {
  if (size === 0) return [0];
  const step = 2 ** Math.ceil(Math.log2(size / most));
  return Array.from({ length: Math.ceil(size / step) }, (_, index) => index * step);
}

/** `12.5%`: nothing that is there counts as 0%, and nothing but the whole as 100%. */
export function percent(part: number, whole: number): string {
  if (part === 0) return '0%';
  if (part === whole) return '100%';
  const tenths = Math.round((1000 * part) / whole);
  if (tenths === 0) return '<0.1%';
  return `${Math.min(tenths, 999) / 10}%`;
}
