// What the models that come along leave to the collector: nothing, step after step.

import assert from 'node:assert/strict';
import { Generator, getBackend, randint, randn, type Tensor, WasmBackend } from '@otimes/core';
import { crossEntropy, type Module, mlp, resnet18, resnet50, vit } from '@otimes/nn';
import { Adam } from '@otimes/optim';
import t from 'tap';
import { law } from './helpers/law.ts';

function heap() {
  const backend = getBackend('cpu');
  assert.ok(backend instanceof WasmBackend);
  return backend.kernels.heap;
}

const rng = new Generator(1);
const images = randn([2, 3, 8, 8], { rng });
const models: Record<string, Module> = {
  mlp: mlp([192, 16, 3], { rng }),
  resnet18: resnet18({ classes: 3, stem: 'cifar', width: 16, rng }),
  'resnet18 with pooling': resnet18({ classes: 3, stem: 'imagenet', width: 16, rng }),
  resnet50: resnet50({ classes: 3, stem: 'cifar', width: 8, rng }),
  vit: vit({ imageSize: 8, patch: 2, dim: 32, depth: 2, heads: 2, classes: 3, rng }),
};

for (const [name, model] of Object.entries(models))
  law(t, `a training step of ${name} holds no memory once it is over, without any collection`, () => {
    const optimizer = new Adam(model.parameters(), { lr: 1e-3 });
    const labels = randint(0, 3, [2], { rng });
    let kept: Tensor | null = null;
    const step = () => {
      optimizer.zeroGrad();
      const loss = crossEntropy(model.call(images), labels);
      loss.backward();
      optimizer.step();
      kept = loss;
    };
    step();
    heap().collect();
    for (let i = 0; i < 3; i++) step();
    const before = heap().stats;
    for (let i = 0; i < 10; i++) step();
    const after = heap().stats;
    assert.equal(after.collections, before.collections);
    assert.ok(kept !== null);
    // Logits and losses are the program's, and small: blocks of one slab.
    assert.ok(after.live - before.live <= 65536, `${after.live - before.live} bytes`);
  });
