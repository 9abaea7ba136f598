/** What gradients are, of any order, where differences cannot tell too, and what operations defined outside promise. */

import assert from 'node:assert/strict';
import {
  concat,
  defineOp,
  full,
  GraphError,
  grad,
  isRecording,
  noGrad,
  ones,
  randn,
  stack,
  type Tensor,
  tensor,
  where,
  zeros,
} from '@otimes/core';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { gradcheck, gradgradcheck } from './helpers/gradcheck.ts';
import { law } from './helpers/law.ts';
import { leaf, plain } from './helpers/leaves.ts';

/** A small net of two layers, with everything that matters: products, broadcasting, reuse, views, a reduction. */
const [w1, b1, w2] = [leaf(4, 3), leaf(4), leaf(2, 4)];
const input = plain(5, 3);
const net = (...[w, b, v]: Tensor[]): Tensor => {
  const h = input.matmul(w!.transpose()).add(b!).tanh();
  return h
    .matmul(v!.transpose())
    .add(h.slice(null, [0, 2]))
    .logSoftmax()
    .slice(null, 0)
    .mean()
    .neg();
};

// --- what gradients are ---------------------------------------------------------------------------------------------

law(t, 'a net has the gradients and second derivatives that differences say', async () => {
  await gradcheck(net, [w1, b1, w2]);
  await gradgradcheck(net, [w1, b1, w2]);
});

law(t, 'the gradient is linear: in the function, and in gy', () => {
  const x = leaf(3, 2);
  const [f, g] = [(z: Tensor) => z.tanh(), (z: Tensor) => z.square().mul(z)];
  const gy = plain(3, 2);
  const [df] = grad(f(x), [x], { gy });
  const [dg] = grad(g(x), [x], { gy });
  const [both] = grad(f(x).mul(2).sub(g(x).mul(3)), [x], { gy });
  mustBeClose(both!, df!.mul(2).sub(dg!.mul(3)));
  const [twice] = grad(f(x), [x], { gy: gy.mul(2) });
  mustBeClose(twice!, df!.mul(2));
});

law(t, 'a tensor used twice gets the sum of both gradients', () => {
  const x = leaf(4);
  const [a, b] = [x.detach(), x.detach()];
  a.requiresGrad = b.requiresGrad = true;
  const f = (p: Tensor, q: Tensor) => p.exp().mul(q.sin()).sum();
  const [once] = grad(f(x, x), [x]);
  const [da, db] = grad(f(a, b), [a, b]);
  mustBeClose(once!, da!.add(db!));
  mustBeClose(grad(x.mul(x).sum(), [x])[0]!, x.mul(2));
  mustBeClose(grad(concat([x, x]).sum(), [x])[0]!, full([4], 2));
});

law(t, 'backward leaves in .grad what grad returns, and adds up over calls', () => {
  const xs = [w1, b1, w2];
  const expected = grad(net(...xs), xs);
  for (const times of [1, 2, 3]) {
    net(...xs).backward();
    for (const [i, x] of xs.entries()) mustBeClose(x.grad!, expected[i]!.mul(times), {}, `after ${times}`);
  }
  for (const x of xs) x.grad = null;
});

law(t, 'gradients come back in the dtype, shape and device of their leaf', () => {
  const x = randn([3, 1], { requiresGrad: true });
  x.astype('float64')
    .mul(plain(2, 1, 4))
    .sum()
    .backward();
  assert.deepEqual([x.grad!.dtype, x.grad!.shape], ['float32', [3, 1]]);
  const y = randn([2], { requiresGrad: true });
  y.mul(y.astype('float64')).backward(ones([2]));
  mustBeClose(y.grad!, y.mul(2));
});

law(t, 'no gradient flows through what has none: comparisons, rounding, indices, integers', () => {
  const x = leaf(3);
  for (const y of [x.gt(0), x.floor(), x.argmax(), x.astype('int32'), x.sign(), x.isNaN()]) assert.ok(!y.requiresGrad);
});

