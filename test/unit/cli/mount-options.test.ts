import { expect } from 'chai';
import {
  applyOptionLists,
  parseAccess,
  parseFileName,
  parseMode,
  parseSecretFormat,
  parseSectorSize,
  parseThreads,
  parseTransport,
} from '../../../src/cli/mount-options.js';
import { expectError } from '../support/errors.js';

function parse(...option: string[]) {
  const { option: _, ...flags } = applyOptionLists({ option });
  return flags;
}

describe('the words of -o', () => {
  it('mean what the long options mean, with dashes or underscores', () => {
    expect(parse('ro,allow_other,foreground', 'secret-file=/k,threads=3')).to.deep.equal({
      readOnly: true,
      allowOther: true,
      foreground: true,
      secretFile: ['/k'],
      threads: '3',
    });
    expect(parse('secret_format=base64,snapshot=a=b')).to.include({
      secretFormat: 'base64',
      snapshot: 'a=b',
    });
  });

  it('collect the directories of allow-dir with those of the command line', () => {
    const flags = { allowDir: ['/a'], option: ['allow_dir=/b,allow-dir=/c'] };
    expect(applyOptionLists(flags).allowDir).to.deep.equal(['/a', '/b', '/c']);
    expect(flags.allowDir).to.deep.equal(['/a']);
  });

  it('collect the secrets, with those of the command line, up to the first equals sign', () => {
    const option = ['secret-file=/b,secret_file=base.qcow2=/c'];
    expect(applyOptionLists({ secretFile: ['/a'], option }).secretFile).to.deep.equal([
      '/a',
      '/b',
      'base.qcow2=/c',
    ]);
  });

  it('are not the names that every object inherits', () => {
    for (const word of ['toString', 'constructor', 'valueOf=x', '__proto__=x']) {
      expectError('usage', ['unknown option'], () => parse(word));
    }
  });

  it('hold a comma behind a backslash', () => {
    expect(parse('name=a\\,b,ro')).to.include({ name: 'a,b', readOnly: true });
  });

  it('hold a comma in double quotes, as mount(8) has it', () => {
    expect(parse('secret-file="/k,1",ro'))
      .to.include({ readOnly: true })
      .and.deep.include({ secretFile: ['/k,1'] });
    expect(parse('snapshot="a b"')).to.include({ snapshot: 'a b' });
    expect(parse('snapshot="a,ro')).to.include({ snapshot: '"a', readOnly: true });
    expect(parse('snapshot=a"b"')).to.include({ snapshot: 'a"b"' });
  });

  it('that the kernel is to know reach it, and the last of two that contradict each other counts', () => {
    expect(parse('noexec,noatime,sync')).to.deep.equal({ mountWords: ['noexec', 'noatime', 'sync'] });
    expect(parse('noexec,sync,dirsync,noexec,async').mountWords).to.deep.equal(['noexec']);
    expect(parse('exec,noexec').mountWords).to.deep.equal(['noexec']);
    expect(parse('noexec,exec,noatime,atime').mountWords).to.deep.equal([]);
  });

  it('that would change a mounted disk are refused', () => {
    expectError('usage', ['remount', 'mount it again'], () => parse('remount,ro'));
  });

  it('of mount(8) and fstab are passed over', () => {
    const words =
      'defaults,rw,nosuid,nodev,relatime,noauto,nofail,_netdev,x-systemd.automount,comment=x,,user,user=joe';
    expect(parse(words)).to.deep.equal({});
  });

  it('of other FUSE file systems do what they say', () => {
    expect(parse('uid=1000,gid=100,umask=022,nonempty,fsname=vm')).to.deep.equal({
      uid: 1000,
      gid: 100,
      mode: '0644',
      nonEmpty: true,
      source: 'vm',
    });
    expect(parse('fmask=0,umask=077').mode).to.equal('0600');
    expect(parse('umask=0').mode).to.equal('0666');
    for (const word of ['uid=', 'uid=joe', 'gid=-1', 'uid=4294967295', 'umask=', 'umask=8', 'fsname=']) {
      expectError('usage', [`-o ${word}`, 'needed'], () => parse(word));
    }
    for (const word of ['uid', 'umask', 'nonempty=1']) expectError('usage', ['unknown'], () => parse(word));
  });

  it('of other FUSE file systems that tune them are passed over', () => {
    const words =
      'auto_unmount,big_writes,kernel_cache,max_read=131072,subtype=qcow2fs,attr_timeout=1,dmask=022';
    expect(parse(words)).to.deep.equal({});
  });

  it('that nobody knows are refused by name', () => {
    for (const word of ['read-write', 'ro-', 'offset=1', '=x', 'RO']) {
      expectError('usage', [`-o ${word}`, 'unknown'], () => parse(word));
    }
  });

  it('are refused without the value they need, and with one they do not take', () => {
    for (const word of ['name', 'name=', 'allow-dir'])
      expectError('usage', [word, 'VALUE'], () => parse(word));
    expectError('usage', ['ro takes no value'], () => parse('ro=1'));
  });
});

