/** Options of Node for a program under test, such as modules to load first: it does not listen to NODE_OPTIONS. */
import { fileURLToPath } from 'node:url';

/** Has a program `node` that adds the options. The compiled tests lie in dist/test/support. */
const WRAPPER = fileURLToPath(new URL('../../../test/support/node-with-options', import.meta.url));

export function withNodeOptions(options: string, env: NodeJS.ProcessEnv = process.env): NodeJS.ProcessEnv {
  return {
    ...env,
    PATH: `${WRAPPER}:${env['PATH']}`,
    TESTED_NODE: process.execPath,
    TESTED_OPTIONS: options,
  };
}
