/** The Debian package on a Debian that has never seen it: installed, used through /etc/fstab, and purged without a trace. */

import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { sha256 } from '../support/files.js';
import { MiB } from '../support/images.js';
import { patternBytes } from '../support/pattern.js';
import { ROOT } from '../support/qcow2fs.js';
import { run } from '../support/run.js';
import { useScratch } from '../support/scratch.js';
import { boot, prepareBoot, SYSTEMD } from './boot.js';
import { CleanRoot } from './clean-root.js';
import { buildPackage, treeOf } from './support.js';

const VERSION = JSON.parse(fs.readFileSync(path.join(ROOT, 'package.json'), 'utf8')).version as string;
const EXAMPLE = path.join(ROOT, 'contrib/example');
const IMAGE = '/srv/example.qcow2';
const MOUNTPOINT = '/mnt/x';
const HELPERS = ['/usr/sbin/mount.fuse.qcow2fs', '/usr/sbin/umount.fuse.qcow2fs'];

/** What apt, dpkg and mount(8) keep of what was ever there, and what is not on the disk. */
const NOT_COMPARED =
  /^(proc|sys|run\/mount|var\/lib\/dpkg|var\/lib\/apt|var\/cache|var\/log\/(apt|dpkg\.log|alternatives\.log))$/;

