import { plainVariants } from '../support/variants-plain.js';
import { describeMatrix } from './suite.js';

describeMatrix('plain images', plainVariants);
