/** Autograd and lifetime: what gradients are, where they go, when the graph refuses, and how long memory lives. */

import assert from 'node:assert/strict';
import { setTimeout } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import {
  concat,
  defineOp,
  full,
  Generator,
  GraphError,
  getBackend,
  grad,
  isRecording,
  noGrad,
  ones,
  owningIntermediates,
  ReleasedError,
  randn,
  scope,
  stack,
  type Tensor,
  tensor,
  unscoped,
  WasmBackend,
  where,
  zeros,
} from '@otimes/core';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { gradcheck, gradgradcheck } from './helpers/gradcheck.ts';
import { law } from './helpers/law.ts';
import { lifetimeFuzz } from './suites/lifetime.ts';

const rng = new Generator(1);
const leaf = (...shape: number[]) => randn(shape, { dtype: 'float64', requiresGrad: true, rng });
const plain = (...shape: number[]) => randn(shape, { dtype: 'float64', rng });

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

// --- where gradients go ---------------------------------------------------------------------------------------------

law(t, 'gradients of two leaves never share memory, nor with gy, nor with what a hook has seen or given', () => {
  const shared: [string, (a: Tensor, b: Tensor) => Tensor][] = [
    ['add', (a, b) => a.add(b)],
    [
      'concat',
      (a, b) =>
        concat([a, b])
          .slice([0, 3])
          .add(concat([a, b]).slice([3])),
    ],
    ['stack', (a, b) => stack([a, b]).sum(0)],
    [
      'views',
      (a, b) =>
        a
          .reshape(3, 1)
          .squeeze()
          .add(b.slice([null, null, -1])),
    ],
  ];
  for (const [name, f] of shared)
    for (const hooks of [false, true]) {
      const [a, b, gy] = [leaf(3), leaf(3), plain(3)];
      const seen: Tensor[] = [];
      const y = f(a, b);
      if (hooks) {
        y.onGrad(g => {
          seen.push(g);
          return g.clone();
        });
        a.onGrad(g => {
          seen.push(g);
          return gy;
        });
      }
      y.backward(gy);
      const memory = [a.grad!, b.grad!, gy, ...seen.filter(g => g.storage !== gy.storage)];
      const values = memory.map(x => x.dataSync());
      for (const [i, x] of [a.grad!, b.grad!].entries()) {
        x.scale_(100);
        for (const [j, other] of memory.entries())
          if (i !== j) assert.deepEqual(other.dataSync(), values[j], `${name}: ${i} and ${j}`);
        x.copy_(tensor(values[i]!));
      }
    }
});

law(t, 'grad keeps the graph and touches no .grad; backward may still follow', () => {
  const x = leaf(3);
  const y = x.exp().sum();
  const [first] = grad(y, [x]);
  mustBeClose(grad(y, [x])[0]!, first!);
  assert.equal(x.grad, null);
  y.backward();
  mustBeClose(x.grad!, first!);
});

law(t, 'grad reaches intermediates, y itself, and a leaf given twice', () => {
  const x = leaf(3);
  const h = x.square();
  const y = h.sin().sum();
  const [gy, gh, gx, again] = grad(y, [y, h, x, x]);
  mustBeClose(gy!, 1);
  mustBeClose(gh!, h.cos());
  mustBeClose(gx!, h.cos().mul(x).mul(2));
  assert.equal(gx, again);
  const s = leaf();
  mustBeClose(grad(s, [s])[0]!, 1);
  s.backward();
  mustBeClose(s.grad!, 1);
});

law(t, 'a backward that throws leaves no .grad behind', () => {
  const [a, b] = [leaf(2), leaf(2)];
  const y = a.exp().add(b.square());
  noGrad(() => b.scale_(2));
  assert.throws(() => y.sum().backward(), GraphError);
  assert.deepEqual([a.grad, b.grad], [null, null]);
});

