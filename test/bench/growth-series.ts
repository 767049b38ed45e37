/** What grows: the disk, the chain or the number of requests in flight. */

import type { Image, ImageStore } from './images.js';
import { PLAIN } from './kinds.js';
import { makeChain, makeSpread } from './layers.js';
import { fio, type Measure } from './measure.js';
import { MEGABYTES, MILLISECONDS, type Row } from './rows.js';

const GIB = 2 ** 30;
/** How many places of the large disks hold data. Each has an L2 table of its own from 512 GiB on. */
const PLACES = 1024;
const CHAIN_SIZE = 128 * 2 ** 20;

/** What is noted at each point of a series. */
export interface Metric {
  readonly name: string;
  readonly unit: string;
  readonly scale: number;
  readonly decimals: number;
}

export const SPEED = { name: '4k random read', unit: 'IOPS', scale: 1, decimals: 0 };
export const MOUNT = { name: 'mount to first byte', ...MILLISECONDS };
export const MEMORY = { name: 'peak memory', ...MEGABYTES };

export interface Point {
  readonly label: string;
  readonly image: (store: ImageStore) => Promise<Image>;
  readonly measure: Measure;
}

export interface Series {
  readonly name: string;
  readonly title: string;
  readonly note: string;
  readonly metrics: readonly Metric[];
  readonly points: readonly Point[];
}

const randomRead = (depth: number, ...more: string[]) =>
  fio('timed', '--rw=randread', '--bs=4k', '--ioengine=libaio', `--iodepth=${depth}`, '--direct=1', ...more);

export const SERIES: readonly Series[] = [
  {
    name: 'size',
    title: 'Virtual size',
    note: `${PLACES} clusters of 64 KiB, spread evenly over the disk, hold data; these are read, QD16.`,
    metrics: [SPEED, MOUNT, MEMORY],
    points: [1, 64, 1024, 16 * 1024].map((gib) => ({
      label: gib < 1024 ? `${gib} GiB` : `${gib / 1024} TiB`,
      image: async (store) => {
        const make = (top: string) => makeSpread(top, gib * GIB, PLACES);
        return { path: await store.make(`spread-${gib}g`, make), size: gib * GIB, secret: undefined };
      },
      measure: randomRead(16, '--norandommap', `--blockalign=${(gib * GIB) / PLACES}`),
    })),
  },
  {
    name: 'depth',
    title: 'Chain depth',
    note: `Each image of the chain holds an equal share of a disk of ${CHAIN_SIZE / 2 ** 20} MiB, interleaved; QD16.`,
    metrics: [SPEED, MOUNT, MEMORY],
    points: [1, 2, 4, 8, 16, 32, 64].map((depth) => ({
      label: depth === 1 ? '1 image' : `${depth} images`,
      image: async (store) => {
        const make = (top: string) => makeChain(top, CHAIN_SIZE, depth);
        return { path: await store.make(`chain-of-${depth}`, make), size: CHAIN_SIZE, secret: undefined };
      },
      measure: randomRead(16, '--norandommap'),
    })),
  },
  {
    name: 'flight',
    title: 'Requests in flight',
    note: 'The plain image of the rows above.',
    metrics: [SPEED],
    points: [1, 2, 4, 8, 16].map((depth) => ({
      label: `QD${depth}`,
      image: (store) => store.filled(PLAIN),
      measure: randomRead(depth, '--norandommap'),
    })),
  },
];

/** The id under which the samples of one metric at one point are kept. */
export function growthId(series: Series, metric: Metric, point: Point): string {
  return `growth/${series.name}/${metric.name}/${point.label}`;
}

export function growthRows(series: Series): Row[] {
  return series.metrics.flatMap((metric) =>
    series.points.map((point) => ({
      ...metric,
      id: growthId(series, metric, point),
      title: `${metric.name}, ${point.label}`,
    })),
  );
}
