import { expect } from 'chai';
import { parseImageName, stackOf } from '../../../src/qcow2/image-name.js';
import { expectError } from '../support/errors.js';

const WHOLE = { start: 0, length: Number.POSITIVE_INFINITY };
const own = (driver: string | undefined) => ({ ...WHOLE, driver, backing: 'own' });
const named = (filename: string, ...drivers: (string | undefined)[]) => ({
  filename,
  nodes: drivers.map(own),
});
const json = (options: unknown) => parseImageName(`json:${JSON.stringify(options)}`, 'image');
const dialect = (text: string) => parseImageName(`json:${text}`, 'image');
const refuses = (options: unknown, ...words: string[]) =>
  expectError('named-file', ['image: ', ...words], () => json(options));

describe('a file name in an image', () => {
  it('may be a plain path', () => {
    for (const filename of ['base.raw', '/a/b', '../x', 'dir:with/colon'.replace('dir:', 'dir/:'), './a:b']) {
      expect(parseImageName(filename, 'image')).to.deep.equal(named(filename, undefined));
    }
  });

  it('may say file:', () => {
    expect(parseImageName('file:/a:b', 'image')).to.deep.equal(named('/a:b', undefined));
  });

  it('of another protocol is refused by that name', () => {
    for (const protocol of ['nbd', 'https', 'ssh', 'fat', '']) {
      const name = `${protocol}:x`;
      expectError('named-file', ['image: ', name, 'only local files'], () => parseImageName(name, 'image'));
    }
  });

  it('may be JSON options, nested or dotted', () => {
    const expected = named('x', 'qcow2');
    expect(json({ driver: 'qcow2', file: { driver: 'file', filename: 'x' } })).to.deep.equal(expected);
    expect(json({ driver: 'qcow2', file: { filename: 'x' } })).to.deep.equal(expected);
    expect(json({ driver: 'qcow2', 'file.driver': 'file', 'file.filename': 'x' })).to.deep.equal(expected);
    expect(json({ driver: 'qcow2', file: { driver: 'file' }, 'file.filename': 'x' })).to.deep.equal(expected);
    expect(json({ driver: 'file', filename: 'x' })).to.deep.equal(named('x', undefined));
    expect(json({ driver: 'qcow2', filename: 'x' })).to.deep.equal(expected);
  });

  it('may have strings in single quotes, as QEMU takes and stores them', () => {
    const texts = [
      `{'driver':'qcow2','file':{'driver':'file','filename':'x'}}`,
      ` {\t'driver' : "qcow2" ,\n'file.filename':'x'} `,
      `{"driver":'qcow2','file':{"driver":"file",'filename':'\\u0078'}}`,
    ];
    for (const text of texts) expect(dialect(text)).to.deep.equal(named('x', 'qcow2'));
    const odd = `"\\b/{}:',`;
    for (const quoted of [`'"\\\\b\\/{}:\\','`, `"\\"\\\\b/{}:\\',"`]) {
      expect(dialect(`{'driver':'raw','file.filename':${quoted}}`).filename).to.equal(odd);
    }
    for (const text of [
      `{'driver':'raw}`,
      `{'driver':'raw",'file.filename':'x'}`,
      `{'a\\':1}`,
      `{driver:'raw'}`,
    ]) {
      expectError('named-file', ['image: ', 'not JSON'], () => dialect(text));
    }
  });

  it('may tell a part of a raw file, in the sizes that QEMU takes', () => {
    const file = { filename: 'x' };
    const [node] = json({ driver: 'raw', offset: 512, size: '1024', file }).nodes;
    expect(node).to.include({ start: 512, length: 1024 });
    for (const [size, length] of Object.entries({
      '1k': 1024,
      '0x10000': 65536,
      '1.5M': 1572864,
      '2G': 2 ** 31,
    })) {
      expect(json({ driver: 'raw', size, file }).nodes[0].length).to.equal(length);
    }
    for (const size of [-1, 1.5, '1x', '', '-1', '1e3', '9999999T', true, 2 ** 53]) {
      refuses({ driver: 'raw', size, file }, '"size"');
    }
    for (const size of [100, '1b', 513]) refuses({ driver: 'raw', size, file }, 'multiple of 512');
  });

  it('may tell another backing file, or that there is none', () => {
    const file = { filename: 'x' };
    const backingOf = (backing: unknown) => json({ driver: 'qcow2', file, backing }).nodes[0].backing;
    expect(backingOf(null)).to.equal('none');
    expect(backingOf('')).to.equal('none');
    expect(backingOf({ driver: 'raw', 'file.filename': 'y' })).to.deep.equal(named('y', 'raw'));
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

  it('may stack raw and qcow2', () => {
    const x = { filename: 'x' };
    const raw = { driver: 'raw', file: x };
    const qcow2 = { driver: 'qcow2', file: x };
    expect(json({ driver: 'qcow2', file: raw })).to.deep.equal(named('x', 'qcow2', 'raw'));
    expect(json({ driver: 'raw', file: qcow2 })).to.deep.equal(named('x', 'raw', 'qcow2'));
    expect(json({ file: { driver: 'raw', file: raw } })).to.deep.equal(named('x', undefined, 'raw', 'raw'));
    for (const driver of ['vmdk', 'copy-on-read', 'luks']) {
      refuses({ driver: 'raw', file: { driver, file: x } }, `stacks raw on ${driver}`);
    }
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

describe('the way from a file to a disk', () => {
  const stack = (options: unknown, format: 'raw' | 'qcow2' = 'raw') =>
    stackOf(json(options), format, 'image');
  const part = (offset: number, size: number | undefined, file: unknown) => ({
    driver: 'raw',
    offset,
    size,
    file,
  });
  const x = { filename: 'x' };

  it('goes through parts of parts, none of which reaches beyond its own', () => {
    const range = (start: number, length: number) => ({ start, length });
    expect(stack(part(512, 4096, x)).part).to.deep.equal(range(512, 4096));
    expect(stack(part(512, undefined, part(1024, 4096, x))).part).to.deep.equal(range(1536, 3584));
    expect(stack(part(512, 1024, part(1024, undefined, x))).part).to.deep.equal(range(1536, 1024));
    expect(stack(part(512, 4096, part(1024, 1024, x))).part).to.deep.equal(range(1536, 512));
    expect(stack(part(4096, 512, part(0, 1024, x))).part).to.deep.equal(range(4096, 0));
  });

  it('may lead to an image in a part of the file, and to a part of its disk', () => {
    const image = { driver: 'qcow2', file: part(512, 4096, x), backing: null };
    expect(stack(image, 'qcow2')).to.deep.equal({
      part: { start: 512, length: 4096 },
      format: 'qcow2',
      window: WHOLE,
      backing: 'none',
    });
    expect(stack(part(1024, 512, image))).to.deep.include({
      part: { start: 512, length: 4096 },
      format: 'qcow2',
      window: { start: 1024, length: 512 },
    });
  });

  it('goes where the format that is declared leads, not that of the name', () => {
    const image = { driver: 'qcow2', file: x };
    expect(stack(image, 'raw').format).to.equal('raw');
    expect(stack({ driver: 'raw', file: x }, 'qcow2').format).to.equal('qcow2');
    expectError('named-file', ['only raw files have parts'], () => stack(part(512, 512, x), 'qcow2'));
  });

  it('leads to no image within the disk of another one', () => {
    const image = { driver: 'qcow2', file: x };
    for (const inner of [image, part(0, 512, image)]) {
      expectError('named-file', ['image: ', 'stacks qcow2 on qcow2'], () =>
        stack({ driver: 'qcow2', file: inner }, 'qcow2'),
      );
    }
  });
});
