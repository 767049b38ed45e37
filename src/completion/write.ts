/** Makes the files that shells load: their engines below contrib/completion, filled with what the program has. */
import { buildProgram } from '../cli/program.js';
import fs from '../fs.js';
import { bashTables } from './bash.js';
import { fishTables } from './fish.js';
import { describeProgram } from './model.js';
import { withTables } from './tables.js';
import { zshTables } from './zsh.js';

const TOP = new URL('../../../', import.meta.url);
const SHELLS = [
  { engine: 'engine.bash', file: 'qcow2fs.bash', tables: bashTables },
  { engine: 'engine.zsh', file: '_qcow2fs', tables: zshTables },
  { engine: 'engine.fish', file: 'qcow2fs.fish', tables: fishTables },
] as const;

export function writeCompletions(): void {
  const completion = describeProgram(buildProgram());
  fs.mkdirSync(new URL('dist/completion/', TOP), { recursive: true });
  for (const { engine, file, tables } of SHELLS) {
    const text = fs.readFileSync(new URL(`contrib/completion/${engine}`, TOP), 'utf8');
    fs.writeFileSync(new URL(`dist/completion/${file}`, TOP), withTables(text, tables(completion)));
  }
}
