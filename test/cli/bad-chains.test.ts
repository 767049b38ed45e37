import fs from 'node:fs';
import path from 'node:path';
import { createImage, createRaw, imagePath } from '../support/images.js';
import {
  base,
  longChain,
  outside,
  overlay,
  overlayWithFormat,
  SIZE,
  withDataFile,
} from '../support/naming.js';
import { describeRefusals, type Refusal } from '../support/refusals.js';
import { tool } from '../support/run.js';

const missing: readonly Refusal[] = [
  {
    title: 'a missing backing file, and tells who names it',
    make: (dir) => overlay(dir, 'missing.qcow2'),
    kind: 'named-file',
    words: ['image.qcow2: ', 'backing file', 'missing.qcow2', 'no such file'],
  },
  {
    title: 'a missing backing file of a backing file',
    make: (dir) => {
      overlay(dir, 'missing.qcow2', 'qcow2', 'middle.qcow2');
      return overlay(dir, 'middle.qcow2');
    },
    kind: 'named-file',
    words: ['middle.qcow2: ', 'missing.qcow2'],
  },
  {
    title: 'a backing file that is a directory',
    make: (dir) => overlay(dir, 'mnt', 'raw'),
    kind: 'named-file',
    words: ['backing file', 'mnt', 'directory'],
  },
  {
    title: 'a backing file that is a FIFO, at once',
    make: (dir) => {
      tool('mkfifo', path.join(dir, 'fifo'));
      return overlay(dir, 'fifo', 'raw');
    },
    kind: 'named-file',
    words: ['fifo', 'FIFO'],
    ownProcess: true,
  },
  {
    title: 'a backing file that is declared as qcow2 and is none',
    make: (dir) => {
      createRaw(dir, 'base.raw', SIZE, 1);
      return overlay(dir, 'base.raw');
    },
    kind: 'format',
    words: ['base.raw', 'not a qcow2 image'],
  },
  {
    title: 'a missing data file',
    make: (dir) => {
      const image = createImage(dir, { size: SIZE, options: ['data_file=data.raw'] });
      fs.rmSync(path.join(dir, 'data.raw'));
      return imagePath(image);
    },
    kind: 'named-file',
    words: ['image.qcow2: ', 'data file', 'data.raw', 'no such file'],
  },
  {
    title: 'a missing data file of a backing file',
    make: (dir) => {
      createImage(dir, { name: 'base.qcow2', size: SIZE, options: ['data_file=data.raw'] });
      fs.rmSync(path.join(dir, 'data.raw'));
      return overlay(dir, 'base.qcow2');
    },
    kind: 'named-file',
    words: ['base.qcow2: ', 'data file', 'data.raw'],
  },
];

/** qemu-img makes no such image under its final name. */
function onItself(dir: string, format: string): string {
  const image = path.join(dir, 'image.qcow2');
  fs.renameSync(overlay(dir, 'image.qcow2', format, 'other.qcow2'), image);
  return image;
}

const recursive: readonly Refusal[] = [
  {
    title: 'an image that is its own backing file',
    make: (dir) => onItself(dir, 'qcow2'),
    kind: 'named-file',
    words: ['image.qcow2', 'already part of the chain'],
  },
  {
    title: 'two images on top of each other',
    make: (dir) => {
      overlay(dir, 'image.qcow2', 'qcow2', 'other.qcow2');
      return overlay(dir, 'other.qcow2');
    },
    kind: 'named-file',
    words: ['other.qcow2', 'already part of the chain'],
  },
  {
    title: 'an image on top of itself by another name',
    make: (dir) => {
      const image = overlay(dir, 'link.qcow2');
      fs.linkSync(image, path.join(dir, 'link.qcow2'));
      return image;
    },
    kind: 'named-file',
    words: ['link.qcow2', 'already part of the chain'],
  },
  {
    title: 'an image that is its own backing file, read as raw',
    make: (dir) => onItself(dir, 'raw'),
    kind: 'named-file',
    words: ['image.qcow2', 'already part of the chain'],
  },
  {
    title: 'an image on top of itself by another name, read as raw',
    make: (dir) => {
      const image = overlay(dir, 'link.raw', 'raw');
      fs.linkSync(image, path.join(dir, 'link.raw'));
      return image;
    },
    kind: 'named-file',
    words: ['link.raw', 'already part of the chain'],
  },
  {
    title: 'a chain of 300 images',
    make: (dir) => longChain(dir, 300),
    kind: 'named-file',
    words: ['299.qcow2', 'more than 256 files'],
  },
];

