import { chainVariants } from '../support/variants-chains.js';
import { describeConformance } from './suite.js';

describeConformance('chains', chainVariants);
