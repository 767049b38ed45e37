/** Judges what a power cut left: the guest's view, the reference check, and a second life. */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import type { Image } from '../images.js';
import { type Expectation, perform, workload } from './history.js';
import type { CrashImage } from './images.js';
import { checkImage, convertedContent, corruptionOf } from './oracle.js';
import { contentOf, type Files, inMemory, openInMemory, readAndClose } from './recording.js';

/** Reference tools that run at a time. */
const SLOTS = 3;
/** Each state that many is also converted by the reference, or lives on. */
const CONVERT_EVERY = 24;
const REVIVE_EVERY = 6;

export class Judge {
  readonly #image: CrashImage;
  readonly #free: string[];
  readonly #running = new Set<Promise<void>>();
  readonly #seen = new Set<string>();
  readonly #problems: string[] = [];
  readonly #snapshot: Buffer | undefined;
  /** Different images judged. */
  states = 0;

  private constructor(image: CrashImage, slots: string[], snapshot: Buffer | undefined) {
    this.#image = image;
    this.#free = slots;
    this.#snapshot = snapshot;
  }

  /** @param before the files before anything was written */
  static async of(image: CrashImage, before: Files): Promise<Judge> {
    const { dir } = image.image;
    const slots = Array.from({ length: SLOTS }, (_, i) => `${dir}-slot-${i}`);
    for (const slot of slots) fs.cpSync(dir, slot, { recursive: true });
    const { snapshot } = image;
    const disk = snapshot && (await openInMemory(image.image, inMemory(before), { snapshot }));
    return new Judge(image, slots, disk ? readAndClose(disk) : undefined);
  }

  /** @param what names the state */
  async judge(files: Files, expectation: Expectation, what: string): Promise<void> {
    this.#throwProblems();
    const content = await this.#read(files, expectation, what);
    const hash = createHash('sha1');
    for (const file of files.values()) hash.update(`${file.length} `).update(file);
    const digest = hash.digest('base64');
    if (this.#seen.has(digest)) return;
    this.#seen.add(digest);
    const state = this.states++;
    await this.#inSlot(files, async (image) => {
      const problem = await corruptionOf(image);
      if (problem !== undefined) this.#problems.push(`${what}: ${problem}`);
      else if (state % CONVERT_EVERY === 1 && !(await convertedContent(image)).equals(content)) {
        this.#problems.push(`${what}: the reference reads something else`);
      }
    });
    if (state % REVIVE_EVERY === 0) await this.#revive(files, content, state, what);
  }

  /** Waits for what is under way. */
  async finish(): Promise<void> {
    await Promise.all(this.#running);
    this.#throwProblems();
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
    const after = new Map([...revived].map(([name, file]) => [name, file.content]));
    await this.#inSlot(after, async (mended) => {
      const { corruptions, leaks, errors, report } = await checkImage(mended, true);
      if (corruptions + leaks + errors > 0) this.#problems.push(`${what}, mounted again: ${report}`);
    });
  }

  /** Starts the action on a copy of the files in a directory of its own, when one is free. */
  async #inSlot(files: Files, action: (image: Image) => Promise<void>): Promise<void> {
    while (this.#free.length === 0) await Promise.race(this.#running);
    const dir = this.#free.pop()!;
    for (const [name, content] of files) fs.writeFileSync(path.join(dir, path.basename(name)), content);
    const running: Promise<void> = action({ ...this.#image.image, dir })
      .catch((error: unknown) => {
        this.#problems.push(String(error));
      })
      .finally(() => {
        this.#running.delete(running);
        this.#free.push(dir);
      });
    this.#running.add(running);
  }

  #throwProblems(): void {
    if (this.#problems.length > 0) throw new Error(this.#problems.join('\n'));
  }
}
