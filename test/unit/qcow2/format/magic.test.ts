import { expect } from 'chai';
import { describeForeign, identifyFormat, MAGIC_BYTES } from '../../../../src/qcow2/format/magic.js';

const at = (offset: number, text: string): Buffer => {
  const bytes = Buffer.alloc(MAGIC_BYTES);
  bytes.write(text, offset, 'latin1');
  return bytes;
};

describe('the start of a file', () => {
  const formats = {
    'qcow (version 1)': at(0, 'QFI\xfb\0\0\0\x01'),
    qcow2: at(0, 'QFI\xfb\0\0\0\x03'),
    QED: at(0, 'QED\0'),
    VMDK: at(0, 'KDMV'),
    'a VMDK descriptor': at(0, '# Disk DescriptorFile'),
    VHDX: at(0, 'vhdxfile'),
    VHD: at(0, 'conectix'),
    VDI: at(0x40, '\x7f\x10\xda\xbe'),
    'a Parallels disk': at(0, 'WithouFreSpacExt'),
    LUKS: at(0, 'LUKS\xba\xbe\0\x01'),
    'EWF (Expert Witness)': at(0, 'EVF\x09\x0d\x0a\xff\0'),
  };
  for (const [name, bytes] of Object.entries(formats)) {
    it(`tells ${name}`, () => {
      expect(identifyFormat(bytes)).to.equal(name);
    });
  }

  it('is no disk image where a guest may have written an archive to a raw disk', () => {
    for (const packed of [at(0, '\x1f\x8b'), at(0, 'PK\x03\x04'), at(257, 'ustar')]) {
      expect(identifyFormat(packed)).to.equal(undefined);
      expect(describeForeign(packed, '/a/FILE $&')).to.match(/^it looks like .*'\/a\/FILE \$&'/);
    }
  });

  it('tells nothing of raw disks, of empty files and of a magic cut short', () => {
    expect(identifyFormat(Buffer.alloc(MAGIC_BYTES))).to.equal(undefined);
    expect(identifyFormat(Buffer.alloc(0))).to.equal(undefined);
    expect(identifyFormat(Buffer.from('QFI'))).to.equal(undefined);
    expect(identifyFormat(at(1, 'QFI\xfb'))).to.equal(undefined);
    expect(identifyFormat(at(0, '\x7f\x10\xda\xbe'))).to.equal(undefined);
  });
});
