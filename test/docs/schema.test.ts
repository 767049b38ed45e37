/** contrib/schema: what `--json` prints is what the schemas say. */

import fs from 'node:fs';
import path from 'node:path';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { expect } from 'chai';
import { FINDING_KINDS } from '../../src/qcow2/check/finding.js';
import { l2EntryOffset, patchNumber, readNumber } from '../support/damage.js';
import {
  addBitmap,
  createImage,
  imagePath,
  MiB,
  takeSnapshot,
  writeSecret,
  writeSteps,
} from '../support/images.js';
import { expectQcow2fs, mountReadOnly, qcow2fs, ROOT } from '../support/qcow2fs.js';
import { useScratch } from '../support/scratch.js';

const DIRECTORY = path.join(ROOT, 'contrib', 'schema');
const COMMANDS = ['info', 'list', 'check', 'map', 'hash'] as const;

interface Schema {
  readonly $id: string;
  readonly $defs?: {
    readonly finding: { readonly properties: { readonly kind: { readonly enum: string[] } } };
  };
}

const schemaOf = (name: string): Schema =>
  JSON.parse(fs.readFileSync(path.join(DIRECTORY, `${name}-1.json`), 'utf8')) as Schema;

/** Objects have no property that their schema does not describe, so that the test learns of new ones. */
function closed(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(closed);
  if (typeof schema !== 'object' || schema === null) return schema;
  const entries = Object.entries(schema).map(([key, value]) => [key, closed(value)]);
  const isObject = 'type' in schema && 'properties' in schema && !('additionalProperties' in schema);
  return { ...Object.fromEntries(entries), ...(isObject ? { additionalProperties: false } : {}) };
}

function expectValid(name: string, output: string): void {
  const validate = new Ajv2020({ strict: true, strictRequired: false, strictTypes: false }).compile(
    closed(schemaOf(name)) as object,
  );
  const value: unknown = JSON.parse(output);
  expect(validate(value), JSON.stringify(validate.errors)).to.equal(true);
  expect((value as { schema: string }).schema).to.equal(`qcow2fs/${name}/1`);
}

// contrib/docs/guide.md: "`list`, `info`, `check`, `map` and `hash` have `--json`; [JSON schemas](../schema)
// describe the output."
describe('the JSON schemas', () => {
  const scratch = useScratch();

  it('are there for each command that has --json', () => {
    const withJson = [...expectQcow2fs(['--help']).matchAll(/^ {2}([a-z]+)[|a-z]* /gm)]
      .map(([, name]) => name!)
      .filter((name) => expectQcow2fs([name, '--help']).includes('--json'));
    expect(withJson).to.have.members([...COMMANDS]);
    expect(fs.readdirSync(DIRECTORY).sort()).to.deep.equal(withJson.map((name) => `${name}-1.json`).sort());
    for (const name of withJson) expect(schemaOf(name).$id).to.equal(`urn:qcow2fs:schema:${name}:1`);
  });

  // contrib/docs/guide.md: "`check` finds all that `qemu-img check` finds, and more; [check.md](check.md)
  // explains every kind of finding."
  it('have their findings explained in contrib/docs/check.md', () => {
    const text = fs.readFileSync(path.join(ROOT, 'contrib/docs/check.md'), 'utf8');
    const rows = [...text.matchAll(/^\| `([a-z0-9-]+)` \| (\w+) \| (?:-|`--repair (\w+)`) \| (.*?) \|/gm)];
    const listed = rows.map(([, kind, severity, remedy = 'none', meaning]) => [
      kind,
      { severity, remedy, meaning },
    ]);
    const known = Object.entries(FINDING_KINDS).map(([kind, { severity, remedy, meaning }]) => [
      kind,
      { severity, remedy, meaning },
    ]);
    expect(listed).to.deep.equal(known);
  });

  it('describe info', () => {
    const secret = writeSecret(scratch.subdir(), 'secret');
    const encryption = ['encrypt.format=luks', 'encrypt.iter-time=10'];
    const image = createImage(scratch.subdir(), { size: MiB, secret, encryption });
    expectValid('info', expectQcow2fs(['info', '--json', imagePath(image)]));
    const plain = createImage(scratch.subdir(), { size: MiB });
    addBitmap(plain, 'backup');
    takeSnapshot(plain, 'first', '1');
    expectValid('info', expectQcow2fs(['info', '--json', imagePath(plain)]));
  });

  it('describe list', () => {
    const mounted = mountReadOnly(imagePath(createImage(scratch.subdir(), { size: MiB })), scratch.dir);
    expectValid('list', expectQcow2fs(['list', '--json']));
    mounted.unmount();
  });

  it('describe check', () => {
    const image = createImage(scratch.subdir(), { size: MiB });
    writeSteps(image, 1, [{ do: 'data', offset: 0, length: MiB / 2 }]);
    expectValid('check', expectQcow2fs(['check', '--json', imagePath(image)]));
    const entry = l2EntryOffset(imagePath(image), 0);
    patchNumber(imagePath(image), entry, 8, readNumber(imagePath(image), entry, 8) | (1n << 58n));
    for (const args of [['check'], ['check', '--repair', 'leaks'], ['check', '--repair', 'all']]) {
      expectValid('check', qcow2fs([...args, '--json', imagePath(image)]).stdout);
    }
    expect(schemaOf('check').$defs!.finding.properties.kind.enum).to.deep.equal(Object.keys(FINDING_KINDS));
  });

  it('describe map, of damaged images too', () => {
    const dir = scratch.subdir();
    const base = createImage(dir, { name: 'base.qcow2', size: MiB });
    writeSteps(base, 1, [
      { do: 'compressed', offset: 0, length: MiB / 4 },
      { do: 'zero', offset: MiB / 4, length: MiB / 4 },
    ]);
    const top = createImage(dir, { size: MiB, backing: { file: 'base.qcow2', format: 'qcow2' } });
    writeSteps(top, 1, [{ do: 'data', offset: MiB / 2, length: MiB / 4 }]);
    expectValid('map', expectQcow2fs(['map', '--json', imagePath(top)]));
    const entry = l2EntryOffset(imagePath(top), MiB / 2);
    patchNumber(imagePath(top), entry, 8, readNumber(imagePath(top), entry, 8) + 512n);
    expectValid('map', qcow2fs(['map', '--json', imagePath(top)]).stdout);
  });

  it('describe hash: whole, in pieces, compared, and of damaged images', () => {
    const image = createImage(scratch.subdir(), { size: MiB });
    writeSteps(image, 1, [{ do: 'data', offset: 0, length: MiB / 2 }]);
    const path = imagePath(image);
    const sums = scratch.path('sums');
    fs.writeFileSync(sums, expectQcow2fs(['hash', path]));
    expectValid('hash', expectQcow2fs(['hash', '--json', '--algorithm', 'sha256,md5', path]));
    expectValid('hash', expectQcow2fs(['hash', '--json', '--piecewise', '64K', path]));
    expectValid('hash', expectQcow2fs(['hash', '--json', '--verify', sums, path]));
    const entry = l2EntryOffset(path, 0);
    patchNumber(path, entry, 8, readNumber(path, entry, 8) + 512n);
    expectValid('hash', qcow2fs(['hash', '--json', path]).stdout);
    expectValid('hash', qcow2fs(['hash', '--json', '--verify', sums, path]).stdout);
  });
});
