/**
 * Preloaded into `qcow2fs` (node --import): the program believes to run on PRETENDED_PLATFORM. What it finds there is
 * still this machine, so this shows what it refuses and what it can do without, and nothing of a port.
 */
import { createRequire } from 'node:module';

// It looks for its own library by platform, once.
createRequire(import.meta.url)('koffi');
Object.defineProperty(process, 'platform', { value: process.env['PRETENDED_PLATFORM'] });
