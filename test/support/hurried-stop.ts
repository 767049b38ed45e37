/**
 * Preloaded into a daemon (node --import): shortens its grace periods to a tenth, for tests of what follows them.
 * `hurried` is the environment for such a daemon.
 */
const FROM_MS = 2000;
const FACTOR = 10;

export const hurried: NodeJS.ProcessEnv = { ...process.env, NODE_OPTIONS: `--import=${import.meta.url}` };

if (process.env['NODE_OPTIONS'] === hurried['NODE_OPTIONS']) {
  const real = globalThis.setTimeout;
  const hasty = (action: () => void, ms = 0): NodeJS.Timeout =>
    real(action, ms >= FROM_MS ? ms / FACTOR : ms);
  globalThis.setTimeout = Object.assign(hasty, real);
}
