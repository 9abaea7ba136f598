// Updates over their own length, and as long as another: right wherever float32 holds the gradients.

import assert from 'node:assert/strict';
import { Generator, randn } from '@otimes/core';
import { Linear, Sequential } from '@otimes/nn';
import { KLShampoo, type Optimizer, Shampoo, SOAP } from '@otimes/optim';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { law } from './helpers/law.ts';

/** The root mean square of the last of some steps, of gradients of this size. */
function lastMove(make: (m: Sequential) => Optimizer, size: number): number {
  const layer = new Linear(6, 5, { rng: new Generator(1), bias: false });
  const optimizer = make(new Sequential(layer));
  const rng = new Generator(2);
  let before = layer.weight.detach();
  for (let i = 0; i < 3; i++) {
    layer.weight.grad = randn([5, 6], { rng }).mul(size);
    // At 0 float32 holds the smallest of moves.
    layer.loadStateDict({ weight: before.mul(0) });
    before = layer.weight.detach().clone();
    void optimizer.step();
  }
  return layer.weight.detach().sub(before).norm().item() / Math.sqrt(30);
}

const makes: Record<string, (m: Sequential) => Optimizer> = {
  SOAP: m => new SOAP(m, { lr: 1, weightDecay: 0, normalizeGrads: true }),
  KLShampoo: m => new KLShampoo(m, { lr: 1, weightDecay: 0, normalizeGrads: true }),
};

for (const [name, make] of Object.entries(makes))
  law(t, `${name}: a normalised update has one length for gradients of every size that float32 holds`, () => {
    const usual = lastMove(make, 1);
    assert.ok(usual > 0.5 && usual < 5, String(usual));
    // Below, what is added to the root is no longer small.
    for (const size of name === 'SOAP' ? [1e-3, 1e-19] : [1e-3, 1e-12, 1e-23, 1e-26]) {
      const move = lastMove(make, size);
      assert.ok(move > usual / 5 && move < usual * 5, `${size}: ${move} and ${usual}`);
    }
    assert.ok(lastMove(make, 1e-33) < 5 * usual);
  });

law(t, 'Shampoo grafted to SGD moves by the length of the gradient, for every size that float32 holds', () => {
  const make = (m: Sequential) => new Shampoo(m, { lr: 1, grafting: 'sgd', momentum: 0 });
  const usual = lastMove(make, 1);
  for (const size of [1e-24, 1e-15, 1e-3])
    mustBeClose([lastMove(make, size) / size], [usual], { rtol: 1e-4 }, String(size));
});
