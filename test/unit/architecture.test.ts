import { expect } from 'chai';
import { type Source, sources } from '../support/sources.js';

const MAX_LINES = 400;

const below = (...directories: string[]): Source[] =>
  sources.filter(({ name }) => directories.some((directory) => name.startsWith(`${directory}/`)));

function offenders(among: readonly Source[], forbidden: (wanted: string) => boolean): string[] {
  return among.flatMap(({ name, imports }) =>
    imports.filter(forbidden).map((wanted) => `${name} imports ${wanted}`),
  );
}

describe('the architecture', () => {
  it('is looked at: the sources and their imports are found', () => {
    expect(sources.length).to.be.above(30);
    expect(offenders(sources, (wanted) => wanted === 'node:fs')).not.to.deep.equal([]);
    expect(offenders(sources, (wanted) => wanted === 'koffi')).not.to.deep.equal([]);
  });

  it('lets only src/host import koffi', () => {
    const others = sources.filter(({ name }) => !name.startsWith('host/'));
    expect(offenders(others, (wanted) => wanted === 'koffi')).to.deep.equal([]);
  });

  it('keeps I/O out of the formats and the cryptography', () => {
    const pure = below('qcow2/format', 'crypto', 'luks');
    const io = /^(node:)?(fs|child_process|net|http|worker_threads)\b|^host\//;
    // The ciphers themselves, and WebAssembly of our own, which lies beside its module.
    const code = [
      'crypto/block-cipher.ts imports host/nettle.js',
      'crypto/block-cipher.ts imports host/openssl.js',
      'crypto/work-area.ts imports node:fs',
    ];
    expect(offenders(pure, (wanted) => io.test(wanted)).sort()).to.deep.equal(code);
  });

  it('lets the engine know nothing of FUSE, the command line and the daemon', () => {
    const engine = below('qcow2', 'luks', 'crypto');
    expect(offenders(engine, (wanted) => /^(fuse|cli|daemon)\//.test(wanted))).to.deep.equal([]);
  });

  it('changes an image in few places: the tables that commit writes, the mover of data, and the rooms for it', () => {
    const rooms = ['qcow2/writing/', 'qcow2/repair/'];
    const known = ['qcow2/cluster-data.ts', 'qcow2/entry-table.ts', 'qcow2/metadata.ts'];
    const writing = below('qcow2').filter(({ text }) =>
      /\b#?(storage|image)\.(write|zero|punch|truncate)\(/.test(text),
    );
    expect(writing.length).to.be.above(8);
    const others = writing.filter(({ name }) => !rooms.some((room) => name.startsWith(room)));
    expect(others.map(({ name }) => name).sort()).to.deep.equal(known);
  });

  it(`has no source file of more than ${MAX_LINES} lines`, () => {
    const long = sources.filter(({ text }) => text.trimEnd().split('\n').length > MAX_LINES);
    expect(long.map(({ name }) => name)).to.deep.equal([]);
  });

  it('gives every structure a name of its own', () => {
    const names = sources.flatMap(({ text }) =>
      [...text.matchAll(/\bstruct\('([^']+)'/g)].map(([, name]) => name!),
    );
    expect(names.length).to.be.above(20);
    expect(names.filter((name, index) => names.indexOf(name) !== index)).to.deep.equal([]);
  });
});
