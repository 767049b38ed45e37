/** All faults, area by area. */
import type { Fault } from './fault.js';
import { CHECK_FAULTS } from './faults-check.js';
import { CLI_FAULTS } from './faults-cli.js';
import { CRYPTO_FAULTS } from './faults-crypto.js';
import { DAEMON_FAULTS } from './faults-daemon.js';
import { FORMAT_FAULTS } from './faults-format.js';
import { FUSE_FAULTS } from './faults-fuse.js';
import { HOST_FAULTS } from './faults-host.js';
import { READING_FAULTS } from './faults-reading.js';
import { RESULT_FAULTS } from './faults-results.js';
import { WRITING_FAULTS } from './faults-writing.js';

export const FAULTS: readonly Fault[] = [
  ...FORMAT_FAULTS,
  ...READING_FAULTS,
  ...WRITING_FAULTS,
  ...CRYPTO_FAULTS,
  ...HOST_FAULTS,
  ...FUSE_FAULTS,
  ...DAEMON_FAULTS,
  ...CHECK_FAULTS,
  ...RESULT_FAULTS,
  ...CLI_FAULTS,
];