law(t, 'a constant function of x is one that x does not reach', () => {
  const x = leaf(3);
  assert.throws(() => grad(x.detach().mul(leaf(3)).sum(), [x]), GraphError);
});

// --- ties and kinks, where differences cannot tell -------------------------------------------------------------------

law(
  t,
  'equal extrema share the gradient, relu is flat at 0, abs too, clamp counts its borders, norm is flat at 0',
  () => {
    const x = (values: number[]) => tensor(new Float64Array(values), { requiresGrad: true });
    const gradient = (values: number[], f: (x: Tensor) => Tensor): Tensor => {
      const at = x(values);
      return grad(f(at).sum(), [at])[0]!;
    };
    mustBeClose(
      gradient([1, 3, 3], z => z.max()),
      [0, 0.5, 0.5],
    );
    mustBeClose(
      gradient([1, 1, 3], z => z.min(0)),
      [0.5, 0.5, 0],
    );
    mustBeClose(
      gradient([0, 1, -1], z => z.relu()),
      [0, 1, 0],
    );
    mustBeClose(
      gradient([0, 2, -2], z => z.abs()),
      [0, 1, -1],
    );
    mustBeClose(
      gradient([-1, 0, 1, 2], z => z.clamp(-1, 1)),
      [1, 1, 1, 0],
    );
    mustBeClose(
      gradient([2, 1], z => z.maximum(2)),
      [0.5, 0],
    );
    mustBeClose(
      gradient([0, 0], z => z.norm()),
      [0, 0],
    );
    mustBeClose(
      gradient([0, 2], z => z.pow(2)),
      [0, 4],
    );
    mustBeClose(
      gradient([0, 2], z => z.pow(0)),
      [0, 0],
    );
    mustBeClose(
      gradient([0, 2], z => z.pow(1)),
      [1, 1],
    );
  },
);

law(t, 'the gradient by an exponent is finite where the base is 0', () => {
  const b = tensor(new Float64Array([0, 2]), { requiresGrad: true });
  mustBeClose(grad(zeros([2], { dtype: 'float64' }).pow(b).sum(), [b])[0]!, [0, 0]);
});

law(t, 'where lets no NaN through from the branch that was not taken', () => {
  const x = tensor(new Float64Array([0, 4]), { requiresGrad: true });
  const safe = x.eq(0);
  mustBeClose(grad(where(safe, 0, where(safe, 1, x).sqrt()).sum(), [x])[0]!, [0, 0.25]);
});

// --- requiring gradients --------------------------------------------------------------------------------------------

law(t, 'a result requires a gradient if an input does, outside of noGrad; detach cuts it off', () => {
  const [x, c] = [leaf(2), plain(2)];
  assert.ok(x.add(c).requiresGrad && c.mul(x).requiresGrad && x.reshape(1, 2).requiresGrad);
  assert.ok(!c.add(c).requiresGrad && !x.detach().requiresGrad && x.detach().isLeaf);
  assert.ok(x.isLeaf && !x.exp().isLeaf);
  assert.equal(x.detach().storage, x.storage);
  const y = noGrad(() => {
    assert.ok(!isRecording());
    return x.exp();
  });
  assert.ok(!y.requiresGrad && y.isLeaf && isRecording());
  assert.throws(() => noGrad(() => assert.fail('inside')), /inside/);
  assert.ok(isRecording());
  mustBeClose(grad(x.mul(x.detach()).sum(), [x])[0]!, x);
});

law(t, 'a leaf may start or stop requiring a gradient', () => {
  const x = plain(2);
  x.requiresGrad = true;
  const y = x.mul(2).sum();
  x.requiresGrad = false;
  assert.ok(!x.mul(2).requiresGrad);
  y.backward();
  assert.equal(x.grad, null);
});

