import fs from 'node:fs';
import { expect } from 'chai';
import { absolutePath, resolveMountpoint } from '../../../src/cli/paths.js';
import { useScratch } from '../../support/scratch.js';

describe('a path of the command line', () => {
  const scratch = useScratch();
  let dir: string;

  before(() => {
    dir = scratch.dir;
    fs.mkdirSync(`${dir}/real/deep`, { recursive: true });
    fs.mkdirSync(`${dir}/real/mnt`);
    fs.symlinkSync('real/deep', `${dir}/link`);
  });

  it('stays as it was given, but absolute', () => {
    expect(absolutePath(`${dir}/link/image`)).to.equal(`${dir}/link/image`);
    expect(absolutePath(`${dir}//link/./image`)).to.equal(`${dir}/link/image`);
    expect(absolutePath('image')).to.equal(`${process.cwd()}/image`);
  });

  it('leads where the host says that it leads, behind a link too', () => {
    expect(absolutePath(`${dir}/link/../image`)).to.equal(`${dir}/real/image`);
    expect(absolutePath(`${dir}/real/../image`)).to.equal(`${dir}/image`);
    expect(absolutePath(`${dir}/missing/../image`)).to.equal(`${dir}/image`);
    expect(resolveMountpoint(`${dir}/link/../mnt`)).to.equal(`${dir}/real/mnt`);
  });
});
