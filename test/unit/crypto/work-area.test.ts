import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { expect } from 'chai';
import { PIECE_BYTES, PIECE_SECTORS, portableArea, workArea } from '../../../src/crypto/work-area.js';
import { patternBytes } from '../../support/pattern.js';
import { ROOT } from '../../support/qcow2fs.js';

describe('the work area of ciphers', () => {
  it('does without WebAssembly what it does with it', () => {
    const areas = [workArea(), portableArea()];
    for (const area of areas) {
      patternBytes(1, 0, PIECE_BYTES, 'noise').copy(area.data);
      patternBytes(2, 0, PIECE_BYTES, 'noise').copy(area.masks);
      patternBytes(3, 0, PIECE_SECTORS * 16, 'noise').copy(area.ivs);
      area.makeMasks(PIECE_SECTORS - 1);
      area.xor(PIECE_BYTES - 64);
    }
    for (const part of ['data', 'masks', 'ivs'] as const) {
      expect(areas[1]![part].equals(areas[0]![part]), part).to.equal(true);
    }
  });

  it('opens encrypted images on processors that have no SSE4.1', () => {
    const digest = (...flags: string[]): string => {
      const example = path.join(ROOT, 'contrib/example');
      const program = [path.join(ROOT, 'dist/app/cli/main.js'), 'hash'];
      const key = ['--secret-file', path.join(example, 'secret')];
      const words = [...flags, ...program, ...key, path.join(example, 'example.qcow2')];
      const { stdout, stderr } = spawnSync(process.execPath, words, { encoding: 'utf8' });
      return `${stdout.slice(0, 64)}${stderr}`;
    };
    expect(digest('--no-enable-sse4-1')).to.equal(digest());
  });
});