describe('a mount option', () => {
  it('threads is a number from 1 to 64', () => {
    expect([parseThreads('1'), parseThreads('64')]).to.deep.equal([1, 64]);
    for (const text of ['0', '65', '-1', '1.5', '', 'two', '0x2', '1e1', ' 2']) {
      expectError('usage', ['--threads', '1 to 64'], () => parseThreads(text));
    }
  });

  it('transport and secret format are one of their words', () => {
    expect([parseTransport('kernel'), parseTransport('libfuse')]).to.deep.equal(['kernel', 'libfuse']);
    expect([parseSecretFormat('raw'), parseSecretFormat('base64')]).to.deep.equal(['raw', 'base64']);
    expectError('usage', ['kernel or libfuse'], () => parseTransport('Kernel'));
    expectError('usage', ['raw or base64'], () => parseSecretFormat('hex'));
  });

  it('mode is permissions that let the owner read and nobody execute', () => {
    expect(['0600', '644', '0400'].map(parseMode)).to.deep.equal([0o600, 0o644, 0o400]);
    for (const text of ['', '0', '44', '8', '0684', '755', '040', '0200', '04600', '600 ', 'rw', '-600']) {
      expectError('usage', ['--mode', '0640'], () => parseMode(text));
    }
  });

  it('sector size is 512 or 4096, and for --loop only', () => {
    for (const bytes of [512, 4096])
      expect(parseSectorSize({ sectorSize: String(bytes), loop: true })).to.equal(bytes);
    expect(parseSectorSize({})).to.equal(undefined);
    for (const sectorSize of ['2048', '', '512 ', '4k']) {
      expectError('usage', ['--sector-size', '512 or 4096'], () =>
        parseSectorSize({ sectorSize, loop: true }),
      );
    }
    expectError('usage', ['--sector-size', '--loop'], () => parseSectorSize({ sectorSize: '4096' }));
  });

  it('name is a file name', () => {
    for (const name of ['disk.raw', '...', ' ', 'x'.repeat(255)]) expect(parseFileName(name)).to.equal(name);
    for (const name of ['', '.', '..', 'a/b', 'a\0', 'x'.repeat(256), '\u00e9'.repeat(128)]) {
      expectError('usage', ['--name'], () => parseFileName(name));
    }
  });
});

describe('whether a disk is written', () => {
  it('follows from the options', () => {
    expect(parseAccess({})).to.equal('writing');
    expect(parseAccess({ resizable: true })).to.equal('writing');
    expect(parseAccess({ readOnly: true, forceShare: true })).to.equal('reading');
    expect(parseAccess({ readOnly: true, ignoreLocks: true })).to.equal('reading');
    expect(parseAccess({ snapshot: 'x' })).to.equal('reading');
    expect(parseAccess({ overlay: 'temp', resizable: true })).to.equal('overlay');
  });
});
