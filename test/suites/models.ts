/** What programs do with models on a device: tables, foreign weights, masks of their own, and labels that are wrong. */

import assert from 'node:assert/strict';
import { Generator, randint, randn, readStateDict, type StateDict, type Tensor, tensor } from '@otimes/core';
import {
  BatchNorm2d,
  Conv2d,
  crossEntropy,
  Embedding,
  Flatten,
  fromPyTorch,
  functional,
  Linear,
  type Module,
  MultiHeadAttention,
  resnet18,
  Sequential,
  summary,
} from '@otimes/nn';
import { SGD } from '@otimes/optim';
import type { Test } from 'tap';
import { mustBeClose } from '../helpers/allclose.ts';
import { floatOf } from '../helpers/devices.ts';
import { law } from '../helpers/law.ts';

type At = { readonly device: string; readonly dtype: 'float32' | 'float64'; readonly rng: Generator };

async function mustHold(state: StateDict, expected: StateDict): Promise<void> {
  const [actual, wanted] = [await readStateDict(state), await readStateDict(expected)];
  assert.deepEqual(Object.keys(actual), Object.keys(wanted));
  for (const [name, x] of Object.entries(actual)) mustBeClose(x, wanted[name]!, {}, name);
}

/** Those of 'cpu', on each of some devices. */
export function modelLaws(t: Test, devices: readonly string[]): void {
  const others = devices.filter(device => device !== 'cpu');
  // What all of them can compute in.
  const dtype = others.every(device => floatOf(device) === 'float64') ? 'float64' : 'float32';
  const at = (device: string, seed = 1): At => ({ device, dtype, rng: new Generator(seed) });

  law(
    t,
    'summary and the text of a model are the same on every device, and leave its statistics as they were',
    async () => {
      const make = (device: string) => resnet18({ ...at(device), classes: 3, stem: 'cifar', width: 2 });
      const model = make('cpu');
      const [table, tree] = [summary(model, [2, 3, 8, 8]), String(model)];
      for (const device of others) {
        const there = make(device);
        const before = await readStateDict(there.stateDict());
        assert.equal(summary(there, [2, 3, 8, 8]), table);
        assert.equal(String(there), tree);
        await mustHold(there.stateDict(), before);
        assert.ok(there.training);
      }
    },
  );

  law(t, 'weights of PyTorch on a device become ours there', async () => {
    const names = { in_proj_weight: [12, 4], in_proj_bias: [12], 'out_proj.weight': [4, 4], 'out_proj.bias': [4] };
    const outcome = async (device: string) => {
      const place = at(device);
      const theirs = Object.fromEntries(Object.entries(names).map(([name, shape]) => [name, randn(shape, place)]));
      const attention = new MultiHeadAttention(4, 2, at(device, 2));
      attention.loadStateDict(fromPyTorch(theirs));
      return attention.call(randn([2, 3, 4], place)).data();
    };
    const expected = await outcome('cpu');
    for (const device of others) mustBeClose(await outcome(device), expected, {}, device);
  });

  law(t, 'the functions of layers give the same on every device', async () => {
    const outcome = async (device: string) => {
      const place = at(device);
      const [q, k] = [randn([2, 3, 4], place), randn([2, 5, 4], place)];
      const mask = randn([3, 5], place).ge(-2);
      const results = [
        functional.attentionWeights(q, k, mask),
        functional.dropout(q, 0.5, true, new Generator(3)),
        functional.embedding(randint(0, 5, [2, 2], { device, rng: place.rng }), k.slice(0)),
        functional.linear(q, randn([2, 4], place), null),
      ];
      for (const y of results) assert.equal(y.device, device);
      return Promise.all(results.map(y => y.data()));
    };
    const expected = await outcome('cpu');
    for (const device of others)
      (await outcome(device)).forEach((y, i) => {
        mustBeClose(y, expected[i]!, {}, `${device}, result ${i}`);
      });
  });

  // --- labels and indices out of range

  const nets: Record<string, { make: (device: string) => Module; x: (device: string) => Tensor; wrong: RegExp }> = {
    'a label': {
      make: device =>
        new Sequential(
          new Conv2d(1, 2, 3, at(device)),
          new BatchNorm2d(2, at(device)),
          new Flatten(),
          new Linear(8, 3, at(device)),
        ),
      x: device => randn([2, 1, 4, 4], at(device, 3)),
      wrong: /^RangeError: crossEntropy: label 7 at position 1 is out of range 0 … 2/,
    },
    'an index': {
      make: device => new Sequential(new Embedding(5, 3, at(device))),
      x: device => tensor([1, 9], { device, dtype: 'int32' }),
      wrong: /^RangeError: embedding: index 9 at position 1 is out of range 0 … 4/,
    },
  };

  for (const [what, { make, x, wrong }] of Object.entries(nets))
    law(t, `${what} out of range spoils nothing, and training goes on as if the batch had been left out`, async () => {
      const right = (device: string) => (what === 'a label' ? x(device) : tensor([1, 2], { device, dtype: 'int32' }));
      const train = async (device: string) => {
        const model = make(device);
        const optimizer = new SGD(model.parameters(), { lr: 0.1, momentum: 0.9 });
        const told: string[] = [];
        for (const step of [0, 1, 2, 3]) {
          const isWrong = step === 1;
          try {
            optimizer.zeroGrad();
            const labels = tensor([0, isWrong && what === 'a label' ? 7 : 1], { device, dtype: 'int32' });
            const loss = crossEntropy(model.call(isWrong ? x(device) : right(device)), labels);
            loss.backward();
            void optimizer.step();
            // Where values are read with await, the step has been entered by now; the read tells.
            await loss.number();
          } catch (error) {
            told.push(`step ${step} ${error}`);
          }
        }
        assert.equal(told.length, 1);
        assert.match(told[0]!, /^step 1 /);
        assert.match(told[0]!.replace('step 1 ', ''), wrong);
        return model.stateDict();
      };
      const expected = await train('cpu');
      for (const device of others) await mustHold(await train(device), expected);
    });
}
