/** Judges what a power cut left: the guest's view, the reference check, and a second life. */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import type { Image } from '../images.js';
import { type Expectation, perform, workload } from './history.js';
import type { CrashImage } from './images.js';
import { checkImage, convertedContent, corruptionOf } from './oracle.js';
import { contentOf, type Files, inMemory, openInMemory, readAndClose } from './recording.js';

/** Each state that many is also converted by the reference, or lives on. */
const CONVERT_EVERY = 24;
const REVIVE_EVERY = 6;

export class Judge {
  readonly #image: CrashImage;
  /** The image for the reference tools, in a directory of its own. */
  readonly #copy: Image;
  readonly #seen = new Set<string>();
  readonly #snapshot: Buffer | undefined;
  /** Different images judged. */
  states = 0;

  private constructor(image: CrashImage, copy: Image, snapshot: Buffer | undefined) {
    this.#image = image;
    this.#copy = copy;
    this.#snapshot = snapshot;
  }

  /** @param before the files before anything was written */
  static async of(image: CrashImage, before: Files): Promise<Judge> {
    const { dir } = image.image;
    const copy = { ...image.image, dir: `${dir}-copy` };
    fs.cpSync(dir, copy.dir, { recursive: true });
    const { snapshot } = image;
    const disk = snapshot && (await openInMemory(image.image, inMemory(before), { snapshot }));
    return new Judge(image, copy, disk ? readAndClose(disk) : undefined);
  }

  /** @param what names the state */
  async judge(files: Files, expectation: Expectation, what: string): Promise<void> {
    const content = await this.#read(files, expectation, what);
    const hash = createHash('sha1');
    for (const file of files.values()) hash.update(`${file.length} `).update(file);
    const digest = hash.digest('base64');
    if (this.#seen.has(digest)) return;
    this.#seen.add(digest);
    const state = this.states++;
    this.#show(files);
    const problem = corruptionOf(this.#copy);
    if (problem !== undefined) throw new Error(`${what}: ${problem}`);
    if (state % CONVERT_EVERY === 1 && !convertedContent(this.#copy).equals(content)) {
      throw new Error(`${what}: the reference reads something else`);
    }
    if (state % REVIVE_EVERY === 0) await this.#revive(files, content, state, what);
  }

  async #read(files: Files, expectation: Expectation, what: string): Promise<Buffer> {
    const { image } = this.#image;
    const fail = (problem: unknown): Error => new Error(`${what}: ${problem}`);
    let content: Buffer;
    try {
      content = readAndClose(await openInMemory(image, inMemory(files)));
    } catch (error) {
      throw fail(error);
    }
    const problem = expectation.problemOf(content);
    if (problem !== undefined) throw fail(problem);
    if (this.#snapshot === undefined) return content;
    const { snapshot } = this.#image;
    const kept = readAndClose(await openInMemory(image, inMemory(files), { snapshot }));
    if (!kept.equals(this.#snapshot)) throw fail('the snapshot changed');
    return content;
  }

  /** The image is mounted and written again, and only leaks remain of its past. */
  async #revive(files: Files, content: Buffer, seed: number, what: string): Promise<void> {
    const { image, clusterSize } = this.#image;
    const revived = inMemory(files);
    const options = { operations: 8, clusterSize, maxLength: 4 * clusterSize, growth: 0 };
    const shadow = Buffer.from(content);
    try {
      const disk = await openInMemory(image, revived, { writable: true });
      for (const operation of workload(seed + 1, content.length, options)) {
        perform(disk, operation);
        if (operation.do === 'write') operation.bytes.copy(shadow, operation.offset);
        else if (operation.do === 'zero' || operation.do === 'discard') {
          shadow.fill(0, operation.offset, operation.offset + operation.length);
        }
      }
      if (!contentOf(disk).equals(shadow)) throw new Error('it reads something else than was written');
      disk.close();
    } catch (error) {
      throw new Error(`${what}, mounted again: ${error}`);
    }
    this.#show(new Map([...revived].map(([name, file]) => [name, file.content])));
    const { corruptions, leaks, errors, report } = checkImage(this.#copy, true);
    if (corruptions + leaks + errors > 0) throw new Error(`${what}, mounted again: ${report}`);
  }

  /** The reference tools find these files in the copy. */
  #show(files: Files): void {
    for (const [name, content] of files) {
      fs.writeFileSync(path.join(this.#copy.dir, path.basename(name)), content);
    }
  }
}
