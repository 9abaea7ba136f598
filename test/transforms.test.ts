/** jvp, vjp, jacobian, hessian and hessianVectorProduct: explicit formulas, differences, adjoints, and PyTorch's forms. */

import assert from 'node:assert/strict';
import {
  eye,
  Generator,
  grad,
  hessian,
  hessianVectorProduct,
  isRecording,
  jacobian,
  jvp,
  noGrad,
  ones,
  randn,
  type Tensor,
  tensor,
  vjp,
  zeros,
} from '@otimes/core';
import { mlp, mseLoss } from '@otimes/nn';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { laterDevice } from './helpers/later.ts';
import { law, overSeeds } from './helpers/law.ts';

const wide = { dtype: 'float64' } as const;
const drawn = (seed: number, ...shape: number[]) => randn(shape, { ...wide, rng: new Generator(seed) });
/** Of x [3] and w [2, 3]: two outputs, neither linear. */
const pair = (x: Tensor, w: Tensor): Tensor[] => [w.matmul(x.sin()).tanh(), x.mul(w.sum()).exp().mean()];
const dot = (a: readonly Tensor[], b: readonly Tensor[]): number =>
  a.reduce((s, x, i) => s + x.mul(b[i]!).sum().item(), 0);

law(t, 'J t is what differences along t say, and ⟨v, J t⟩ = ⟨vᵀ J, t⟩', () =>
  overSeeds(20, seed => {
    const [x, w] = [drawn(seed, 3), drawn(seed + 1, 2, 3)];
    const ts = [drawn(seed + 2, 3), drawn(seed + 3, 2, 3)];
    const vs = [drawn(seed + 4, 2), drawn(seed + 5)];
    const [outputs, moved] = jvp(pair, [x, w] as const, ts);
    const step = 1e-6;
    const [above, below] = [1, -1].map(s => pair(x.add(ts[0]!.mul(s * step)), w.add(ts[1]!.mul(s * step))));
    for (const [i, one] of moved.entries())
      mustBeClose(one, above![i]!.sub(below![i]!).div(2 * step), { rtol: 1e-6, atol: 1e-6 });
    const [same, back] = vjp(pair, [x, w] as const, vs);
    for (const [i, y] of pair(x, w).entries()) for (const one of [outputs[i]!, same[i]!]) mustBeClose(one, y);
    const [left, right] = [dot(vs, moved), dot(back, ts)];
    assert.ok(Math.abs(left - right) <= 1e-10 * (1 + Math.abs(left)));
  }),
);

law(t, 'the Jacobian of a product with a matrix is the matrix, of x² twice its diagonal', () => {
  const a = drawn(1, 4, 3);
  mustBeClose(
    jacobian((x: Tensor) => a.matmul(x), drawn(2, 3)),
    a,
  );
  const x = drawn(3, 3);
  mustBeClose(
    jacobian((y: Tensor) => y.square(), x),
    eye(3, wide).mul(x.mul(2)),
  );
});

law(t, 'Jacobians have the forms of outputs and inputs, and rows that are vjps', () => {
  const [x, w] = [drawn(4, 3), drawn(5, 2, 3)];
  const all = jacobian(pair, [x, w] as const);
  assert.deepEqual(
    all.map(row => row.map(one => one.shape)),
    [
      [
        [2, 3],
        [2, 2, 3],
      ],
      [[3], [2, 3]],
    ],
  );
  for (let i = 0; i < 2; i++) {
    const v = [zeros([2], wide), zeros([], wide)];
    v[0] = eye(2, wide).slice(i);
    const [, row] = vjp(pair, [x, w] as const, v);
    for (const [k, one] of row.entries()) mustBeClose(all[0]![k]!.slice(i), one);
  }
  const single = jacobian((a: Tensor) => [a, a.sum()], x);
  assert.deepEqual(
    single.map(one => one.shape),
    [[3, 3], [3]],
  );
  assert.deepEqual(jacobian((a: Tensor) => a.slice([0, 0]), x).shape, [0, 3]);
});

