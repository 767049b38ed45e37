import { encryptedVariants } from '../support/variants-encrypted.js';
import { describeMatrix } from './suite.js';

describeMatrix('encrypted images', encryptedVariants);
