/** The sources of the program, and what each of them imports. */

import fs from 'node:fs';
import path from 'node:path';
import { ROOT } from './qcow2fs.js';

const SOURCES = path.join(ROOT, 'src');
const IMPORT = /(?:\bfrom\s*|\bimport\s*\(?\s*|\brequire\w*\(?[^)\n]*\)?\(\s*)['"]([^'"]+)['"]/g;

export interface Source {
  /** Relative to src/. */
  readonly name: string;
  readonly text: string;
  /** Packages as written, files relative to src/. */
  readonly imports: readonly string[];
}

export const sources: readonly Source[] = fs
  .readdirSync(SOURCES, { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.ts'))
  .map((name) => {
    const text = fs.readFileSync(path.join(SOURCES, name), 'utf8');
    const imports = [...text.matchAll(IMPORT)].map(([, wanted]) =>
      wanted!.startsWith('.') ? path.join(path.dirname(name), wanted!) : wanted!,
    );
    return { name, text, imports };
  });
