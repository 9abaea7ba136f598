// Several decompositions side by side: those of eigh, wherever they were computed.

import { type Eigen, eigh, eighAll, setSolver } from '@otimes/linalg';
import t from 'tap';
import type { Host } from '../kernels/src/host.ts';
import { host as node } from '../kernels/src/node.ts';
import { bytes, type Matrix, symmetric, withBackground } from './helpers/background.ts';
import { law } from './helpers/law.ts';

/** Node's workers; `started` counts them. */
function counting() {
  const state = { started: 0 };
  const host: Host = {
    ...node,
    startWorker(...o) {
      state.started++;
      return node.startWorker(...o);
    },
  };
  return { state, host };
}

const bitsOf = ({ values, vectors }: Eigen) => [bytes(values.data), bytes(vectors.data as Float64Array), vectors.shape];
const sizes = [310, 3, 420, 0, 400, 64, 1, 430];
const matrices = sizes.map((n, i) => symmetric(n, i % 2 === 0 ? 'float32' : 'float64', 1, Math.min(n, 20)));
const want = matrices.map(a => bitsOf(eigh(a)));

law(t, 'eighAll finds what eigh finds, bit for bit and in order, with any number of workers', async t => {
  for (const workers of [1, 2, 3]) {
    const { state, host } = counting();
    await withBackground({ host, workers }, warnings => {
      const kept = matrices.map(({ data }) => bytes(data));
      t.strictSame(eighAll(matrices).map(bitsOf), want);
      t.strictSame(
        matrices.map(({ data }) => bytes(data)),
        kept,
        'what it was given stays',
      );
      t.equal(state.started, workers);
      t.strictSame(eighAll(matrices).map(bitsOf), want, 'with workers that wait');
      t.equal(state.started, workers);
      t.strictSame(warnings, []);
    });
  }
});

law(t, 'what others could do in no time is done here, as is what a solver was given for', async t => {
  const { state, host } = counting();
  await withBackground({ host }, () => {
    const small = [symmetric(100, 'float32'), symmetric(30, 'float64'), symmetric(430, 'float32')];
    t.strictSame(
      eighAll(small).map(bitsOf),
      small.map(a => bitsOf(eigh(a))),
    );
    t.strictSame(eighAll([]), []);
    t.equal(state.started, 0);
    let solved = 0;
    setSolver({
      eigh(n, _, values) {
        solved += n;
        values.fill(0);
      },
    });
    try {
      eighAll([matrices[2]!, matrices[7]!]);
    } finally {
      setSolver(null);
    }
    t.equal(solved, 850);
    t.equal(state.started, 0);
  });
});

law(t, 'where workers do not start or break all is found all the same, or an error says so', async t => {
  const dying: Host = {
    ...node,
    startWorker: (_, data, stopped) => node.startWorker('process.reallyExit(3)', data, stopped),
  };
  await withBackground({ host: dying }, () => {
    t.strictSame(eighAll(matrices).map(bitsOf), want);
  });
  const bad: Matrix = symmetric(410, 'float32');
  bad.data[7] = Number.NaN;
  await withBackground({}, () => {
    for (const list of [
      [...matrices, bad],
      [bad, ...matrices],
    ])
      t.throws(() => eighAll(list), {
        message: /^eigh: expected finite numbers: float32\[410,410\] with NaN at \[0,7\]/,
      });
    t.strictSame(eighAll(matrices).map(bitsOf), want, 'and the next ones are right');
  });
});
