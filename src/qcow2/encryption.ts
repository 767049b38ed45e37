/**
 * Where the ciphers meet the clusters: which sector number a byte is encrypted with. Legacy AES counts sectors of the
 * guest disk, LUKS sectors of the file that holds the data (QEMU block/qcow2-cluster.c, crypto/block.c). Compressed
 * clusters are never encrypted, so nothing here sees them.
 */
import { createSectorCipher, type SectorCipher, type SectorCipherSpec } from '../crypto/sector-cipher.js';
import { type GuestOffset, type HostOffset, SECTOR_SIZE } from './format/units.js';

/** Plain data, master key included: it travels to the threads of the process and nowhere else. */
export interface EncryptionSpec {
  readonly tweak: 'guest' | 'host';
  readonly cipher: SectorCipherSpec;
}

/** The cipher of an image that is encrypted; `locked` where nobody gave its key, so that only its mapping can be told. */
export type EncryptionState = EncryptionSpec | 'locked';

/** When no thread needs it any more. */
export function wipeKey(encryption: EncryptionState | undefined): void {
  if (encryption !== undefined && encryption !== 'locked') encryption.cipher.key.fill(0);
}

export class Encryption {
  readonly #cipher: SectorCipher;
  readonly #byGuest: boolean;

  constructor(spec: EncryptionSpec) {
    this.#cipher = createSectorCipher(spec.cipher);
    this.#byGuest = spec.tweak === 'guest';
  }

  /** Where sectors are best put to be encrypted or decrypted; its content does not outlive the next call. */
  get work(): Buffer {
    return this.#cipher.work;
  }

  /** Decrypts whole sectors in place; both offsets are those of `buffer[start]`. */
  decrypt(buffer: Buffer, start: number, length: number, guest: GuestOffset, host: HostOffset): void {
    this.#cipher.decrypt(buffer, start, length, (this.#byGuest ? guest : host) / SECTOR_SIZE);
  }

  /** As `decrypt`, the other way. */
  encrypt(buffer: Buffer, start: number, length: number, guest: GuestOffset, host: HostOffset): void {
    this.#cipher.encrypt(buffer, start, length, (this.#byGuest ? guest : host) / SECTOR_SIZE);
  }
}