law(t, 'each graph is freed on its own: another over the same leaves stays', () => {
  const x = leaf(2);
  const [y, z] = [x.exp().sum(), x.exp().sum()];
  y.backward();
  z.backward();
  mustBeClose(x.grad!, x.exp().mul(2));
  const h = x.exp();
  h.sum().backward();
  assert.throws(() => h.square().sum().backward(), /exp: its graph was freed/);
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

// --- values that change ---------------------------------------------------------------------------------------------

/** Name → a use of the operation, and which saved values its rule needs. */
const saved: Record<string, [f: (x: Tensor) => Tensor, ...needed: ('input' | 'output')[]]> = {
  add: [x => x.add(1)],
  sub: [x => x.sub(1)],
  neg: [x => x.neg()],
  sum: [x => x.sum(0)],
  reshape: [x => x.reshape(4, 1).clone()],
  transpose: [x => x.transpose().clone()],
  slice: [x => x.slice([0, 1]).clone()],
  concat: [x => concat([x, x])],
  clone: [x => x.clone()],
  'mul by a constant': [x => x.mul(3)],
  mul: [x => x.mul(x), 'input'],
  square: [x => x.square(), 'input'],
  relu: [x => x.relu(), 'output'],
  gelu: [x => x.gelu(), 'input'],
  matmul: [x => x.matmul(x), 'input'],
  exp: [x => x.exp(), 'output'],
  tanh: [x => x.tanh(), 'output'],
  sigmoid: [x => x.sigmoid(), 'output'],
  softmax: [x => x.softmax(), 'output'],
  max: [x => x.max(0), 'input', 'output'],
};
for (const [name, [f, ...needed]] of Object.entries(saved))
  law(t, `${name}: backward refuses changes of ${needed.join(' and ') || 'nothing'}, as its rule needs`, () => {
    for (const changed of ['input', 'output'] as const) {
      const x = leaf(2, 2);
      const y = f(x);
      const expected = grad(y.sum(), [x])[0]!;
      noGrad(() => (changed === 'input' ? x : y).scale_(2));
      if (needed.includes(changed)) assert.throws(() => y.sum().backward(), /was changed in place since/);
      else mustBeClose(grad(y.sum(), [x])[0]!, expected);
    }
  });

const index = () => zeros([2, 2], { dtype: 'int32' });
const mask = () => ones([2, 2], { dtype: 'bool' });
/** Name → a use of x beside another tensor that the rule for x needs. */
const beside: Record<string, [f: (x: Tensor, other: Tensor) => Tensor, other?: () => Tensor]> = {
  'mul from the left': [(x, c) => x.mul(c)],
  'mul from the right': [(x, c) => c.mul(x)],
  'div below': [(x, c) => x.div(c)],
  'matmul from the left': [(x, c) => x.matmul(c)],
  'matmul from the right': [(x, c) => c.matmul(x)],
  'maximum with': [(x, c) => x.maximum(c)],
  'pow of': [(x, c) => x.square().pow(c)],
  'pow with the exponent': [(x, c) => c.pow(x), () => plain(2, 2).square()],
  where: [(x, c) => where(c, x, 0), mask],
  gather: [(x, c) => x.gather(0, c), index],
  indexSelect: [(x, c) => x.indexSelect(0, c.slice(0)), index],
};
for (const [name, [f, make = () => plain(2, 2)]] of Object.entries(beside))
  law(t, `${name}: backward refuses a change of the other operand`, () => {
    const [x, other] = [leaf(2, 2), make()];
    const y = f(x, other).sum();
    other.copy_(other.clone());
    assert.throws(() => y.backward(), /was changed in place since/);
  });

law(t, 'a change through a view, or of a tensor that shares memory, is a change', () => {
  const x = leaf(2, 2);
  const y = x.square().sum();
  noGrad(() => x.detach().slice(0).scale_(2));
  assert.throws(() => y.backward(), /square: backward needs its input 0/);
});

// --- hooks ----------------------------------------------------------------------------------------------------------

law(t, 'a hook sees the complete gradient once, however often its tensor is used', () => {
  const x = leaf(3);
  const h = x.exp();
  const seen: Tensor[] = [];
  h.onGrad(g => {
    seen.push(g);
  });
  h.mul(2).add(h.square()).sum().backward();
  assert.equal(seen.length, 1);
  mustBeClose(seen[0]!, h.mul(2).add(2));
});

law(t, 'what a hook returns flows on, through hooks in the order of their registration, on leaves too', () => {
  const x = leaf(3);
  const h = x.mul(3);
  h.onGrad(g => g.add(1));
  h.onGrad(g => g.mul(10));
  x.onGrad(g => g.neg());
  h.sum().backward();
  mustBeClose(x.grad!, full([3], -60));
});

law(t, 'a removed hook is not called; others stay, even of the same function, even when removed on the way', () => {
  const x = leaf(1);
  let calls = 0;
  const count = () => {
    calls++;
  };
  const [first] = [x.onGrad(count), x.onGrad(count)];
  const once = x.onGrad(() => once.remove());
  x.sum().backward();
  assert.equal(calls, 2);
  first.remove();
  first.remove();
  x.sum().backward();
  assert.equal(calls, 3);
});

law(t, 'grad calls the hooks on its way, and not those of leaves it was not asked for', () => {
  const [x, z] = [leaf(2), leaf(2)];
  const calls: string[] = [];
  z.onGrad(() => {
    calls.push('z');
  });
  x.onGrad(g => {
    calls.push('x');
    return g.mul(2);
  });
  const h = x.mul(z);
  h.onGrad(() => {
    calls.push('h');
  });
  const [gx] = grad(h.add(z).sum(), [x]);
  assert.deepEqual(calls, ['h', 'x']);
  mustBeClose(gx!, z.mul(2));
});

law(t, 'a hook may run a backward of its own; it records only where createGraph does', () => {
  const [x, w] = [leaf(2), leaf(2)];
  const [y, own] = [x.square(), w.square().sum()];
  const recording: boolean[] = [];
  y.onGrad(() => {
    recording.push(isRecording());
  });
  grad(y.sum(), [x], { createGraph: true });
  y.onGrad(() => own.backward());
  y.sum().backward();
  assert.deepEqual(recording, [true, false]);
  mustBeClose(x.grad!, x.mul(2));
  mustBeClose(w.grad!, w.mul(2));
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

// --- lifetime -------------------------------------------------------------------------------------------------------

const readable = (x: Tensor) => x.toArray() !== undefined;
const gone = (x: Tensor) => assert.throws(() => x.toArray(), ReleasedError);

law(t, 'a scope releases what is made inside, but for its result, however it is packed, and what is kept', () => {
  const outside = plain(2);
  const made: Tensor[] = [];
  const make = () => {
    const x = outside.mul(2);
    made.push(x);
    return x;
  };
  const result = scope(() => {
    make();
    make().keep();
    return { list: [make(), [make().transpose(0, 0)]], map: new Map([['x', make()]]), set: new Set([make()]) };
  });
  gone(made[0]!);
  assert.ok(made.slice(1).every(readable) && readable(outside));
  assert.ok(readable((result.list[1] as Tensor[])[0]!));
  assert.equal(made[0]!.storage.released, true);
});

law(t, 'a view keeps the whole storage that it looks at, and a released one says so in every use', () => {
  let whole = plain(1);
  const part = scope(() => {
    whole = plain(4).add(1);
    return whole.slice([1, 2]);
  });
  assert.ok(readable(part) && readable(whole));
  let lost = plain(1);
  scope(() => {
    lost = lost.add(1);
  });
  for (const use of [
    () => lost.add(1),
    () => lost.item(),
    () => lost.ndarray(),
    () => lost.sum(),
    () => JSON.stringify(lost),
  ])
    assert.throws(use, /ReleasedError: read: this float64 tensor of 1 elements was released when its scope ended/);
});

law(t, 'a result of an inner scope lives until the outer one ends', () => {
  let [inner, innermost] = [plain(1), plain(1)];
  const outer = scope(() => {
    inner = scope(() => {
      innermost = plain(1).add(1);
      return plain(1).add(1);
    });
    gone(innermost);
    assert.ok(readable(inner));
    return inner.add(1);
  });
  gone(inner);
  assert.ok(readable(outer));
});

law(t, 'a scope that throws releases everything, and a cycle in the result does not hang', () => {
  let lost = plain(1);
  assert.throws(
    () =>
      scope(() => {
        lost = plain(1).add(1);
        throw new Error('stop');
      }),
    /stop/,
  );
  gone(lost);
  const result = scope(() => {
    const own: { x: Tensor; self?: unknown } = { x: plain(1).add(1) };
    own.self = own;
    return own;
  });
  assert.ok(readable(result.x));
});

law(t, 'gradients of leaves survive the scope of their backward, also those from gy or from hooks', () => {
  const [x, y, z] = [leaf(2), leaf(2), leaf(2)];
  scope(() => {
    const mine = plain(2).mul(2);
    z.onGrad(() => mine);
    x.exp().add(y).add(z).backward(plain(2).mul(2));
  });
  for (const p of [x, y, z]) assert.ok(readable(p.grad!));
  scope(() => x.exp().sum().backward());
  assert.ok(readable(x.grad!));
});

law(t, 'unscoped makes what lives as long as it is reachable, inside any scopes', () => {
  const state = scope(() => {
    const made: { x?: Tensor } = {};
    scope(() => {
      unscoped(() => {
        made.x = plain(2).add(1);
      });
    });
    assert.throws(() => unscoped(() => assert.fail('inside')), /inside/);
    const after = plain(2).add(1);
    return { made: () => made.x!, after: () => after };
  });
  assert.ok(readable(state.made()));
  gone(state.after());
});

law(t, 'what leaves a scope, or is kept in it, takes along what its graph needs for backward', () => {
  const build = (x: Tensor) => x.exp().log1p().square();
  const x = leaf(3);
  build(x).sum().backward();
  const expected = x.grad!;
  const leaving = [
    (x: Tensor) => scope(() => build(x).sum()),
    (x: Tensor) => scope(() => scope(() => ({ loss: [build(x)] })).loss[0]!.sum()),
    (x: Tensor) =>
      scope(() => ({
        holder: new (class {
          y = build(x);
        })(),
      })).holder.y.sum(),
    (x: Tensor) => {
      let kept!: Tensor;
      scope(() => {
        scope(() => {
          kept = build(x).keep();
        });
      });
      return kept.sum();
    },
  ];
  for (const make of leaving) {
    x.grad = null;
    make(x).backward();
    mustBeClose(x.grad!, expected);
  }
});

law(t, 'backward lets intermediates go, though loss and logits are still held', async () => {
  setFlagsFromString('--expose-gc');
  const gc = runInNewContext('gc') as () => void;
  const x = leaf(100);
  const forward = () => {
    const h = x.exp();
    const y = h.square().sum();
    return { y, h: new WeakRef(h), storage: new WeakRef(h.storage) };
  };
  const [kept, consumed] = [forward(), forward()];
  consumed.y.backward();
  await setTimeout(5);
  gc();
  assert.ok(kept.h.deref() !== undefined, 'a graph that has not run holds its values');
  assert.equal(consumed.h.deref(), undefined);
  assert.equal(consumed.storage.deref(), undefined);
  assert.ok(Number.isFinite(consumed.y.item()));
  kept.y.backward();
});

/** Bytes of WebAssembly memory that tensors hold. No collection runs in between: far less than its budget is made. */
const memoryInUse = (): number => {
  const backend = getBackend('cpu');
  assert.ok(backend instanceof WasmBackend);
  return backend.kernels.heap.stats.live;
};
const big = zeros([2000], { requiresGrad: true });

law(t, 'backward frees the gradients it made on the way, but none that a hook or a rule from outside has seen', () => {
  const seen: Tensor[] = [];
  const spy = defineOp<null>({
    name: 'spy',
    shape: ([x]) => x!,
    forward: (backend, [x], out) => backend.copy(x!, out),
    backward(gy) {
      seen.push(gy);
      return [gy];
    },
  });
  const x = leaf(3);
  const doubled = x.mul(2);
  doubled.onGrad(gy => void seen.push(gy));
  spy([doubled.exp().mul(0.5)], null)
    .square()
    .sum()
    .backward();
  assert.equal(seen.length, 2);
  for (const gy of seen) assert.ok(Array.from(gy.dataSync()).every(Number.isFinite));

  // The rule of mul makes one gradient for exp and one for the other factor; the walk lets go of both.
  const before = memoryInUse();
  for (let i = 0; i < 50; i++) {
    const y = big.mul(1.5).exp().mul(big).sum();
    y.backward();
    big.grad = null;
  }
  // 50 passes hold three visible intermediates and a gradient each; the invisible gradients would make it eight.
  assert.ok(
    memoryInUse() - before < 50 * 5 * big.size * 4,
    `${(memoryInUse() - before) / (50 * big.size * 4)} arrays a pass`,
  );
});

law(t, 'owningIntermediates: the insides are released with the graph, or at once without one; the result stays', () => {
  const inside: Tensor[] = [];
  const compute = (x: Tensor) =>
    owningIntermediates(() => {
      const h = x.exp();
      inside.push(h);
      return h.add(1);
    });
  const x = leaf(3);
  const y = compute(x);
  assert.equal(inside[0]!.storage.released, false);
  y.sum().backward();
  assert.equal(inside[0]!.storage.released, true);
  mustBeClose(y, x.detach().exp().add(1));
  mustBeClose(x.grad!, x.detach().exp());
  const z = noGrad(() => compute(x));
  assert.equal(inside[1]!.storage.released, true);
  mustBeClose(z, y.detach());
});

for (const device of ['cpu', 'reference'])
  law(t, `random programs on ${device} find every reachable tensor as they left it`, async () => {
    for (const seed of [1, 2, 3]) {
      const report = await lifetimeFuzz({ device, seed, steps: 3000 });
      assert.deepEqual([report.corrupted, report.unexpected], [[], []]);
      // The programs must have done what they are for.
      assert.ok(
        Math.min(report.checks / 10, report.released, report.backward, report.refused) > 50,
        JSON.stringify(report),
      );
    }
  });

// --- the memory of gradients ----------------------------------------------------------------------------------------

law(t, 'a gradient that nobody has seen gives its memory back when it is let go; one that was read stays', () => {
  const [w, v] = [2, 3].map(value => tensor([value], { requiresGrad: true }));
  w!.mul(v!).sum().backward();
  const unseen = w!.borrowGrad()!;
  const seen = v!.grad!;
  w!.grad = null;
  v!.grad = null;
  assert.throws(() => unseen.toArray(), /released/);
  assert.deepEqual(seen.toArray(), [2]);
});

law(t, 'a gradient is kept that a hook saw, that the caller gave, or that another leaf has too', () => {
  const [a, b] = [1, 2].map(value => tensor([value], { requiresGrad: true }));
  const gy = tensor([5]);
  a!.add(b!).backward(gy);
  for (const x of [a!, b!]) x.grad = null;
  assert.deepEqual(gy.toArray(), [5]);

  let saw: Tensor | null = null;
  a!.onGrad(g => {
    saw = g;
  });
  a!.mul(b!).sum().backward();
  a!.grad = null;
  assert.deepEqual(saw!.toArray(), [2]);

  const given = tensor([7]);
  b!.grad = given;
  b!.grad = null;
  assert.deepEqual(given.toArray(), [7]);
});

law(t, 'masks and indices that a layer makes for itself go with its graph', () => {
  const x = tensor([1, -2, 3], { requiresGrad: true });
  let mask: Tensor | null = null;
  const y = owningIntermediates(() => {
    mask = tensor([1, 0, 1]);
    return x.mul(mask);
  });
  assert.deepEqual(mask!.toArray(), [1, 0, 1]);
  y.sum().backward();
  assert.deepEqual(x.grad!.toArray(), [1, 0, 1]);
  assert.ok(mask!.storage.released);
});

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
