/** How long the memory of tensors, graphs and gradients lives. */

import assert from 'node:assert/strict';
import { setTimeout } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import {
  defineOp,
  getBackend,
  noGrad,
  owningIntermediates,
  ReleasedError,
  scope,
  type Tensor,
  tensor,
  unscoped,
  WasmBackend,
  zeros,
} from '@otimes/core';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { law } from './helpers/law.ts';
import { leaf, plain } from './helpers/leaves.ts';
import { lifetimeFuzz } from './suites/lifetime.ts';

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
