import { encryptedVariants } from '../support/variants-encrypted.js';
import { describeConformance } from './suite.js';

describeConformance('encrypted', encryptedVariants);
