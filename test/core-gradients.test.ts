/** Where gradients go: leaves, hooks, and when a backward pass refuses values that changed. */

import assert from 'node:assert/strict';
import {
  concat,
  full,
  GraphError,
  grad,
  isRecording,
  noGrad,
  ones,
  stack,
  type Tensor,
  tensor,
  where,
  zeros,
} from '@otimes/core';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { law } from './helpers/law.ts';
import { leaf, plain } from './helpers/leaves.ts';

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