law(
  t,
  'the Hessian of xᵀ A x / 2 is the symmetric part of A, that of a scalar function is symmetric, and H v its product',
  () => {
    const a = drawn(6, 3, 3);
    mustBeClose(
      hessian((x: Tensor) => x.matmul(a.matmul(x)).mul(0.5), drawn(7, 3)),
      a.add(a.transpose()).mul(0.5),
    );
    overSeeds(10, seed => {
      const f = (x: Tensor, w: Tensor) => pair(x, w)[0]!.square().sum().add(pair(x, w)[1]!);
      const inputs = [drawn(seed, 3), drawn(seed + 1, 2, 3)] as const;
      const h = hessian(f, inputs);
      const flat = (row: number) => h[row]!.map(one => one.reshape(inputs[row]!.size, -1));
      const [[xx, xw], [wx, ww]] = [flat(0), flat(1)] as [[Tensor, Tensor], [Tensor, Tensor]];
      const tolerance = { rtol: 1e-9, atol: 1e-9 };
      for (const [one, other] of [
        [xx, xx],
        [ww, ww],
        [xw, wx],
      ] as const)
        mustBeClose(one, other.transpose(), tolerance);
      const v = [drawn(seed + 2, 3), drawn(seed + 3, 2, 3)];
      const [value, product] = hessianVectorProduct(f, inputs, v);
      assert.equal(value.item(), f(...inputs).item());
      mustBeClose(product[0]!, xx.matmul(v[0]!).add(xw.matmul(v[1]!.flatten())), tolerance);
      mustBeClose(product[1]!.flatten(), wx.matmul(v[0]!).add(ww.matmul(v[1]!.flatten())), tolerance);
    });
  },
);

law(t, 'what does not depend on an input, or not twice, has zeros; with strict it is a GraphError', () => {
  const f = (x: Tensor, _: Tensor) => x.mul(2);
  const inputs = [drawn(1, 2), drawn(2, 3)] as const;
  assert.deepEqual(jacobian(f, inputs)[1]!.toArray(), zeros([2, 3]).toArray());
  assert.deepEqual(jvp(() => ones([2], wide), inputs[0], drawn(3, 2))[1].toArray(), [0, 0]);
  assert.deepEqual(hessian((x: Tensor) => x.sum(), inputs[0]).toArray(), zeros([2, 2]).toArray());
  assert.throws(
    () => jacobian(f, inputs, { strict: true }),
    /^GraphError: jacobian: the result does not depend on float64\[3\]/,
  );
});

law(t, 'results belong to no graph, and with createGraph are differentiable by the inputs', () => {
  const x = drawn(8, 3);
  x.requiresGrad = true;
  const cube = (y: Tensor) => y.square().mul(y);
  assert.deepEqual([jacobian(cube, x).requiresGrad, vjp(cube, x, x)[0].requiresGrad], [false, false]);
  const h = hessian((y: Tensor) => cube(y).sum(), x, { createGraph: true });
  mustBeClose(grad(h.sum(), [x])[0]!, ones([3], wide).mul(6));
  const [, moved] = jvp(cube, x, ones([3], wide), { createGraph: true });
  mustBeClose(grad(moved.sum(), [x])[0]!, x.detach().mul(6));
  assert.equal(x.grad, null);
});

law(t, 'they record inside noGrad, leave recording as it was, and leave no gradient anywhere', () => {
  const model = mlp([3, 4, 1], { rng: new Generator(1) });
  const x = randn([5, 3], { rng: new Generator(2) });
  noGrad(() => {
    const j = jacobian((y: Tensor) => model.call(y), x);
    assert.deepEqual(j.shape, [5, 1, 5, 3]);
    assert.equal(isRecording(), false);
  });
  const [value] = hessianVectorProduct((y: Tensor) => mseLoss(model.call(y), x.sum(1, { keepdim: true })), x, x);
  assert.equal(value.requiresGrad, false);
  for (const p of model.parameters()) assert.equal(p.grad, null);
});

law(t, 'one tensor given twice is two inputs', () => {
  const x = tensor([2, 3], wide);
  const [a, b] = jacobian((p: Tensor, q: Tensor) => p.mul(q.square()), [x, x] as const) as [Tensor, Tensor];
  mustBeClose(a, eye(2, wide).mul(x.square()));
  mustBeClose(b, eye(2, wide).mul(x.square().mul(2)));
});

law(t, 'a device that is read with await computes all of them without a read', async () => {
  const later = laterDevice();
  const x = ones([3], { ...wide, device: later.device });
  const f = (y: Tensor) => y.square().mul(y).sum();
  assert.deepEqual(await hessian(f, x).array(), eye(3).mul(6).toArray());
  assert.deepEqual(await jvp((y: Tensor) => y.square(), x, x)[1].array(), [2, 2, 2]);
  assert.deepEqual(await hessianVectorProduct(f, x, x)[1].array(), [6, 6, 6]);
  assert.equal(later.instantReads, 0);
});
