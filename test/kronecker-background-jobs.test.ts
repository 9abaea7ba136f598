// One decomposition in the background: the same bits as eigh, polled, waited for, or computed by who waits.

import { type Tensor, tensor } from '@otimes/core';
import { eigh, eighInBackground } from '@otimes/linalg';
import fc from 'fast-check';
import ndarray from 'ndarray';
import t from 'tap';
import { host as browser } from '../kernels/src/browser.ts';
import {
  begunOn,
  bytes,
  type Dtype,
  type Matrix,
  pause,
  polled,
  symmetric,
  withBackground,
} from './helpers/background.ts';
import { law } from './helpers/law.ts';

law(
  t,
  'eighInBackground finds what eigh finds, bit for bit, whether polled, waited for or computed by who waits',
  async t => {
    const cases = fc.record({
      n: fc.oneof(fc.constantFrom(0, 1, 2, 3, 24, 25), fc.nat(70)),
      dtype: fc.constantFrom<Dtype>('float32', 'float64'),
      exponent: fc.constantFrom(0, -9, -20, 12),
      deficient: fc.boolean(),
      wait: fc.boolean(),
    });
    fc.assert(
      fc.property(cases, ({ n, dtype, exponent, deficient, wait }) => {
        const a = symmetric(n, dtype, 10 ** exponent, deficient ? n >> 2 : n);
        const want = eigh(a);
        const job = eighInBackground(a);
        const kept = bytes(a.data);
        a.data.fill(Number.NaN); // it has a copy
        const got = wait ? job.take(true)! : polled(() => job.take(false));
        if (job.take(false) !== got) throw new Error('not the same again');
        for (const name of ['values', 'vectors'] as const) {
          if (Buffer.compare(bytes(got[name].data), bytes(want[name].data)) !== 0) throw new Error(`${name} differ`);
          t.strictSame(got[name].shape, want[name].shape);
        }
        t.equal(got.vectors.dtype, dtype);
        t.strictSame(bytes(job.matrix.data), kept);
        job.release();
      }),
      { seed: 3, numRuns: 60 },
    );
    const a = symmetric(200, 'float32');
    const jobs = Array.from({ length: 4 }, () => eighInBackground(a));
    const want = bytes(eigh(a).vectors.data);
    for (const job of jobs.reverse()) t.strictSame(bytes(job.take(true)!.vectors.data), want);
  },
);

/** fromᵀ · vectors as the training thread's own product. */
const turned = (from: Matrix, vectors: Matrix) => {
  const [U, V] = [from, vectors].map(x => tensor(x.data, { shape: x.shape })) as [Tensor, Tensor];
  return U.transpose().matmul(V).dataSync() as Float32Array;
};

law(t, "the rotation from an old basis has the bits of the training thread's product, whoever computes it", async t => {
  const cases = fc.record({
    n: fc.oneof(fc.constantFrom(0, 1, 2, 3, 5, 6, 7, 8, 9, 16), fc.nat(90)),
    dtype: fc.constantFrom<Dtype>('float32', 'float64'),
    wait: fc.boolean(),
  });
  const check = (n: number, dtype: Dtype, wait: boolean) => {
    const [a, from] = [symmetric(n, dtype), symmetric(n, dtype, 0.1, n >> 1)];
    const want = eigh(a);
    const job = eighInBackground(a, { from });
    const before = from.data.slice();
    from.data.fill(Number.NaN); // it has a copy
    const got = wait ? job.take(true)! : polled(() => job.take(false));
    const right = turned(ndarray(before, [n, n]), want.vectors as Matrix);
    if (!bytes(got.rotation!.data).equals(bytes(right))) throw new Error('the rotation differs');
    if (!bytes(got.vectors.data).equals(bytes(want.vectors.data))) throw new Error('the vectors differ');
    t.strictSame([got.rotation!.dtype, got.rotation!.shape], [dtype, [n, n]]);
    job.release();
  };
  const all = () =>
    fc.assert(
      fc.property(cases, ({ n, dtype, wait }) => check(n, dtype, wait)),
      { seed: 5, numRuns: 40 },
    );
  all();
  for (const dtype of ['float32', 'float64'] as const) check(300, dtype, false);
  await withBackground({ host: browser }, async warnings => {
    all();
    t.match(warnings, [/decompositions do not run in the background/]);
  });
  const [a, from] = [symmetric(4, 'float32'), symmetric(4, 'float64')];
  t.equal(polled(() => eighInBackground(a).take(true)).rotation, null);
  t.throws(() => eighInBackground(a, { from }), {
    message: 'eigh: expected a basis of the shape and dtype of the matrix: float64[4,4] and float32[4,4]',
  });
});

law(t, 'who may not sleep waits by looking again and again', async t => {
  const { wait } = Atomics;
  t.teardown(() => Object.assign(Atomics, { wait }));
  const a = symmetric(300, 'float64');
  const job = eighInBackground(a);
  while (!begunOn(job)) pause();
  let looks = 0;
  Object.assign(Atomics, {
    wait() {
      looks++;
      throw new TypeError('Atomics.wait cannot be called in this context');
    },
  });
  t.strictSame(bytes(job.take(true)!.vectors.data), bytes(eigh(a).vectors.data));
  t.ok(looks > 1);
});

law(t, 'memory is used again for the next matrix of the same size, and not before it was released', async t => {
  const a = symmetric(40, 'float32');
  const start = () => {
    const job = eighInBackground(a);
    polled(() => job.take(false));
    return job;
  };
  const [first, second] = [start(), start()];
  const place = first.matrix.data.buffer;
  t.not(second.matrix.data.buffer, place);
  first.release();
  first.release();
  t.throws(() => first.take(false), { message: 'eighInBackground: take() after release()' });
  const third = start();
  t.equal(third.matrix.data.buffer, place);
  t.strictSame(bytes(third.matrix.data), bytes(a.data));
  t.not(start().matrix.data.buffer, place);
});

law(t, 'what eigh refuses is refused in the same words', async t => {
  const message = (run: () => unknown) => {
    try {
      run();
    } catch (error) {
      return (error as Error).message;
    }
    return 'nothing was thrown';
  };
  const bad: Record<string, (data: Float32Array | Float64Array) => void> = {
    NaN: data => data.fill(Number.NaN, 2, 3),
    infinity: data => data.fill(Number.POSITIVE_INFINITY, 4, 5),
    asymmetry: data => data.fill(9, 3, 4),
  };
  for (const [what, spoil] of Object.entries(bad)) {
    const a = symmetric(3, 'float64');
    spoil(a.data);
    const want = message(() => eigh(a));
    t.match(want, /^eigh: expected (finite numbers|a symmetric matrix)/);
    const [waited, looked] = [eighInBackground(a), eighInBackground(a)];
    t.equal(
      message(() => polled(() => looked.take(false))),
      want,
      what,
    );
    t.equal(
      message(() => waited.take(true)),
      want,
      what,
    );
  }
  t.throws(() => eighInBackground(ndarray(new Float64Array(6), [2, 3])), {
    message: 'eigh: expected a square matrix: float64[2,3]',
  });
});
