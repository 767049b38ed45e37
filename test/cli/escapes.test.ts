/** No image leads out of its directory, by whatever name. What is refused says what it is and how to allow it. */

import fs from 'node:fs';
import path from 'node:path';
import {
  JSON_NAMES,
  makePlace,
  ODDITIES,
  PATHS,
  type Place,
  PROC,
  PROTOCOLS,
  refusalsOf,
  UNSPEAKABLE,
} from '../support/escapes.js';
import { overlay } from '../support/naming.js';
import { describeRefusals, type Refusal } from '../support/refusals.js';

const onlyBacking = (refusals: Refusal[]): Refusal[] =>
  refusals.filter(({ title }) => /backing file/.test(title));
const ALLOWED_BY = ['-outside/secret.raw lies outside', 'add --allow-dir /'];
const toSecret = ({ out }: Place, up = '..'): string => `${up}/${path.basename(out)}/secret.raw`;

/** The image is sound; what it stands on leads out. */
const CHAINS: readonly Refusal[] = [
  {
    title: 'a chain whose second step leaves the directory',
    make: (dir) => {
      overlay(dir, toSecret(makePlace(dir)), 'raw', 'middle.qcow2');
      return overlay(dir, 'middle.qcow2');
    },
    kind: 'named-file',
    words: ['middle.qcow2: its backing file', ...ALLOWED_BY],
  },
  {
    title: 'a chain that leaves the directory out of a directory below it',
    make: (dir) => {
      overlay(dir, toSecret(makePlace(dir), '../..'), 'raw', 'sub/base.qcow2');
      return overlay(dir, 'sub/base.qcow2');
    },
    kind: 'named-file',
    words: ['sub/base.qcow2: its backing file', ...ALLOWED_BY],
  },
  {
    title: 'a chain that leaves the allowed directory: nothing beside a base is allowed for its sake',
    make: (dir) => {
      const { out } = makePlace(dir);
      fs.mkdirSync(`${out}/bases`);
      overlay(`${out}/bases`, '../secret.raw', 'raw', 'base.qcow2');
      return { image: overlay(dir, `${out}/bases/base.qcow2`), args: ['--allow-dir', `${out}/bases`] };
    },
    kind: 'named-file',
    words: ['bases/base.qcow2: its backing file', ...ALLOWED_BY],
  },
  {
    title: 'a json: name whose backing leads out',
    make: (dir) => {
      const { secret } = makePlace(dir);
      overlay(dir, 'none.raw', 'raw', 'middle.qcow2');
      const backing = { driver: 'raw', file: { driver: 'file', filename: secret } };
      const name = { driver: 'qcow2', file: { driver: 'file', filename: 'middle.qcow2' }, backing };
      return overlay(dir, `json:${JSON.stringify(name)}`);
    },
    kind: 'named-file',
    words: ['middle.qcow2: its backing file', ...ALLOWED_BY],
  },
  {
    title: 'an image behind a link: its directory is that of the link, as the command line has it',
    make: (dir) => {
      const { out } = makePlace(dir);
      fs.symlinkSync(overlay(out, 'secret.raw', 'raw'), `${dir}/image.qcow2`);
      return { image: `${dir}/image.qcow2` };
    },
    kind: 'named-file',
    words: ['image.qcow2: its backing file', 'image.qcow2', '/secret.raw'],
  },
  {
    title: 'a file that another process has open',
    make: (dir) => {
      const { secret } = makePlace(dir);
      const fd = fs.openSync(secret, 'r');
      openFiles.push(fd);
      return overlay(dir, `/proc/${process.pid}/fd/${fd}`, 'raw');
    },
    kind: 'named-file',
    words: [`/proc/${process.pid}/fd/`, 'lies outside', 'add --allow-dir /'],
    ownProcess: true,
  },
];

const openFiles: number[] = [];
after(() => {
  for (const fd of openFiles) fs.closeSync(fd);
});

const tooLong: Refusal = {
  title: 'a name that is too long for the host',
  make: (dir) => overlay(dir, 'x'.repeat(300), 'raw'),
  kind: 'named-file',
  words: ['ENAMETOOLONG'],
};

describeRefusals('paths that lead out of the directory', refusalsOf(PATHS));
describeRefusals('names in /proc', refusalsOf(PROC));
describeRefusals('things that are no files', [...refusalsOf(ODDITIES), tooLong]);
describeRefusals('json: names that lead out', onlyBacking(refusalsOf(JSON_NAMES)));
describeRefusals('protocols', refusalsOf(PROTOCOLS));
describeRefusals('names that nobody can type', UNSPEAKABLE);
describeRefusals('chains that lead out', CHAINS);
// Whoever writes, or writes elsewhere, goes through the same gate.
const SOME = [
  ...PATHS.filter(({ how }) => /absolute path$|^\.\.$|a chain of links/.test(how)),
  PROC[0]!,
  ODDITIES[0]!,
];
describeRefusals('ways out when the disk is written', [
  ...refusalsOf(SOME, []),
  ...refusalsOf(SOME, ['--overlay', 'temp']),
]);
