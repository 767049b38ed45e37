/** The system's log: a socket of our own in its place, in a mount namespace that nobody else sees. */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { expect } from 'chai';
import { foreign } from '../../src/host/libc.js';
import { useCleanUp } from '../support/clean-up.js';
import { patchL2, readL2 } from '../support/damage.js';
import { createImage, imagePath, MiB, writeSteps } from '../support/images.js';
import { ON_OUR_OWN } from '../support/mount-namespace.js';
import { BIN } from '../support/qcow2fs.js';
import { useScratch } from '../support/scratch.js';

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOCK_NONBLOCK = 0o4000;

/** Receives what is sent to a socket file (unix(7)): node:net has streams alone. */
function listen(file: string): number {
  const fd = foreign('int socket(int domain, int type, int protocol)')(
    AF_UNIX,
    SOCK_DGRAM | SOCK_NONBLOCK,
    0,
  );
  const address = Buffer.alloc(110);
  new Uint16Array(address.buffer, address.byteOffset, 1)[0] = AF_UNIX;
  address.write(file, 2);
  const status = foreign('int bind(int fd, void *address, uint32_t length)')(fd, address, address.length);
  if (status !== 0) throw new Error(`cannot listen at ${file}`);
  return fd;
}

function receiveAll(fd: number): string[] {
  const lines: string[] = [];
  const datagram = Buffer.alloc(65536);
  for (;;) {
    try {
      lines.push(datagram.toString('utf8', 0, fs.readSync(fd, datagram)));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return lines;
      throw error;
    }
  }
}

describe("the system's log", () => {
  const scratch = useScratch();
  const defer = useCleanUp();

  it('gets what a daemon in the background logs: that it mounts, what is damaged, that it ends', () => {
    const image = createImage(scratch.dir, { size: 4 * MiB });
    writeSteps(image, 1, [{ do: 'data', offset: 0, length: 4 * MiB }]);
    patchL2(imagePath(image), MiB, readL2(imagePath(image), MiB) | 0x200n);
    const [dev, mountpoint] = [scratch.subdir(), scratch.subdir()];
    const log = listen(`${dev}/log`);
    defer(() => fs.closeSync(log));
    const script = `set -e
      ${ON_OUR_OWN}
      cp -a /dev/fuse /dev/null /dev/zero /dev/urandom /proc/self/fd "${dev}/" 2>/dev/null || true
      mount --bind "${dev}" /dev
      "${BIN}" mount --log "${dev}/file" "${imagePath(image)}" "${mountpoint}"
      dd if="${mountpoint}/disk.raw" of=/dev/null bs=64K skip=16 count=1 2>/dev/null || echo failed
      "${BIN}" umount "${mountpoint}"`;
    const { status, stdout, stderr } = spawnSync('unshare', ['-m', 'sh', '-c', script], { encoding: 'utf8' });
    expect(stderr).to.equal('');
    expect(stdout).to.equal('failed\n');
    expect(status).to.equal(0);
    const lines = receiveAll(log);
    const pattern = /^<29>\w{3} [ \d]\d [\d:]{8} qcow2fs\[\d+\]: /;
    for (const line of lines) expect(line).to.match(pattern);
    const texts = lines.map((line) => line.replace(pattern, ''));
    expect(texts).to.have.length(3);
    expect(texts[0]).to.include('mounted on');
    expect(texts[1]).to.include('not aligned to clusters');
    expect(texts[2]).to.match(/: unmounted$/);
  });
});
