import { run } from '../../src/cli/program.js';
export async function expectInProcess(args: readonly string[]): Promise<string> {
  const { write } = process.stdout;
  let text = '';
  process.stdout.write = ((part: string | Uint8Array, done?: () => void) => {
    text += typeof part === 'string' ? part : Buffer.from(part).toString();
    if (typeof done === 'function') setImmediate(done);
    return true;
  }) as typeof process.stdout.write;
  let status = 0;
  try {
    status = await run(args);
  } finally {
    process.stdout.write = write;
  }
  if (status !== 0) throw new Error(`status ${status}`);
  return text;
}
