import { expect } from 'chai';
import { parseImageName } from '../../../src/qcow2/image-name.js';
import { expectError } from '../support/errors.js';

const plain = { format: undefined, start: 0, length: undefined, backing: 'own' };
const json = (options: unknown) => parseImageName(`json:${JSON.stringify(options)}`, 'image');
const refuses = (options: unknown, ...words: string[]) =>
  expectError('named-file', ['image: ', ...words], () => json(options));

describe('a file name in an image', () => {
  it('may be a plain path', () => {
    for (const filename of ['base.raw', '/a/b', '../x', 'dir:with/colon'.replace('dir:', 'dir/:'), './a:b']) {
      expect(parseImageName(filename, 'image')).to.deep.equal({ ...plain, filename });
    }
  });

  it('may say file:', () => {
    expect(parseImageName('file:/a:b', 'image')).to.deep.equal({ ...plain, filename: '/a:b' });
  });

  it('of another protocol is refused by that name', () => {
    for (const protocol of ['nbd', 'https', 'ssh', 'fat', '']) {
      const name = `${protocol}:x`;
      expectError('named-file', ['image: ', name, 'only local files'], () => parseImageName(name, 'image'));
    }
  });

  it('may be JSON options, nested or dotted', () => {
    const expected = { ...plain, filename: 'x', format: 'qcow2' };
    expect(json({ driver: 'qcow2', file: { driver: 'file', filename: 'x' } })).to.deep.equal(expected);
    expect(json({ driver: 'qcow2', file: { filename: 'x' } })).to.deep.equal(expected);
    expect(json({ driver: 'qcow2', 'file.driver': 'file', 'file.filename': 'x' })).to.deep.equal(expected);
    expect(json({ driver: 'qcow2', file: { driver: 'file' }, 'file.filename': 'x' })).to.deep.equal(expected);
    expect(json({ driver: 'file', filename: 'x' })).to.deep.equal({ ...plain, filename: 'x' });
    expect(json({ driver: 'qcow2', filename: 'x' })).to.deep.equal(expected);
  });

  it('may tell a part of a raw file', () => {
    const file = { filename: 'x' };
    expect(json({ driver: 'raw', offset: 512, size: '1024', file })).to.include({ start: 512, length: 1024 });
    for (const size of [-1, 1.5, '1k', true, 2 ** 53]) refuses({ driver: 'raw', size, file }, '"size"');
  });

  it('may tell another backing file, or that there is none', () => {
    const file = { filename: 'x' };
    expect(json({ driver: 'qcow2', file, backing: null }).backing).to.equal('none');
    expect(json({ driver: 'qcow2', file, backing: '' }).backing).to.equal('none');
    const other = { driver: 'raw', 'file.filename': 'y' };
    expect(json({ driver: 'qcow2', file, backing: other }).backing).to.include({
      filename: 'y',
      format: 'raw',
    });
    refuses({ driver: 'qcow2', file, backing: 'node0' }, 'backing node');
  });

  it('may not give a part of anything but a raw file', () => {
    for (const driver of ['file', 'qcow2', undefined]) {
      refuses({ driver, filename: 'x', offset: 512 }, 'only the raw driver');
    }
  });

  it('nested deeper than any real name is refused', () => {
    const name = `json:${'{"file":'.repeat(20_000)}1${'}'.repeat(20_000)}`;
    expectError('named-file', ['image: ', 'nested too deep'], () => parseImageName(name, 'image'));
    const dotted = `json:{"${'file.'.repeat(20_000)}x":1}`;
    expectError('named-file', ['image: ', 'nested too deep'], () => parseImageName(dotted, 'image'));
  });

  it('that is no JSON object is refused', () => {
    for (const name of ['json:', 'json:{', 'json:[]', 'json:null', 'json:"x"']) {
      expectError('named-file', ['image: '], () => parseImageName(name, 'image'));
    }
  });

  it('with options that mean something unknown is refused by their names', () => {
    refuses({ driver: 'qcow2', file: { filename: 'x' }, 'data-file': 'y' }, '"data-file"');
    refuses({ driver: 'raw', file: { driver: 'nbd', host: 'x' } }, '"host"');
    refuses({ driver: 'qcow2', 'file.server.host': 'x', 'file.filename': 'y' }, '"server"');
  });

  it('that refers to nodes, names nothing or names no text is refused', () => {
    refuses({ driver: 'qcow2', file: 'node0' }, 'node');
    refuses({ driver: 'qcow2', file: 'node0', 'file.filename': 'x' }, 'twice');
    refuses({}, 'no file');
    refuses({ driver: 'file' }, '"filename"');
    refuses({ driver: 'qcow2', file: { filename: 7 } }, '"filename"');
    refuses({ driver: 7, file: { filename: 'x' } }, '"driver"');
    refuses({ driver: 'qcow2', filename: 'nbd:x' }, 'nbd');
  });

  it('that stacks drivers is refused', () => {
    const inner = { driver: 'qcow2', file: { filename: 'x' } };
    refuses({ driver: 'raw', file: inner }, 'stacks raw on qcow2');
  });

  it('never reaches the prototypes of objects', () => {
    const attempts = [
      '{"__proto__": {"polluted": 1}}',
      '{"__proto__.polluted": 1}',
      '{"constructor.prototype.polluted": 1}',
      '{"driver":"qcow2","file":{"driver":"file","filename":"x"},"file.__proto__.polluted":1}',
      '{"file": {"__proto__": {"filename": "x"}}}',
    ];
    for (const attempt of attempts) {
      expectError('named-file', [], () => parseImageName(`json:${attempt}`, 'image'));
      expect(({} as { polluted?: number }).polluted).to.equal(undefined);
    }
  });
});
