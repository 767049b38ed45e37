import { expect } from 'chai';
import { Cells, KINDS, type Kind, LayerTotals } from '../../../src/map/cells.js';
import { extent } from '../support/map-extent.js';

describe('cells of a map', () => {
  const cellOf = (...parts: readonly (readonly [Kind, number])[]): Kind | undefined => {
    const cells = new Cells(1, 1, 100);
    let at = 0;
    for (const [kind, length] of parts) {
      cells.add(extent(kind, at, length));
      at += length;
    }
    return cells.shown(0, 0);
  };

  it('show the kind that they hold', () => {
    for (const kind of KINDS) expect(cellOf([kind, 100])).to.equal(kind);
    expect(cellOf()).to.equal(undefined);
  });

  it('show damage before anything else', () => {
    expect(cellOf(['data', 50], ['damaged', 1], ['zero', 49])).to.equal('damaged');
  });

  it('show the kind with most of the data, however little, before zeros, and zeros before nothing', () => {
    expect(cellOf(['zero', 60], ['data', 3], ['compressed', 4], ['absent', 33])).to.equal('compressed');
    expect(cellOf(['data', 3], ['shared', 4], ['compressed', 2])).to.equal('shared');
    expect(cellOf(['absent', 99], ['zero', 1])).to.equal('zero');
  });

  it('share a run that spans several of them, in its own layer', () => {
    const cells = new Cells(2, 4, 10);
    cells.add(extent('zero', 0, 5, 1));
    cells.add(extent('data', 5, 20, 1));
    cells.add(extent('compressed', 25, 15, 0));
    const row = (layer: number): (Kind | undefined)[] => [0, 1, 2, 3].map((cell) => cells.shown(layer, cell));
    expect(row(1)).to.deep.equal(['data', 'data', 'data', undefined]);
    expect(row(0)).to.deep.equal([undefined, undefined, 'compressed', 'compressed']);
  });

  it('take every byte of a disk that they do not divide evenly', () => {
    const size = 1000;
    const cells = new Cells(1, 7, size / 7);
    for (let at = 0; at < size; at++) cells.add(extent(at === size - 1 ? 'damaged' : 'data', at, 1));
    expect([0, 1, 2, 3, 4, 5, 6].map((cell) => cells.shown(0, cell))).to.deep.equal([
      ...Array.from({ length: 6 }, () => 'data'),
      'damaged',
    ]);
  });

  it('count as zeros what was set aside and never written', () => {
    const totals = new LayerTotals(2);
    totals.add({ ...extent('data', 0, 7, 1), zero: true });
    totals.add(extent('data', 7, 3, 0));
    expect(totals.layers[1]).to.deep.include({ zero: 7, data: 0 });
    expect(totals.sum).to.deep.equal({ data: 3, shared: 0, compressed: 0, zero: 7, absent: 0, damaged: 0 });
  });
});
