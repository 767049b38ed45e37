/** The faults that reviewers plant: each must still fit the source. */
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { AREAS, areaOf } from '../../faults/fault.js';
import { FAULTS } from '../../faults/faults.js';
import { ROOT } from '../../support/qcow2fs.js';

const LEAST = 5;

describe('the faults to plant', () => {
  it('fit the source: each in exactly one place', () => {
    const stale = FAULTS.filter(({ file, find }) => {
      const place = path.join(ROOT, file);
      return !fs.existsSync(place) || fs.readFileSync(place, 'utf8').split(find).length !== 2;
    });
    expect(stale.map(({ name, file }) => `${name} in ${file}`)).to.deep.equal([]);
  });

  it('change the source', () => {
    expect(FAULTS.filter(({ find, replace }) => find === replace)).to.deep.equal([]);
  });

  it('have names of their own, and suspects', () => {
    const names = FAULTS.map(({ name }) => name);
    expect(names.filter((name, index) => names.indexOf(name) !== index)).to.deep.equal([]);
    expect(FAULTS.filter(({ suspects }) => suspects.length === 0)).to.deep.equal([]);
  });

  it('are spread over all areas', () => {
    expect(FAULTS.filter((fault) => areaOf(fault) === undefined).map(({ name }) => name)).to.deep.equal([]);
    const sparse = AREAS.filter((area) => FAULTS.filter((fault) => areaOf(fault) === area).length < LEAST);
    expect(sparse).to.deep.equal([]);
  });
});