describe('the Debian package on a clean system', function () {
  this.timeout(900_000);
  const scratch = useScratch();
  const system = new CleanRoot(scratch.subdir());
  const tree = (): string[] => treeOf(system.dir, (name) => !NOT_COMPARED.test(name));
  const packages = (): string[] => {
    const lines = system.run('dpkg-query', '--show').trim().split('\n');
    return lines.map((line) => line.split(/[:\t]/)[0]!);
  };
  let original: string[] = [];
  let pristine: string[] = [];
  let expected = '';
  let deb = '';
  after(() => system.stop());

  before(async () => {
    deb = buildPackage(scratch.path('out'));
    expected = digestByQemu(scratch.path('expected.raw'));
    await system.start();
    original = packages();
    pristine = tree();
    fs.copyFileSync(deb, system.path('/srv/qcow2fs.deb'));
    fs.copyFileSync(path.join(EXAMPLE, 'example.qcow2'), system.path(IMAGE));
    const secret = fs.readFileSync(path.join(EXAMPLE, 'secret'));
    fs.writeFileSync(system.path('/srv/secret'), secret, { mode: 0o600 });
    fs.mkdirSync(system.path(MOUNTPOINT));
    fs.appendFileSync(
      system.path('/etc/fstab'),
      `${IMAGE} ${MOUNTPOINT} fuse.qcow2fs ro,secret-file=/srv/secret 0 0\n`,
    );
    system.run('apt-get', 'install', '-y', '-q', '--no-install-recommends', '/srv/qcow2fs.deb');
  });

  it('is installed with all that it needs', () => {
    expect(system.run('qcow2fs', '--version')).to.equal(`${VERSION}\n`);
    expect(system.run('dpkg', '--status', 'qcow2fs')).to.contain('\nStatus: install ok installed\n');
    expect(system.run('dpkg', '--verify', 'qcow2fs')).to.equal('');
  });

  const expectMounted = (): void => {
    const found = system.run('findmnt', '--noheadings', '--output', 'SOURCE,FSTYPE,OPTIONS', MOUNTPOINT);
    expect(found).to.match(new RegExp(`^${IMAGE} fuse\\.qcow2fs ro,`));
    expect(system.run('df', '--output=source,size,target', '--block-size=1M', MOUNTPOINT)).to.match(
      new RegExp(`^${IMAGE} +64 ${MOUNTPOINT}$`, 'm'),
    );
    expect(system.run('sha256sum', `${MOUNTPOINT}/disk.raw`).split(' ')[0]).to.equal(expected);
  };
  const expectUnmounted = (): void => {
    system.run('umount', MOUNTPOINT);
    expect(system.try('findmnt', MOUNTPOINT).status).to.equal(1);
  };

  const ways = {
    'its own helper of mount(8)': () => {},
    'mount.fuse3 alone': () => {
      for (const helper of HELPERS) fs.rmSync(system.path(helper), { force: true });
    },
  };
  for (const [way, prepare] of Object.entries(ways)) {
    it(`mounts what /etc/fstab names, through ${way}`, () => {
      prepare();
      expect(system.run('mount', MOUNTPOINT)).to.equal('');
      expectMounted();
      expectUnmounted();
      system.run('mount', '--all');
      expectMounted();
      // What is mounted stays so, once.
      system.run('mount', '--all');
      expectUnmounted();
    });

    it(`fails when the key cannot be read, through ${way}`, () => {
      prepare();
      const away = system.path('/srv/away');
      fs.renameSync(system.path('/srv/secret'), away);
      try {
        const { status, stderr } = system.try('mount', MOUNTPOINT);
        expect(status).to.not.equal(0);
        expect(stderr).to.contain('/srv/secret: cannot read the secret');
        expect(system.try('findmnt', MOUNTPOINT).status).to.equal(1);
      } finally {
        fs.renameSync(away, system.path('/srv/secret'));
      }
    });
  }

  it('is purged without a trace', () => {
    system.run('apt-get', 'purge', '-y', '-q', 'qcow2fs');
    const left = run('find', ['.', '-xdev', '-name', '*qcow2fs*', '-not', '-path', './srv/*'], {
      cwd: system.dir,
    });
    expect(left.split('\n').filter((name) => !NOT_COMPARED.test(name.slice(2)))).to.deep.equal(['']);
    // By name: apt keeps what may serve another package, too.
    const dependencies = packages().filter((name) => !original.includes(name));
    expect(dependencies).to.include.members(['nodejs', 'fuse3']);
    system.run('apt-get', 'purge', '-y', '-q', ...dependencies);
    for (const name of ['/srv/qcow2fs.deb', IMAGE, '/srv/secret']) fs.rmSync(system.path(name));
    fs.rmdirSync(system.path(MOUNTPOINT));
    const fstab = fs.readFileSync(system.path('/etc/fstab'), 'utf8');
    fs.writeFileSync(system.path('/etc/fstab'), fstab.replace(/^.*fuse\.qcow2fs.*\n/m, ''));
    const now = tree();
    expect(now.filter((entry) => !pristine.includes(entry)).join('\n')).to.equal('');
    expect(pristine.filter((entry) => !now.includes(entry)).join('\n')).to.equal('');
  });

  describe('that systemd boots', () => {
    const share = scratch.subdir();
    const images = ['plain', 'fstab'];
    const data = patternBytes(1, 0, 4 * MiB, 'noise');
    let said: Record<string, string> = {};

    before(async () => {
      const secret = fs.readFileSync(path.join(EXAMPLE, 'secret'));
      fs.copyFileSync(path.join(EXAMPLE, 'example.qcow2'), system.path(IMAGE));
      fs.copyFileSync(deb, system.path('/srv/qcow2fs.deb'));
      system.run('apt-get', 'install', '-y', '-q', '--no-install-recommends', '/srv/qcow2fs.deb', ...SYSTEMD);
      await system.stop();
      for (const name of images) {
        run('qemu-img', ['create', '-q', '-f', 'qcow2', path.join(share, `${name}.qcow2`), '64M']);
      }
      fs.writeFileSync(path.join(share, 'data'), data);
      prepareBoot(system, share, secret);
      said = boot(system, share);
    });

    it('mounts images by units and by fstab, one of them with a credential', () => {
      expect(said['units']).to.equal('active active active ');
      expect(said['status']).to.equal(`${IMAGE} on /mnt/luks/disk.raw`);
      expect(said['luks']).to.equal(expected);
    });

    it('mounts what needs a disk after it', () => {
      expect(said['inner']).to.equal('tmpfs');
    });

    it('stops a disk that is in use without a failure, and refuses a name whose file cannot be read at once', () => {
      expect(said['busy']).to.equal('inactive success');
      expect(said['odd']).to.equal('no 0');
    });

    it('has nothing to complain of the unit, and less exposed than most', () => {
      expect(said['verify']).to.equal('');
      expect(Number.parseFloat(said['security']!), said['security']).to.be.below(5);
    });

    it('starts a daemon that was killed anew, and stops it for good when it is told', () => {
      expect(said['again']).to.equal(expected);
      expect(said['stopped']).to.equal('inactive ');
    });

    it('fails once when the secret is wrong, and says why', () => {
      expect(said['refused']).to.equal('7 0');
      expect(said['reason']).to.match(/^qcow2fs: \/srv\/example\.qcow2: [^\n]*secret/);
    });

    it('mounts for an ordinary user, in a unit of the user', () => {
      expect(said['user']).to.equal(expected);
      expect(said['gone']).to.equal('');
    });

    for (const name of images) {
      it(`has every write in the image when it is off, though nobody synced or unmounted: ${name}`, () => {
        const image = path.join(share, `${name}.qcow2`);
        run('qemu-img', ['check', '-q', '-f', 'qcow2', image]);
        const raw = path.join(share, 'raw');
        run('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', image, raw]);
        expect(fs.readFileSync(raw).subarray(0, data.length).equals(data)).to.equal(true);
      });
    }
  });
});

/** sha256 of the disk in the example image, as QEMU reads it. */
function digestByQemu(raw: string): string {
  const secret = `secret,id=key,file=${path.join(EXAMPLE, 'secret')}`;
  const image = `driver=qcow2,encrypt.key-secret=key,file.filename=${path.join(EXAMPLE, 'example.qcow2')}`;
  run('qemu-img', ['convert', '--object', secret, '--image-opts', image, '-O', 'raw', raw]);
  return sha256(raw);
}