law(t, 'a backward inside noGrad works, and gradients are not recorded unless createGraph says so', () => {
  const x = leaf(2);
  const y = x.exp().sum();
  noGrad(() => y.backward());
  assert.ok(!x.grad!.requiresGrad);
  assert.ok(!grad(x.exp().sum(), [x])[0]!.requiresGrad);
  assert.ok(grad(x.exp().sum(), [x], { createGraph: true })[0]!.requiresGrad);
});

// --- higher derivatives ---------------------------------------------------------------------------------------------

law(t, 'third derivatives are those of the textbook', () => {
  const third = (f: (x: Tensor) => Tensor, x: Tensor): Tensor => {
    let y = f(x);
    for (let i = 0; i < 3; i++) y = grad(y.sum(), [x], { createGraph: true })[0]!;
    return y;
  };
  const x = leaf(4);
  mustBeClose(
    third(z => z.pow(4), x),
    x.mul(24),
  );
  mustBeClose(
    third(z => z.sin(), x),
    x.cos().neg(),
  );
  mustBeClose(
    third(z => z.exp(), x),
    x.exp(),
  );
  const s = x.tanh().square();
  mustBeClose(
    third(z => z.tanh(), x),
    s.mul(s.mul(-6).add(8)).sub(2),
  );
  const positive = x.square().add(1).detach();
  positive.requiresGrad = true;
  mustBeClose(
    third(z => z.log(), positive),
    positive.pow(-3).mul(2),
  );
});

law(t, 'a Hessian-vector product is the dense Hessian, by differences of gradients, times the vector', () => {
  const [w, b, v] = [w1, b1, w2].map(p => p.detach());
  const sizes = [w!.size, b!.size, v!.size];
  const total = sizes.reduce((p, q) => p + q);
  const theta = concat([w!.flatten(), b!.flatten(), v!.flatten()]);
  const loss = (p: Tensor): Tensor =>
    net(p.narrow(0, 0, 12).reshape(4, 3), p.narrow(0, 12, 4), p.narrow(0, 16, 8).reshape(2, 4));
  const gradientAt = (values: Tensor): Tensor => {
    const p = values.detach();
    p.requiresGrad = true;
    return grad(loss(p), [p])[0]!;
  };
  const columns = Array.from({ length: total }, (_, i) => {
    const step = tensor(Float64Array.from({ length: total }, (__, j) => (i === j ? 1e-5 : 0)));
    return gradientAt(theta.add(step))
      .sub(gradientAt(theta.sub(step)))
      .div(2e-5);
  });
  const p = theta.detach();
  p.requiresGrad = true;
  const vector = plain(total);
  const [g] = grad(loss(p), [p], { createGraph: true });
  const [hv] = grad(g!.mul(vector).sum(), [p]);
  mustBeClose(hv!, stack(columns).transpose().matmul(vector), { rtol: 1e-6, atol: 1e-8 });
});

// --- size -----------------------------------------------------------------------------------------------------------

const DEPTH = 50_000;

law(t, 'a chain of 50,000 operations does not overflow the stack', () => {
  const x = tensor(1, { dtype: 'float64', requiresGrad: true });
  let y: Tensor = x;
  for (let i = 0; i < DEPTH; i++) y = y.add(1e-9);
  mustBeClose(grad(y, [x])[0]!, 1);
  y.backward();
  mustBeClose(x.grad!, 1);
});

law(t, 'nor do 25,000 diamonds one after the other, nor one tensor used 50,000 times', () => {
  const x = tensor(1, { dtype: 'float64', requiresGrad: true });
  let y: Tensor = x;
  for (let i = 0; i < DEPTH / 2; i++) y = y.mul(0.5).add(y.mul(0.5));
  y.backward();
  mustBeClose(x.grad!, 1);
  const wide = concat(Array.from({ length: DEPTH }, () => x.reshape(1)));
  mustBeClose(grad(wide.sum(), [x])[0]!, DEPTH);
});

// --- operations from outside ----------------------------------------------------------------------------------------

