/**
 * Preloaded into a daemon (node --import): makes its grace periods shorter or longer, by the factor in the URL. `hurried`
 * is the environment of a daemon for tests of what follows a grace period, `patient` of one for tests that must do
 * something within it, on a machine of any speed.
 */
import { withNodeOptions } from './node-options.js';

const FROM_MS = 2000;

export const hurried = environmentWith(0.1);
export const patient = environmentWith(10);

/** As `hurried`, from another environment. */
export const hurriedIn = (env: NodeJS.ProcessEnv): NodeJS.ProcessEnv => environmentWith(0.1, env);

function environmentWith(factor: number, env?: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return withNodeOptions(`--import=${import.meta.url}?factor=${factor}`, env);
}

const factor = new URL(import.meta.url).searchParams.get('factor');
if (factor !== null) {
  const real = globalThis.setTimeout;
  const changed = (action: () => void, ms = 0): NodeJS.Timeout =>
    real(action, ms >= FROM_MS ? ms * Number(factor) : ms);
  globalThis.setTimeout = Object.assign(changed, real);
}
