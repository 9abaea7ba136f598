/** Curvature without an optimizer. */

import assert from 'node:assert/strict';
import { concat } from '@otimes/core';
import { crossEntropy, Tanh } from '@otimes/nn';
import { KFAC } from '@otimes/optim';
import { CurvatureEstimate } from '@otimes/optim/curvature';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { DEVICES } from './helpers/devices.ts';
import { law } from './helpers/law.ts';
import { batch, estimated, estimateLaw, net } from './suites/curvature.ts';

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

for (const device of DEVICES) estimateLaw(t, device);

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
