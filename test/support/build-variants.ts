/**
 * A tool for people: builds image variants into a directory, one subdirectory each, and checks them.
 *
 *     node dist/test/support/build-variants.js DIR [WORDS...]
 *
 * builds all variants, or those whose name contains any of WORDS, with a process on every core: most of the time
 * goes into QEMU's benchmark of the key derivation, one or two seconds of one core for each kind of LUKS header.
 */

import { spawn } from 'node:child_process';
import { mkdirSync, rmSync, statSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { checkImage } from './images.js';
import { type Variant, variants } from './variants.js';

async function main(args: readonly string[]): Promise<number> {
  const [target, ...words] = args;
  if (target === undefined) {
    process.stderr.write('usage: node build-variants.js DIR [WORDS...]\n');
    return 2;
  }
  const names = new Set(variants.map((variant) => variant.name));
  if (names.size !== variants.length) throw new Error('two variants have the same name');
  const chosen = variants.filter(
    ({ name }) => words.length === 0 || words.some((word) => name.includes(word)),
  );

  const share = process.env['BUILD_SHARE'];
  if (share !== undefined) {
    const [index, count] = share.split('/').map(Number);
    const mine = chosen.filter((_, position) => position % count! === index);
    return mine.filter((variant) => !buildOne(resolve(target), variant)).length;
  }

  const started = performance.now();
  const jobs = Math.min(availableParallelism(), chosen.length);
  const shares = Array.from({ length: jobs }, (_, job) => buildShare(args, `${job}/${jobs}`));
  const failures = (await Promise.all(shares)).reduce((sum, count) => sum + count, 0);
  process.stdout.write(`${chosen.length - failures} built, ${failures} failed, ${seconds(started)} s\n`);
  return failures === 0 ? 0 : 1;
}

/** Runs this program again for one share of the variants; resolves to the number of failures. */
function buildShare(args: readonly string[], share: string): Promise<number> {
  const child = spawn(process.execPath, [fileURLToPath(import.meta.url), ...args], {
    stdio: 'inherit',
    env: { ...process.env, BUILD_SHARE: share },
  });
  return new Promise((done, failed) => {
    child.on('error', failed);
    child.on('exit', (status, signal) => {
      if (status === null) failed(new Error(`share ${share}: ${signal}`));
      else done(status);
    });
  });
}

/** Builds into DIR/<number>; prints directory, name, size and seconds, or what went wrong. */
function buildOne(target: string, variant: Variant): boolean {
  const dir = join(target, String(variants.indexOf(variant)).padStart(3, '0'));
  rmSync(dir, { recursive: true, force: true });
  mkdirSync(dir, { recursive: true });
  const started = performance.now();
  try {
    const image = variant.build(dir);
    const took = seconds(started);
    if (image.unclean !== true) checkImage(image.source);
    const size = statSync(image.expected).size;
    process.stdout.write(`${dir}  ${variant.name}: ${size} bytes, ${took} s\n`);
    return true;
  } catch (error) {
    process.stdout.write(`${dir}  ${variant.name}: FAILED: ${error}\n`);
    return false;
  }
}

function seconds(started: number): string {
  return ((performance.now() - started) / 1000).toFixed(2);
}

process.exitCode = await main(process.argv.slice(2));
