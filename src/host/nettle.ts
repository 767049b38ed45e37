/** Block ciphers of GNU Nettle, the library that QEMU has them from, too. It is loaded when an image needs one. */
import { Qcow2fsError } from '../errors.js';
import { foreignIfPresent } from './libc.js';
import { addressOf } from './memory.js';
import type { BlockPass, Direction } from './openssl.js';

const LIBRARY = 'libnettle.so.8';
const PACKAGE = 'libnettle8';

/** The names of its functions: setting a key, and the rest of the cipher. */
const FUNCTIONS = {
  serpent: { setKey: 'serpent', cipher: 'serpent' },
  twofish: { setKey: 'twofish', cipher: 'twofish' },
  cast5: { setKey: 'cast5', cipher: 'cast128' },
} as const;

/** Room for the largest context, that of Twofish, which takes 4256. */
const CONTEXT_BYTES = 8192;

/** @throws Qcow2fsError 'unsupported' where the library is not installed */
export function nettleEcb(direction: Direction, cipher: keyof typeof FUNCTIONS, key: Uint8Array): BlockPass {
  const names = FUNCTIONS[cipher];
  const setKey = foreignIfPresent(
    `void nettle_${names.setKey}_set_key(uint64_t context, uint64_t length, uint64_t key)`,
    LIBRARY,
  );
  const transform = foreignIfPresent(
    `void nettle_${names.cipher}_${direction}(uint64_t context, uint64_t length, uint64_t target, uint64_t source)`,
    LIBRARY,
  );
  if (setKey === undefined || transform === undefined) {
    throw new Qcow2fsError(
      'unsupported',
      `the cipher ${cipher} needs ${LIBRARY}, which is missing: sudo apt-get install ${PACKAGE}`,
    );
  }
  const context = new Uint8Array(CONTEXT_BYTES);
  setKey(addressOf(context, 0), key.length, addressOf(key, 0));
  return (bytes, length) => {
    if (length > bytes.length) throw new RangeError(`${length} bytes of ${bytes.length}`);
    const at = addressOf(bytes, 0);
    transform(addressOf(context, 0), length, at, at);
  };
}
