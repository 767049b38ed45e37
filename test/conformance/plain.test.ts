import { plainVariants } from '../support/variants-plain.js';
import { describeConformance } from './suite.js';

describeConformance('plain', plainVariants);
