import { chainVariants } from '../support/variants-chains.js';
import { describeMatrix } from './suite.js';

describeMatrix('chains images', chainVariants);
