/** Products, running sums and products, log-sum-exp and standard deviations at the edges, on every device. */

import assert from 'node:assert/strict';
import {
  cumprod,
  type DType,
  grad,
  logsumexp,
  prod,
  registerBackend,
  std,
  type Tensor,
  tensor,
  zeros,
} from '@otimes/core';
import t from 'tap';
import { Dozen } from './helpers/dozen.ts';
import { law } from './helpers/law.ts';

registerBackend(new Dozen('composed'));

/** The gradient of Σ weights · f(x), by element. */
function slopes(
  f: (x: Tensor) => Tensor,
  values: readonly number[],
  device: string,
  weights?: readonly number[],
): number[] {
  const x = tensor([...values], { dtype: 'float64', device, requiresGrad: true });
  const y = f(x);
  const [g] = grad((weights === undefined ? y : y.mul([...weights])).sum(), [x]);
  return Array.from(g.dataSync(), slope => slope + 0);
}

for (const device of ['cpu', 'reference', 'composed']) {
  const made = (values: number[], dtype: DType = 'float32') => tensor(values, { dtype, device });

  law(
    t,
    `${device}: the gradient of a product is the product of the others, whether none, one or several are 0`,
    () => {
      assert.deepEqual(slopes(prod, [2, 3, 4], device), [12, 8, 6]);
      assert.deepEqual(slopes(prod, [2, 0, 4], device), [0, 8, 0]);
      assert.deepEqual(slopes(prod, [0, 3, 0], device), [0, 0, 0]);
      assert.deepEqual(slopes(prod, [5], device), [1]);
    },
  );

  law(t, `${device}: so is that of running products: every later one takes part`, () => {
    // y = [a, ab, abc]
    const of = ([a, b, c]: number[], [u, v, w]: number[]) => [
      u! + v! * b! + w! * b! * c!,
      v! * a! + w! * a! * c!,
      w! * a! * b!,
    ];
    for (const values of [
      [2, 3, 4],
      [2, 0, 4],
      [0, 3, 0],
      [0, 0, 0],
    ])
      assert.deepEqual(
        slopes(x => cumprod(x, 0), values, device, [1, 10, 100]),
        of(values, [1, 10, 100]),
      );
  });

  law(t, `${device}: second derivatives of a product of three are the third factor, whatever is 0`, () => {
    for (const values of [
      [2, 3, 5],
      [0, 3, 5],
      [0, 0, 5],
    ]) {
      const x = tensor(values, { dtype: 'float64', device, requiresGrad: true });
      for (const f of [prod, (x: Tensor) => cumprod(x, 0).slice(2)]) {
        const [g] = grad(f(x), [x], { createGraph: true });
        const [h] = grad(g.slice(0), [x]);
        assert.deepEqual(
          Array.from(h.dataSync(), value => value + 0),
          [0, values[2], values[1]],
        );
      }
    }
  });

  law(t, `${device}: products of nothing are 1; those of int32 wrap; bool counts as int32`, () => {
    assert.equal(prod(zeros([0], { device })).item(), 1);
    assert.deepEqual(prod(zeros([2, 0], { device }), 1).toArray(), [1, 1]);
    assert.deepEqual(prod(zeros([2, 0], { device }), 0).shape, [0]);
    assert.equal(prod(made([65536, 65536, 3], 'int32')).item(), 0);
    assert.equal(prod(made([2147483647, 2147483647], 'int32')).item(), 1);
    assert.equal(prod(made([1, 1], 'bool')).dtype, 'int32');
    assert.deepEqual(cumprod(made([1, 0, 1], 'bool'), 0).toArray(), [1, 0, 0]);
    assert.deepEqual(cumprod(zeros([0, 3], { device }), 0).shape, [0, 3]);
    assert.deepEqual(cumprod(made([2, Number.NaN, 3]), -1).toArray(), [2, Number.NaN, Number.NaN]);
  });

  law(t, `${device}: running sums of nothing are nothing; int32 wraps, bool counts, ∞ and NaN stay to the end`, () => {
    assert.deepEqual(zeros([0, 3], { device }).cumsum(0).shape, [0, 3]);
    assert.deepEqual(zeros([3, 0], { device }).cumsum(0).shape, [3, 0]);
    assert.deepEqual(made([2147483647, 1], 'int32').cumsum(0).toArray(), [2147483647, -2147483648]);
    assert.deepEqual(made([1, 0, 1], 'bool').cumsum(0).toArray(), [1, 1, 2]);
    assert.equal(made([1, 0, 1], 'bool').cumsum(0).dtype, 'int32');
    assert.deepEqual(made([1, Infinity, 1, -Infinity, 2]).cumsum(0).toArray(), [
      1,
      Infinity,
      Infinity,
      Number.NaN,
      Number.NaN,
    ]);
    assert.throws(() => zeros([2], { device }).cumsum(1), { name: 'ShapeError' });
  });

  law(
    t,
    `${device}: logsumexp of −∞ alone, or of nothing, is −∞, and ∞ where one is; large numbers do not overflow`,
    () => {
      const of = (...values: number[]) => logsumexp(made(values, 'float64')).item();
      assert.equal(of(), -Infinity);
      assert.deepEqual(logsumexp(zeros([2, 0], { device }), 1).toArray(), [-Infinity, -Infinity]);
      assert.equal(of(-Infinity, -Infinity), -Infinity);
      assert.equal(of(Infinity, 1), Infinity);
      assert.equal(of(Infinity, -Infinity), Infinity);
      assert.ok(Number.isNaN(of(Number.NaN, Infinity)));
      assert.equal(of(1e300, 1e300), 1e300);
      assert.ok(Math.abs(of(1000, 1000) - 1000 - Math.LN2) < 1e-12);
      assert.ok(Math.abs(of(-1000, -1000) + 1000 - Math.LN2) < 1e-12);
      assert.equal(of(5, -Infinity), 5);
      // PyTorch's: the share of each, which an infinity does not have.
      assert.deepEqual(slopes(logsumexp, [5, -Infinity], device), [1, 0]);
      assert.deepEqual(slopes(logsumexp, [Infinity, 1], device), [Number.NaN, 0]);
      assert.deepEqual(slopes(logsumexp, [-Infinity, -Infinity], device), [Number.NaN, Number.NaN]);
    },
  );

  law(t, `${device}: the standard deviation of one number is NaN, of equal ones 0 with gradient 0`, () => {
    assert.ok(Number.isNaN(std(made([3])).item()));
    assert.equal(std(made([3]), undefined, { correction: 0 }).item(), 0);
    assert.equal(std(made([2, 2, 2])).item(), 0);
    assert.deepEqual(slopes(std, [1, 1], device), [0, 0]);
    assert.deepEqual(
      slopes(std, [0, 2], device).map(x => x.toFixed(12)),
      ['-0.707106781187', '0.707106781187'],
    );
    assert.equal(std(made([1, 2, 3], 'int32')).dtype, 'float32');
  });
}

law(t, 'std is in range wherever it is itself, and so is its gradient', () => {
  const near = (actual: number, expected: number) =>
    assert.ok(Math.abs(actual / expected - 1) < 1e-6, `${actual}, expected ${expected}`);
  const cases: [number[], number][] = [
    [[1e20, 1], 1e20 * Math.SQRT1_2],
    [[1e-25, 3e-25], 2e-25 * Math.SQRT1_2],
    [[3e38, -3e38], 3e38 * Math.SQRT2],
  ];
  for (const [values, expected] of cases) {
    const x = tensor(values, { requiresGrad: true });
    const y = std(x.mul(1));
    if (expected < 3.4e38) near(y.item(), expected);
    std(x).backward();
    const g = x.grad!.toArray() as number[];
    if (expected < 3.4e38) near(Math.abs(g[0]!), Math.SQRT1_2);
  }
  assert.deepEqual(std(tensor([2, 2, 2])).item(), 0);
  assert.ok(Number.isNaN(std(tensor([1])).item()) && Number.isNaN(std(zeros([0])).item()));
});