law(
  t,
  'an operation defined outside is like those inside: broadcasting, second derivatives, names in errors',
  async () => {
    const hypot = defineOp<null>({
      name: 'hypot',
      shape: ([a, b]) => ({ shape: a!.mul(b!).shape, dtype: a!.dtype }),
      forward(_, [a, b], out) {
        out.copy_(noGrad(() => a!.square().add(b!.square()).sqrt()));
      },
      backward(gy, node) {
        const [a, b] = [node.input(0), node.input(1)];
        const y = a.square().add(b.square()).sqrt();
        return [gy.mul(a).div(y), node.needs(1) ? gy.mul(b).div(y) : null];
      },
    });
    const f = (a: Tensor, b: Tensor) => hypot([a, b], null);
    await gradcheck(f, [plain(2, 3), plain(3)]);
    await gradgradcheck(f, [plain(2, 1), plain(3)]);
    const x = leaf(2);
    const y = f(x, plain(2)).sum();
    noGrad(() => x.scale_(2));
    assert.throws(() => y.backward(), /^GraphError: hypot: backward needs its input 0/);
  },
);

// --- operations of the program's own -----------------------------------------------------------------------------------

law(t, 'what the functions of an operation of the program’s own return is checked', () => {
  const record = {
    name: 'twice',
    shape: ([x]: readonly Tensor[]) => ({ shape: x!.shape, dtype: x!.dtype }),
    forward: (
      ...[backend, [x], out]: Parameters<Extract<Parameters<typeof defineOp<null>>[0], { forward: unknown }>['forward']>
    ) => backend.binary('add', x!, x!, out),
  };
  const x = leaf(2);
  const rules: [unknown, RegExp][] = [
    [
      (gy: Tensor) => gy.mul(2),
      /^TypeError: twice: expected backward to return 1 gradient, one for each input, or null, got float64\[2\]/,
    ],
    [async (gy: Tensor) => [gy], /got a promise/],
    [() => [], /got \[\]/],
    [(gy: Tensor) => [gy, gy], /got \[float64\[2\], float64\[2\]\]/],
    [() => undefined, /got undefined/],
    [() => [3], /expected a gradient of backward to be a tensor, got 3/],
    [
      (gy: Tensor) => [gy.to('reference')],
      /^DTypeError: twice: expected tensors on one device, got cpu and reference$/,
    ],
  ];
  for (const [backward, says] of rules) {
    const op = defineOp<null>({ ...record, backward: backward as never });
    assert.throws(() => op([x], null).sum().backward(), says);
  }
  assert.throws(
    () => defineOp<null>({ ...record, backward: undefined as never }),
    /expected backward to be a function, or notDiff/,
  );
  const shaped = (result: unknown) =>
    defineOp<null>({ ...record, shape: (() => result) as never, backward: gy => [gy] });
  for (const [result, says] of [
    [undefined, /twice: expected the result of shape to be { shape, dtype }/],
    [{ shape: [2] }, /DTypeError: twice: expected the dtype of the result/],
    [{ shape: [-1], dtype: 'float32' }, /twice: a shape is made of integers ≥ 0/],
  ] as const)
    assert.throws(() => shaped(result)([x], null), says);
});

law(t, 'a view of the program’s own lies within its storage', () => {
  const x = leaf(4);
  const view = (layout: object) =>
    defineOp<null>({ name: 'wide', view: () => layout as never, backward: gy => [gy] })([x], null);
  for (const layout of [
    { shape: [64], strides: [1], offset: 0 },
    { shape: [2], strides: [1], offset: 3 },
    { shape: [2], strides: [-1], offset: 0 },
    { shape: [2, 2], strides: [3, 2], offset: 0 },
    { shape: [2], strides: [0.5], offset: 0 },
    {},
  ])
    assert.throws(() => view(layout), /wide: expected a view within the 4 elements of the storage/);
  assert.deepEqual(view({ shape: [4], strides: [-1], offset: 3 }).toArray(), (x.toArray() as number[]).toReversed());
  assert.deepEqual(view({ shape: [0, 5], strides: [9, 9], offset: 0 }).size, 0);
});
