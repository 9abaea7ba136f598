/** How long the memory of gradients lives that are differentiated again. */

import assert from 'node:assert/strict';
import { defineOp, getBackend, grad, scope, type Tensor, tensor, type WasmBackend } from '@otimes/core';
import t from 'tap';
import { withoutEarlyRelease } from '../core/src/storage.ts';
import { law } from './helpers/law.ts';

const record = { createGraph: true };
const leaf = (values: number[]) => tensor(values, { dtype: 'float64', requiresGrad: true });

/** u of weights w at points x, by which it is differentiated twice. */
function field(x: Tensor, w: Tensor): Tensor {
  return x.mul(w).tanh().mul(w).sin().mul(x).exp();
}

/** A loss of u, u′ and u″, of which every intermediate gradient is a tensor of the library's rules. */
function residual(x: Tensor, w: Tensor): { loss: Tensor; du: Tensor; ddu: Tensor } {
  const u = field(x, w);
  const [du] = grad(u.sum(), [x], record);
  const [ddu] = grad(du.sum(), [x], record);
  return { loss: ddu.sub(du.mul(u)).square().mean(), du, ddu };
}

const points = (n: number) =>
  tensor(
    Array.from({ length: n }, (_, i) => Math.sin(i)),
    { dtype: 'float64', requiresGrad: true },
  );

law(t, 'with and without early release: the same gradients of losses of derivatives, bit for bit', () => {
  const run = () => {
    const [x, w, v] = [points(9), leaf([0.7]), leaf([0.4])];
    for (let i = 0; i < 3; i++) {
      const u = field(x, w).add(field(x, v));
      const [byX, byW] = grad(u.sum(), [x, w], record);
      const [again] = grad(byX.square().sum().add(byW.sum()), [x], record);
      again.sum().add(byW.square().sum()).backward();
    }
    return [x, w, v].map(p => p.grad!.toArray());
  };
  assert.deepEqual(run(), withoutEarlyRelease(run));
});

law(t, 'backward gives back at once what the rules of recorded gradients made; the gradients themselves stay', () => {
  const backend = getBackend('cpu') as WasmBackend;
  const [x, w] = [points(4096), leaf([0.7])];
  const bytes = () => backend.kernels.heap.stats.live;
  const { loss, du, ddu } = residual(x, w);
  const before = bytes();
  loss.backward();
  const array = 4096 * 8;
  assert.ok(before - bytes() > 30 * array, `${(before - bytes()) / array} arrays came back`);
  for (const one of [du, ddu]) assert.ok(one.toArray());
});

law(t, 'what several gradients share is there as long as the graph of one is', () => {
  const [x, w] = [points(5), leaf([0.7])];
  const both = () => grad(field(x, w).sum(), [x, w], record);
  const [byX, byW] = both();
  // The graph of the second one alone is freed, with all that it reaches.
  byW.sum().backward();
  assert.throws(() => byX.sum().backward(), /its graph was freed by an earlier backward/);
  const [again] = both();
  assert.deepEqual(again.toArray(), byX.toArray());
  const [second] = grad(again.sum(), [x]);
  const [third] = grad(again.sum(), [x]);
  assert.deepEqual(third.toArray(), second.toArray());
});

law(t, 'a gradient that is seen by a hook, or is the target itself, is the program own', () => {
  const [x, w] = [points(5), leaf([0.7])];
  const inner = x.mul(w).tanh();
  const seen: Tensor[] = [];
  inner.onGrad(g => void seen.push(g));
  const [byInner, byX] = grad(inner.mul(w).sin().mul(x).sum(), [inner, x], record);
  byX.square().sum().add(byInner.square().sum()).backward();
  assert.deepEqual(seen[0]!.toArray(), byInner.toArray());
});

law(t, 'inside a scope it goes with the scope, and returned gradients keep what their graphs need', () => {
  const [x, w] = [points(5), leaf([0.7])];
  const du = scope(() => grad(field(x, w).sum(), [x], record)[0]);
  const [plain] = grad(field(x, w).sum(), [x], record);
  du.square().sum().backward();
  const inScope = w.grad!.toArray();
  w.grad = null;
  plain.square().sum().backward();
  assert.deepEqual(inScope, w.grad!.toArray());
});

law(
  t,
  'what a hook or a rule of the program saw can be differentiated after a result is gone whose graph it is no part of',
  () => {
    const stop = (see: (g: Tensor) => void) =>
      defineOp<null>({
        name: 'stop',
        shape: ([x]) => x!,
        forward: (backend, [x], out) => backend.copy(x!, out),
        backward(gy, node) {
          see(gy);
          return [node.input(0).square()];
        },
      });
    for (const byHook of [true, false]) {
      const [x, w] = [leaf([0.3, -0.2, 0.9]), leaf([0.7])];
      const seen: Tensor[] = [];
      if (byHook)
        x.onGrad(g => {
          seen.push(g);
          return x.square();
        });
      const start = byHook ? x : stop(g => void seen.push(g))([x], null);
      const [gx] = grad(start.mul(w).sin().mul(w).exp().sum(), [x], record);
      const byW = () => grad(seen[0]!.square().sum(), [w])[0].item();
      const before = byW();
      gx.sum().backward();
      assert.equal(byW(), before);
    }
  },
);
