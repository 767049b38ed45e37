/**
 * Preloaded into a daemon (node --import): the seconds that it gives to those who still use the disk are tenths of
 * seconds, for tests of what comes after them. `hurried` is the environment of such a daemon.
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
