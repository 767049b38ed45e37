import path from 'node:path';
import { expect } from 'chai';
import { foreign } from '../../../src/host/libc.js';
import { findServiceManager, notifyServiceManager } from '../../../src/host/service-manager.js';
import { useScratch } from '../../support/scratch.js';

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const MSG_DONTWAIT = 0x40;

/** A socket as systemd opens it. */
class Listener {
  readonly #fd = foreign('int socket(int domain, int type, int protocol)')(AF_UNIX, SOCK_DGRAM, 0);

  /** @param name as in the file system; one that begins with NUL is in none */
  constructor(name: string) {
    const address = Buffer.concat([Buffer.from([AF_UNIX, 0]), Buffer.from(name)]);
    const bind = foreign('int bind(int fd, const void *address, unsigned int size)');
    expect(bind(this.#fd, address, address.length), 'bind').to.equal(0);
  }

  /** What was said, or undefined. */
  hear(): string | undefined {
    const bytes = Buffer.alloc(4096);
    const receive = foreign('int64_t recv(int fd, _Out_ void *bytes, size_t length, int flags)');
    const length = Number(receive(this.#fd, bytes, bytes.length, MSG_DONTWAIT));
    return length < 0 ? undefined : bytes.toString('utf8', 0, length);
  }

  close(): void {
    foreign('int close(int fd)')(this.#fd);
  }
}

describe('the service manager', () => {
  const scratch = useScratch();

  afterEach(() => {
    delete process.env['NOTIFY_SOCKET'];
  });

  for (const [kind, name, inEnvironment] of [
    ['a file', path.join(scratch.dir, 'notify'), path.join(scratch.dir, 'notify')],
    ['an abstract name', `\0qcow2fs-test-${process.pid}`, `@qcow2fs-test-${process.pid}`],
  ] as const) {
    it(`hears at ${kind} how things stand, and no child of the program can speak for it`, () => {
      const listener = new Listener(name);
      try {
        process.env['NOTIFY_SOCKET'] = inEnvironment;
        findServiceManager();
        expect(process.env).not.to.have.property('NOTIFY_SOCKET');
        notifyServiceManager('READY=1', 'STATUS=größe');
        expect(listener.hear()).to.equal('READY=1\nSTATUS=größe');
        notifyServiceManager('STATUS=/image\nMAINPID=1\u202e', 'READY=1');
        expect(listener.hear()).to.equal('STATUS=/image\\u000aMAINPID=1\\u202e\nREADY=1');
        expect(listener.hear()).to.equal(undefined);
      } finally {
        listener.close();
      }
    });
  }

  it('that is gone, or never was, harms nobody', () => {
    for (const socket of [path.join(scratch.dir, 'nowhere'), 'relative', '', '/x'.repeat(200), undefined]) {
      if (socket !== undefined) process.env['NOTIFY_SOCKET'] = socket;
      findServiceManager();
      notifyServiceManager('READY=1');
    }
  });
});
