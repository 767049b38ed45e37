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
const COMMANDS = ['info', 'list', 'check'] as const;

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
  const isObject = 'properties' in schema && !('additionalProperties' in schema);
  return { ...Object.fromEntries(entries), ...(isObject ? { additionalProperties: false } : {}) };
}

function expectValid(name: string, output: string): void {
  const validate = new Ajv2020({ strict: true, allowUnionTypes: true }).compile(
    closed(schemaOf(name)) as object,
  );
  const value: unknown = JSON.parse(output);
  expect(validate(value), JSON.stringify(validate.errors)).to.equal(true);
  expect((value as { schema: string }).schema).to.equal(`qcow2fs/${name}/1`);
}

describe('the JSON schemas', () => {
  const scratch = useScratch();

  it('are there for each command that has --json', () => {
    const withJson = [...expectQcow2fs(['--help']).matchAll(/^ {2}([a-z]+)[|a-z]* /gm)]
      .map(([, name]) => name!)
      .filter((name) => expectQcow2fs([name, '--help']).includes('--json'));
    expect(withJson).to.include.members([...COMMANDS]);
    expect(fs.readdirSync(DIRECTORY).sort()).to.deep.equal(withJson.map((name) => `${name}-1.json`).sort());
    for (const name of withJson) expect(schemaOf(name).$id).to.equal(`qcow2fs/${name}/1`);
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
});
