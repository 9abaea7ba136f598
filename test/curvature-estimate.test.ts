/** Curvature without an optimizer. */

import assert from 'node:assert/strict';
import { concat, Generator, randint, randn, type Tensor } from '@otimes/core';
import { crossEntropy, Linear, Sequential, Tanh } from '@otimes/nn';
import { KFAC } from '@otimes/optim';
import { CurvatureEstimate } from '@otimes/optim/curvature';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { DEVICES } from './helpers/devices.ts';
import { instantReadsIn } from './helpers/later.ts';
import { law } from './helpers/law.ts';

const o = (device: string) => ({ device, dtype: 'float64' as const, rng: new Generator(3) });
const net = (device = 'cpu') => {
  const at = o(device);
  return new Sequential(new Linear(5, 4, at), new Tanh(), new Linear(4, 3, at));
};
const batch = (n: number, seed: number, device = 'cpu'): [Tensor, Tensor] => {
  const rng = new Generator(seed);
  return [randn([n, 5], { dtype: 'float64', device, rng }), randint(0, 3, [n], { device, rng })];
};

/** The factors after these batches. */
function estimated(batches: readonly [Tensor, Tensor][], fisher: 'empirical' | 'ggn', device = 'cpu') {
  const model = net(device);
  const curvature = new CurvatureEstimate(model, { fisher, loss: 'crossEntropy' });
  for (const [x, y] of batches) {
    crossEntropy(model.call(x), y).backward();
    curvature.add();
  }
  curvature.detach();
  return curvature;
}

for (const fisher of ['empirical', 'ggn'] as const) {
  law(t, `${fisher}: of one batch they are the factors of KFAC's first step`, () => {
    const [x, y] = batch(7, 1);
    const model = net();
    const optimizer = new KFAC(model, { fisher, loss: 'crossEntropy', lr: 0 });
    crossEntropy(model.call(x), y).backward();
    optimizer.step();
    const curvature = estimated([[x, y]], fisher);
    for (const path of ['0', '2'])
      for (const side of ['A', 'G'] as const)
        mustBeClose(curvature.layers.get(path)![side]!, optimizer.inspect(path)[side]!, { rtol: 0, atol: 0 }, side);
  });

  law(t, `${fisher}: batches count by their examples, as if they were one`, () => {
    const [first, second, third] = [batch(3, 1), batch(8, 2), batch(1, 4)];
    const joined = estimated(
      [[concat([first[0], second[0], third[0]], 0), concat([first[1], second[1], third[1]], 0)]],
      fisher,
    );
    const parts = estimated([first, second, third], fisher);
    for (const path of ['0', '2'])
      for (const side of ['A', 'G'] as const)
        mustBeClose(
          parts.layers.get(path)![side]!,
          joined.layers.get(path)![side]!,
          { rtol: 1e-12, atol: 1e-14 },
          side,
        );
  });
}

law(t, 'on every device, without a read; operators are those of the factors', async () => {
  const batches = (device: string) => [batch(4, 1, device), batch(6, 2, device)];
  const expected = estimated(batches('cpu'), 'empirical');
  const X = randn([4, 6], { dtype: 'float64', rng: new Generator(9) });
  const solved = expected.operator('0').solve(X, { damping: 0.1 });
  for (const device of DEVICES) {
    let curvature = expected;
    const reads = await instantReadsIn(() => {
      curvature = estimated(batches(device), 'empirical', device);
    });
    assert.equal(reads, 0, device);
    const { A, G } = curvature.layers.get('0')!;
    mustBeClose(await A!.cpu(), expected.layers.get('0')!.A!, { rtol: 1e-11, atol: 1e-13 }, device);
    mustBeClose(await G!.cpu(), expected.layers.get('0')!.G!, { rtol: 1e-11, atol: 1e-13 }, device);
    const operator = await curvature.operator('0').decompose();
    const found = await operator.solve(X.to(device), { damping: 0.1 }).cpu();
    mustBeClose(found, solved, { rtol: 1e-8, atol: 1e-10 }, device);
  }
});

law(t, 'a batch that is not finite, or none, is an error that changes no average', () => {
  const model = net();
  const curvature = new CurvatureEstimate(model);
  assert.throws(() => curvature.add(), /^Error: CurvatureEstimate\.add: no backward pass has reached a layer/);
  const [x, y] = batch(4, 1);
  crossEntropy(model.call(x), y).backward();
  curvature.add();
  const { A, G } = curvature.layers.get('0')!;
  const before = [...A!.dataSync(), ...G!.dataSync()];
  crossEntropy(model.call(x.mul(Number.POSITIVE_INFINITY)), y).backward();
  assert.throws(
    () => curvature.add(),
    /factor [AG] of linear '[02]' has (NaN|Infinity) at position \d+; nothing was added/,
  );
  assert.deepEqual([...A!.dataSync(), ...G!.dataSync()], before);
  crossEntropy(model.call(x), y).backward();
  curvature.add();
  mustBeClose([...A!.dataSync()], before.slice(0, 36), { rtol: 1e-12 });
});

law(t, 'options and paths that are wrong are errors with names', () => {
  const model = net();
  const wrong = (make: () => unknown, message: RegExp) => assert.throws(make, message);
  wrong(() => new CurvatureEstimate(model, { fisher: 'ggn' }), /fisher 'ggn' needs the option loss/);
  wrong(() => new CurvatureEstimate([] as never), /CurvatureEstimate: expected model to be a module/);
  wrong(() => new CurvatureEstimate(new Tanh()), /no trainable layer that a collector knows/);
  const curvature = new CurvatureEstimate(model);
  wrong(() => curvature.operator('1'), /no layer '1'; there are '0', '2'/);
  wrong(() => curvature.operator('0'), /add\(\) has brought nothing of '0' yet/);
});
