import fs from 'node:fs';
import path from 'node:path';
import { createImage, imagePath, MiB } from '../support/images.js';
import { type Attempt, describeRefusals } from '../support/refusals.js';
import { tool } from '../support/run.js';

function image(dir: string): string {
  return imagePath(createImage(dir, { size: MiB }));
}

/** An attempt on something in `dir` that is no empty directory. */
function on(name: string, make: (mountpoint: string) => void, args: readonly string[] = []) {
  return (dir: string): Attempt => {
    const mountpoint = path.join(dir, name);
    make(mountpoint);
    return { image: image(dir), mountpoint, args };
  };
}

describeRefusals('mountpoints', [
  {
    title: 'a mountpoint that does not exist, and says how to make it',
    make: on('missing', () => {}),
    kind: 'mountpoint',
    words: ['/missing', 'does not exist', 'mkdir'],
  },
  {
    title: 'a mountpoint in a directory that does not exist',
    make: on('missing/deep', () => {}),
    kind: 'mountpoint',
    words: ['/missing/deep', 'does not exist'],
  },
  {
    title: 'a mountpoint below a file',
    make: on('file/deep', (place) => fs.writeFileSync(path.dirname(place), '')),
    kind: 'mountpoint',
    words: ['/file/deep', 'not a directory'],
  },
  {
    title: 'a FIFO as mountpoint, at once',
    make: on('fifo', (place) => void tool('mkfifo', place)),
    kind: 'mountpoint',
    words: ['/fifo', 'directory or a regular file'],
    ownProcess: true,
  },
  {
    title: 'a device as mountpoint',
    make: (dir) => ({ image: image(dir), mountpoint: '/dev/zero' }),
    kind: 'mountpoint',
    words: ['/dev/zero', 'directory or a regular file'],
  },
  {
    title: 'a dangling symbolic link as mountpoint',
    make: on('link', (place) => fs.symlinkSync('nowhere', place)),
    kind: 'mountpoint',
    words: ['/link'],
  },
  {
    title: 'a symbolic link to itself as mountpoint',
    make: on('link', (place) => fs.symlinkSync('link', place)),
    kind: 'mountpoint',
    words: ['/link'],
  },
  {
    title: 'a directory with a file in it',
    make: on('full', (place) => {
      fs.mkdirSync(place);
      fs.writeFileSync(path.join(place, '.hidden'), '');
    }),
    kind: 'mountpoint',
    words: ['/full', 'not empty'],
  },
  {
    title: 'a log that cannot be opened, and says how to name another',
    make: (dir) => ({ image: image(dir), args: ['--log', dir] }),
    kind: 'host-io',
    words: ['log', '--log FILE'],
    ownProcess: true,
  },
]);
