/**
 * Writes the area behind a header anew: extensions added, doubled, moved or left out, and names of files that an image
 * must not reach, or that are no files.
 */
import { EXTENSION } from '../support/damage.js';
import type { Random } from '../support/random.js';
import type { Edit } from './input.js';

/** Made by `makeTraps` beside every seed. */
export const OUTSIDE = '../outside/secret';
const HOSTILE_NAMES: readonly string[] = [
  ...[
    'image.qcow2',
    './image.qcow2',
    'base.qcow2',
    'base.raw',
    'data.raw',
    'missing',
    '.',
    '',
    '/',
    'base.raw/',
  ],
  ...[OUTSIDE, 'link', 'directory/secret', 'directory/../outside/secret', 'fifo', 'image.qcow2/../link'],
  ...['/etc/passwd', '/etc/hostname', '/dev/zero', '/dev/stdin', '/proc/self/mem', '/proc/self/fd/0'],
  ...['file:link', `file:${OUTSIDE}`, 'nbd://localhost/x', 'http://localhost/', 'fat:/etc', 'a\0b', '\ufffd'],
  ...['x'.repeat(1023), '../'.repeat(300), '%2e%2e/outside/secret', ' link', 'link\n'],
  `json:{"driver":"raw","file":{"driver":"file","filename":"${OUTSIDE}"}}`,
  'json:{"driver":"raw","file.filename":"link","offset":512,"size":512}',
  'json:{"driver":"raw","offset":1e300,"size":-1,"file.filename":"base.raw"}',
  'json:{"driver":"qcow2","file":{"driver":"host_device","filename":"/dev/null"}}',
  `json:{"driver":"qcow2","file.filename":"base.qcow2","backing":{"driver":"raw","file.filename":"${OUTSIDE}"}}`,
  'json:{"driver":"qcow2","file.filename":"image.qcow2","backing":null}',
  `json:{'driver':'qcow2','file':{'driver':'file','filename':'base.qcow2'}}`,
  `json:{'driver':'raw','file':{'driver':'file','filename':'\\'${OUTSIDE}'}}`,
  `json:{'driver':'raw","file.filename":'link'}`,
  `json:{'driver':'qcow2','file':{'driver':'raw','offset':'64K','size':65536,'file.filename':'base.raw'}}`,
  `json:{'driver':'qcow2','file':{'driver':'raw','offset':'1E','file':{'driver':'raw','size':512,'file.filename':'base.qcow2'}}}`,
  `json:{'driver':'raw','offset':512,'size':65536,'file':{'driver':'qcow2','file.filename':'base.qcow2'}}`,
  `json:{'driver':'qcow2','file':{'driver':'qcow2','file.filename':'base.qcow2'}}`,
  'json:{"file.filename":"base.qcow2","backing":{"file.filename":"image.qcow2"}}',
  'json:{"driver":"file","filename":"json:{\\"driver\\":\\"file\\",\\"filename\\":\\"link\\"}"}',
  `json:${'{"file":'.repeat(40)}1${'}'.repeat(40)}`,
  `json:{"file.file.file.file.file.file.file.file.file.file.filename":"link"}`,
  'json:{"__proto__":{"filename":"link"},"constructor":"x"}',
  'json:{"toString":1,"file.__proto__.filename":"link"}',
  ...['json:', 'json:[]', 'json:null', 'json:{}', 'json:{"driver":1}', 'json:{"file":"node"}'],
];
const FORMATS = ['raw', 'qcow2', 'file', 'host_device', 'vmdk', '', 'RAW', 'raw\0', 'x'.repeat(300)];
const OTHER_TYPES = [0, 1, 0xffff_ffff, EXTENSION.featureNames, EXTENSION.bitmaps, EXTENSION.encryption];

interface Extension {
  readonly type: number;
  readonly data: Buffer;
}

/** @returns edits that put other extensions, and often another backing name, behind the header */
export function rewriteExtensions(random: Random, bytes: Buffer, clusterSize: number): readonly Edit[] {
  const start = bytes.length >= 104 && bytes.readUInt32BE(4) !== 2 ? bytes.readUInt32BE(100) : 72;
  if (start > bytes.length) return [];
  const extensions = readExtensions(bytes, start);
  const count = 1 + random.below(3);
  for (let change = 0; change < count; change++) changeOne(random, extensions);
  const end = random.below(16) === 0 ? [] : [{ type: EXTENSION.end, data: Buffer.alloc(0) }];
  const area = Buffer.concat([...extensions, ...end].map(encodeExtension));
  const name = Buffer.from(random.pick(HOSTILE_NAMES));
  const keepsName = random.below(3) === 0;
  const edits: Edit[] = [set(start, keepsName ? area : Buffer.concat([area, name]))];
  if (!keepsName) {
    const at = start + area.length;
    const header = Buffer.alloc(12);
    header.writeBigUInt64BE(BigInt(at), 0);
    header.writeUInt32BE(Math.min(name.length, Math.max(0, clusterSize - at)), 8);
    edits.push(set(8, header));
  }
  return edits;
}

function set(at: number, bytes: Buffer): Edit {
  return { do: 'set', at, bytes: bytes.toString('hex') };
}

function changeOne(random: Random, extensions: Extension[]): void {
  const index = random.below(extensions.length + 1);
  switch (random.below(6)) {
    case 0:
      extensions.splice(index, 1);
      return;
    case 1:
      if (extensions[index]) extensions.splice(index, 0, extensions[index]);
      return;
    case 2:
      extensions.splice(index, 0, {
        type: random.pick(OTHER_TYPES),
        data: random.bytes(random.pick([0, 1, 8, 16, 24, 48, 96])),
      });
      return;
    case 3:
      extensions.splice(index, 0, {
        type: EXTENSION.dataFile,
        data: Buffer.from(random.pick(HOSTILE_NAMES)),
      });
      return;
    default:
      setFormat(random, extensions);
  }
}

function setFormat(random: Random, extensions: Extension[]): void {
  const index = extensions.findIndex(({ type }) => type === EXTENSION.backingFormat);
  if (index !== -1) extensions.splice(index, 1);
  extensions.push({ type: EXTENSION.backingFormat, data: Buffer.from(random.pick(FORMATS)) });
}

function readExtensions(bytes: Buffer, start: number): Extension[] {
  const found: Extension[] = [];
  for (let at = start; at + 8 <= bytes.length && found.length < 16; ) {
    const type = bytes.readUInt32BE(at);
    const length = bytes.readUInt32BE(at + 4);
    if (type === EXTENSION.end || length > 1024) break;
    found.push({ type, data: bytes.subarray(at + 8, at + 8 + length) });
    at += 8 + Math.ceil(length / 8) * 8;
  }
  return found;
}

function encodeExtension({ type, data }: Extension): Buffer {
  const encoded = Buffer.alloc(8 + Math.ceil(data.length / 8) * 8);
  encoded.writeUInt32BE(type, 0);
  encoded.writeUInt32BE(data.length, 4);
  data.copy(encoded, 8);
  return encoded;
}
