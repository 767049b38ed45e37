/** Entry of the command line. */
import { dropDaemon, launchEarly } from '../daemon/launch.js';

/** Short options in one word, as in `-rf`, may hide the ones that need no daemon. */
const WITHOUT_DAEMON = /^(-[a-zA-Z]*[fhV]|--foreground|--help|--version)/;

/** True for what will probably mount in the background; the commands themselves know. */
function looksLikeMount(args: readonly string[]): boolean {
  const isMount = args[0] === 'mount' || /^[^-].*[./]|^[./]/.test(args[0] ?? '');
  return isMount && args.length > 1 && !args.some((word) => WITHOUT_DAEMON.test(word));
}

const args = process.argv.slice(2);
if (looksLikeMount(args)) launchEarly(args);
const { run } = await import('./program.js');
const status = await run(args);
await dropDaemon();
// fuse-native leaves handles behind that would keep the process.
process.exit(status);