const forbidden: readonly Refusal[] = [
  {
    title: 'a backing file elsewhere by absolute path, and names the option that allows it',
    make: (dir) => overlay(dir, base(outside(dir), 'base.qcow2')),
    kind: 'named-file',
    words: ['-outside/base.qcow2', 'outside', '--allow-dir /'],
  },
  {
    title: 'a backing file elsewhere by ..',
    make: (dir) => {
      base(outside(dir), 'base.qcow2');
      return overlay(dir, `../${path.basename(dir)}-outside/base.qcow2`);
    },
    kind: 'named-file',
    words: ['-outside/base.qcow2', '--allow-dir'],
  },
  {
    title: 'a backing file elsewhere by a symbolic link',
    make: (dir) => {
      fs.symlinkSync(base(outside(dir), 'base.qcow2'), path.join(dir, 'link.qcow2'));
      return overlay(dir, 'link.qcow2');
    },
    kind: 'named-file',
    words: ['-outside/base.qcow2', '--allow-dir'],
  },
  {
    title: 'a backing file elsewhere by a symbolic link to its directory',
    make: (dir) => {
      const other = outside(dir);
      base(other, 'base.qcow2');
      fs.symlinkSync(other, path.join(dir, 'sub'));
      return overlay(dir, 'sub/base.qcow2');
    },
    kind: 'named-file',
    words: ['-outside/base.qcow2', '--allow-dir'],
  },
  {
    title: 'a backing file in a directory whose name only begins like the allowed one',
    make: (dir) => ({
      image: overlay(dir, base(outside(dir), 'base.qcow2')),
      args: ['--allow-dir', `${dir}-out`, '--allow-dir', dir].slice(2),
    }),
    kind: 'named-file',
    words: ['-outside/base.qcow2'],
  },
  {
    title: 'a system file as raw backing file',
    make: (dir) => overlay(dir, '/etc/passwd', 'raw'),
    kind: 'named-file',
    words: ['/etc/passwd', '--allow-dir /etc'],
  },
  {
    title: 'a system file as data file',
    make: (dir) => withDataFile(dir, '/etc/passwd'),
    kind: 'named-file',
    words: ['data file', '/etc/passwd', '--allow-dir /etc'],
  },
  {
    title: 'a system file named in a json: name',
    make: (dir) =>
      overlay(dir, 'json:{"driver":"raw","file":{"driver":"file","filename":"/etc/passwd"}}', 'raw'),
    kind: 'named-file',
    words: ['/etc/passwd', '--allow-dir /etc'],
  },
  {
    title: 'an allowed directory that does not exist',
    make: (dir) => ({ image: base(dir, 'image.qcow2'), args: ['--allow-dir', path.join(dir, 'missing')] }),
    kind: 'usage',
    words: ['--allow-dir', 'missing'],
  },
];

const formats: readonly Refusal[] = [
  {
    title: 'a backing file of an undeclared format that looks like qcow2, with the way out',
    make: (dir) => {
      base(dir, 'base.qcow2');
      return overlay(dir, 'base.qcow2', null);
    },
    kind: 'named-file',
    words: [
      'image.qcow2',
      'base.qcow2',
      'does not declare',
      ': --backing-format qcow2,',
      'qemu-img rebase -u -F',
    ],
  },
  {
    title: 'a backing file of an undeclared format that looks like VMDK',
    make: (dir) => {
      fs.writeFileSync(path.join(dir, 'base'), Buffer.concat([Buffer.from('KDMV'), Buffer.alloc(SIZE)]));
      return overlay(dir, 'base', null);
    },
    kind: 'named-file',
    words: ['does not declare', 'VMDK', ': --backing-format raw,'],
  },
  {
    title: 'a backing file declared as vmdk',
    make: (dir) => {
      createRaw(dir, 'base.vmdk', SIZE, 1);
      return overlayWithFormat(dir, 'base.vmdk', 'vmdk');
    },
    kind: 'unsupported',
    words: ['base.vmdk', 'format vmdk', 'qcow2 and raw'],
  },
  ...['nbd://localhost:10809/disk', 'http://localhost/base.qcow2', 'rbd:pool/image', 'fat:/tmp'].map(
    (name): Refusal => ({
      title: `the backing name ${name}`,
      make: (dir) => overlay(dir, name, 'raw'),
      kind: 'named-file',
      words: ['image.qcow2', name, 'local file'],
    }),
  ),
  ...[
    'json:',
    'json:{',
    'json:[]',
    'json:null',
    'json:{"driver":"raw"}',
    'json:{"driver":"raw","file":"node0"}',
    'json:{"driver":"raw","file":{"driver":"nbd","host":"localhost"}}',
    'json:{"driver":"qcow2","file":{"driver":"file","filename":7}}',
    'json:{"driver":"raw","offset":-512,"file.filename":"base.raw"}',
    'json:{"__proto__":{"filename":"base.raw"}}',
  ].map(
    (name): Refusal => ({
      title: `the backing name ${name}`,
      make: (dir) => {
        createRaw(dir, 'base.raw', SIZE, 1);
        return overlay(dir, name, 'raw');
      },
      kind: 'named-file',
      words: ['image.qcow2'],
    }),
  ),
  {
    title: 'a backing name that would write on the terminal',
    make: (dir) => overlay(dir, 'evil\x1b]0;title\x07\x1b[2J.qcow2'),
    kind: 'named-file',
    words: ['evil', '.qcow2'],
  },
  {
    title: 'a protocol name that would write on the terminal',
    make: (dir) => overlay(dir, 'evil\x1b[2J://x', 'raw'),
    kind: 'named-file',
    words: ['evil'],
  },
  {
    title: 'a backing format that would write on the terminal',
    make: (dir) => {
      createRaw(dir, 'base.raw', SIZE, 1);
      return overlayWithFormat(dir, 'base.raw', 'evil\x1b[2J');
    },
    kind: 'unsupported',
    words: ['evil'],
  },
];

describeRefusals('chains with missing files', missing);
describeRefusals('endless chains', recursive);
describeRefusals('images that name files elsewhere', forbidden);
describeRefusals('backing files of the wrong kind', formats);
