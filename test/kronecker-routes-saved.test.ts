// A saved run goes on from the middle of any way that a gradient takes into the eigenbasis.

import assert from 'node:assert/strict';
import { loadSafetensors, type StateDict, saveSafetensors } from '@otimes/core';
import type { Sequential } from '@otimes/nn';
import { clipGradNorm, type Route } from '@otimes/optim';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { law } from './helpers/law.ts';
import { type Act, type Make, TURNED, three } from './helpers/routes.ts';
import { optimizerLaws } from './suites/optimizers.ts';
import { linearAt, lossOf, newBatches, newNet, train, valuesOf } from './suites/training.ts';

const throughFile = (state: StateDict): StateDict => loadSafetensors(saveSafetensors(state));
const bytesOf = (state: StateDict) =>
  Object.fromEntries(Object.entries(state).map(([key, x]) => [key, [x.dtype, ...x.shape, ...x.dataSync()]]));

t.test('saved in the middle of a refresh period', t => {
  for (const route of [...TURNED, 'auto'] as const)
    for (const [name, kind] of Object.entries(three))
      t.test(`${name}, ${route}`, t => {
        optimizerLaws(t, { name, make: m => kind(m as Sequential, { route, refreshEvery: 4, factorEvery: 3 }) });
        t.end();
      });

  for (const [what, beforeStep] of Object.entries<Act | undefined>({
    'nothing in between': undefined,
    'a norm that is only measured': (m: Sequential) => void clipGradNorm(m.parameters(), 1e6),
    'clipped on every step': (m: Sequential) => void clipGradNorm(m.parameters(), 0.01),
    'clipped on some steps': (m: Sequential, step: number) => step % 3 === 1 && void clipGradNorm(m.parameters(), 0.01),
  }))
    law(
      t,
      `${what}: a loaded run goes on bit for bit, whether the model is loaded before the optimizer or after`,
      () => {
        const sizes = [32, 32, 4];
        const data = { sizes, batch: 34, steps: 14 };
        const batches = newBatches(data);
        for (const make of Object.values(three))
          for (const route of ['auto', ...TURNED] as const) {
            const begin = (seed: number) => {
              const model = newNet({ sizes, seed });
              const optimizer = make(model, { route, refreshEvery: 5, factorEvery: 2 });
              return { model, optimizer };
            };
            type Pair = ReturnType<typeof begin>;
            const go = ({ model, optimizer }: Pair, from: number, to: number) => {
              for (let i = from; i < to; i++) {
                optimizer.zeroGrad();
                lossOf(model.call(batches[i]!.x), batches[i]!.y).backward();
                beforeStep?.(model, i);
                optimizer.step();
              }
            };
            const whole = begin(1);
            go(whole, 0, 14);
            for (const cut of [4, 8]) {
              const first = begin(1);
              go(first, 0, cut);
              const saved = {
                model: throughFile(first.model.stateDict()),
                optimizer: throughFile(first.optimizer.stateDict()),
              };
              for (const modelFirst of [true, false]) {
                const second = begin(2);
                go(second, 0, modelFirst ? 3 : 0);
                if (modelFirst) second.model.loadStateDict(saved.model);
                second.optimizer.loadStateDict(saved.optimizer);
                if (!modelFirst) second.model.loadStateDict(saved.model);
                // Saving again before anything ran is the same state.
                assert.deepEqual(bytesOf(second.optimizer.stateDict()), bytesOf(saved.optimizer));
                assert.deepEqual(bytesOf(second.model.stateDict()), bytesOf(saved.model));
                go(second, cut, 14);
                assert.deepEqual(bytesOf(second.optimizer.stateDict()), bytesOf(whole.optimizer.stateDict()));
                assert.deepEqual(valuesOf(second.model), valuesOf(whole.model));
              }
              // The run that was saved goes on undisturbed.
              go(first, cut, 14);
              assert.deepEqual(valuesOf(first.model), valuesOf(whole.model));
            }
          }
      },
    );

  law(t, 'a weight that was changed between saving and loading counts, not its image in the basis', () => {
    const resume = (make: Make, route: Route, modelFirst: boolean) => {
      const o = { route, refreshEvery: 5 };
      const first = train(m => make(m, o), { steps: 8 });
      const state = first.model.stateDict();
      state['0.weight'] = state['0.weight']!.mul(1.5);
      const model = newNet({ seed: 2 });
      const optimizer = make(model, o);
      if (modelFirst) model.loadStateDict(state);
      optimizer.loadStateDict(first.optimizer.stateDict());
      if (!modelFirst) model.loadStateDict(state);
      mustBeClose(linearAt(model, '0').weight, state['0.weight'], { rtol: 0, atol: 0 });
      for (const { x, y } of newBatches({ steps: 12 }).slice(8)) {
        optimizer.zeroGrad();
        lossOf(model.call(x), y).backward();
        optimizer.step();
      }
      return valuesOf(model);
    };
    for (const make of Object.values(three))
      for (const modelFirst of [true, false]) {
        const plain = resume(make, 'gradient', modelFirst);
        for (const route of TURNED)
          mustBeClose(resume(make, route, modelFirst), plain, { rtol: 1e-9, atol: 1e-9 }, route);
      }
  });

  law(t, 'a state goes from one route to another, and on from the next refresh', () => {
    for (const make of Object.values(three))
      for (const [from, to] of [
        ['resident', 'gradient'],
        ['gradient', 'resident'],
        ['activations', 'resident'],
      ] as const) {
        const first = train(m => make(m, { route: from, refreshEvery: 5 }), { steps: 7 });
        const model = newNet({ seed: 2 });
        const optimizer = make(model, { route: to, refreshEvery: 5 });
        model.loadStateDict(first.model.stateDict());
        optimizer.loadStateDict(first.optimizer.stateDict());
        for (const { x, y } of newBatches({ steps: 12 }).slice(7)) {
          optimizer.zeroGrad();
          lossOf(model.call(x), y).backward();
          optimizer.step();
        }
        assert.deepEqual(
          optimizer.describe().map(row => row.route),
          [to, to],
        );
        const plain = train(m => make(m, { route: 'gradient', refreshEvery: 5 }), { steps: 12 });
        mustBeClose(valuesOf(model), [...plain.values], { rtol: 1e-9, atol: 1e-9 });
      }
  });
  t.end();
});
