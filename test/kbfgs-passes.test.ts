// K-BFGS's two passes: of one batch, and of which rounding is no curvature.

import assert from 'node:assert/strict';
import { eye, Generator, randn, type Tensor } from '@otimes/core';
import { BatchNorm2d, Conv2d, crossEntropy, Flatten, Linear, ReLU, Sequential } from '@otimes/nn';
import { KBFGS } from '@otimes/optim';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { labels, nets } from './helpers/family.ts';
import { law } from './helpers/law.ts';

const dtype = 'float64';

function pass(model: Sequential, optimizer: KBFGS, x: Tensor, y: Tensor): void {
  optimizer.zeroGrad();
  crossEntropy(model.call(x) as Tensor, y).backward();
}

law(
  t,
  'a second pass over another number of examples is an error that says both, and the right one may still come',
  () => {
    const rng = new Generator(1);
    const model = nets.linear!.make({ dtype, rng });
    const optimizer = new KBFGS(model);
    const [x, y] = [randn([12, 5], { dtype, rng }), labels(rng)];
    pass(model, optimizer, x, y);
    optimizer.step();
    pass(model, optimizer, x.slice([0, 5]), y.slice([0, 5]));
    assert.throws(() => optimizer.correct(), {
      message:
        "KBFGS: linear '0' saw 5 examples in the pass before correct(), and 12 in the pass before step(): both are to be of the same batch",
    });
    assert.ok(optimizer.wantsCorrection);
    pass(model, optimizer, x, y);
    optimizer.correct();
  },
);

law(
  t,
  'rounding is no curvature: before a batch norm, where mean gradients vanish, H_g stays 1 and devices agree',
  () => {
    for (const type of [dtype, 'float32'] as const) {
      const runs = ['cpu', 'reference'].map(device => {
        const rng = new Generator(2);
        const o = { dtype: type, rng };
        const model = new Sequential(
          new Conv2d(2, 4, 3, o),
          new BatchNorm2d(4, { dtype: type }),
          new ReLU(),
          new Flatten(),
          new Linear(16, 3, o),
        );
        model.to(device);
        const optimizer = new KBFGS(model, { lr: 0.1 });
        const [x, y] = [randn([12, 2, 4, 4], { dtype: type, rng }).to(device), labels(rng).to(device)];
        for (let i = 0; i < 10; i++) {
          pass(model, optimizer, x, y);
          optimizer.step();
          pass(model, optimizer, x, y);
          optimizer.correct();
        }
        const H = (path: string) => optimizer.inspect(path).slots.get('Hg')!.to('cpu');
        assert.deepEqual(H('0').toArray(), eye(4, { dtype: type }).toArray());
        assert.notDeepEqual(H('4').toArray(), eye(3, { dtype: type }).toArray());
        return model.parameters().map(p => p.detach().to('cpu'));
      });
      const tolerance = type === dtype ? { rtol: 1e-9, atol: 1e-10 } : { rtol: 1e-3, atol: 1e-3 };
      for (const [i, p] of runs[0]!.entries()) mustBeClose(p, runs[1]![i]!, tolerance, `${type}, parameter ${i}`);
    }
  },
);
