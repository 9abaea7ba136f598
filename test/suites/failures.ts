/**
 * A check that fails in a step: parameters, moments, averages and bases stay what they were, to the last bit, whether the error
 * comes at once or with the next read.
 */

import assert from 'node:assert/strict';
import { arange, type Tensor, tensor, where, zeros } from '@otimes/core';
import type { Module } from '@otimes/nn';
import { clipGradNorm, EKFAC, KFAC, type KroneckerPreconditioner, SINGD, STEVE } from '@otimes/optim';
import type { Test } from 'tap';
import { mustBeClose } from '../helpers/allclose.ts';
import { law } from '../helpers/law.ts';
import { DeviceRun, deviceTasks } from './device-runs.ts';

type Run = DeviceRun<KroneckerPreconditioner>;

const shared = { refreshEvery: 3, lr: 0.05 };
const optimizers: Record<string, (m: Module) => KroneckerPreconditioner> = {
  'KFAC with momentum': m => new KFAC(m, { ...shared, momentum: 0.9, klClip: 1e-3 }),
  'KFAC, resident': m => new KFAC(m, { ...shared, route: 'resident' }),
  EKFAC: m => new EKFAC(m, { ...shared, momentum: 0.5 }),
  'STEVE with the examples': m => new STEVE(m, { ...shared, secondMoment: 'example' }),
  'STEVE, resident': m => new STEVE(m, { ...shared, route: 'resident' }),
  'STEVE in the background': m => new STEVE(m, { ...shared, refresh: 'background', refreshLag: 2 }),
  'SINGD with averages': m => new SINGD(m, { ...shared, factorDecay: 0.9 }),
  'SINGD without momenta': m =>
    new SINGD(m, { ...shared, factorDecay: 0.5, alpha1: 0, momentum: 0, structure: { G: 'diagonal' } }),
};

/** x with `value` at a row-major position. */
const spoilt = (x: Tensor, position: number, value: number): Tensor =>
  where(
    arange(0, x.size, 1, { device: x.device })
      .eq(position)
      .reshape([...x.shape]),
    value,
    x,
  );

const spoilGradient = ({ model }: Run, path: string, position: number) => {
  const p = model.namedParameters().get(path)!;
  p.grad = spoilt(p.grad!, position, Infinity);
};

/** One step that must fail, and what the error says. */
const faults: Record<string, { readonly step: (run: Run) => Promise<void>; readonly message: RegExp }> = {
  'a label out of range': {
    step: run => run.step({ y: tensor([0, 1, 7, 3, 0, 1, 2, 3], { dtype: 'int32', device: run.device }) }),
    message: /^crossEntropy: label 7 at position 2 is out of range 0 … 3$/,
  },
  'NaN in a factor': {
    step: run => run.step({ x: spoilt(run.batches[0]!.x, 9, Number.NaN) }),
    message:
      /: the factor A of linear '0' has NaN or infinite elements; .* The first of them is NaN, at position 24\. /,
  },
  'an infinite gradient of a block': {
    step: run => run.step({}, () => spoilGradient(run, '3.weight', 4)),
    message:
      /: the gradient of linear '3' has NaN or infinite elements; .* The first of them is Infinity, at position 4\. /,
  },
  'an infinite gradient of the rest': {
    step: run => run.step({}, () => spoilGradient(run, '2.weight', 1)),
    message:
      /: the gradient of '2.weight' has NaN or infinite elements; .* The first of them is Infinity, at position 1\. /,
  },
};

/** What passes leave behind, and jobs, whatever becomes of the step. */
const COUNTERS = /\.(rows|misses|rng|expandedG|job\..*)$/;

async function remembered(run: Run): Promise<Record<string, readonly number[]>> {
  const values = await run.values();
  return Object.fromEntries(Object.entries(values).filter(([key]) => !COUNTERS.test(key)));
}

/** Every fault in runs of every optimizer, or each optimizer with one fault and each fault with some optimizer. */
export function faultLaws(t: Test, device: string, which: 'all' | 'in turn' = 'all'): void {
  for (const [i, [name, make]] of Object.entries(optimizers).entries())
    for (const [j, [fault, { step, message }]] of Object.entries(faults).entries())
      if (which === 'all' || i % 4 === j)
        law(t, `${device}, ${name}: ${fault} is told by name, place and value, and changes nothing`, async () => {
          // The first step, one between refreshes, and one that refreshes.
          for (const steps of [0, 5, 6]) {
            const run = new DeviceRun(device, deviceTasks.mlp, make);
            await run.steps(steps);
            const before = await remembered(run);
            await assert.rejects(step(run), { message }, `after ${steps} steps`);
            assert.deepEqual(await remembered(run), before, `after ${steps} steps`);
            await run.steps(3);
            assert.equal(run.losses.length, steps + 3);
            assert.ok(run.losses.every(Number.isFinite));
            const after = await remembered(run);
            for (const path of run.model.namedParameters().keys()) assert.notDeepEqual(after[path], before[path], path);
          }
        });
}

// --- clipping ---------------------------------------------------------------------------------------------------------

const parametersOn = (device: string, gradients: readonly (readonly number[])[]): Tensor[] =>
  gradients.map(values => {
    const p = zeros([values.length], { device, requiresGrad: true });
    p.grad = tensor(values, { device });
    return p;
  });

export function clipLaws(t: Test, devices: readonly string[]): void {
  law(
    t,
    'clipGradNorm: on every device the norm is returned or promised, and gradients are scaled to at most the limit',
    async () => {
      for (const device of devices) {
        const gradients = [[3, 0], [4], []];
        for (const [limit, factor] of [
          [10, 1],
          [Infinity, 1],
          [0.5, 0.1],
          [0, 0],
        ] as const) {
          const parameters = parametersOn(device, gradients);
          mustBeClose([await clipGradNorm(parameters, limit)], [5], { rtol: 1e-6 }, `${device}, ${limit}`);
          const scaled = await Promise.all(parameters.map(p => p.grad!.data()));
          for (const [i, g] of scaled.entries())
            mustBeClose(
              [...g],
              gradients[i]!.map(v => v * factor),
              { rtol: 1e-5, atol: 0 },
              `${device}, ${limit}`,
            );
        }
        assert.equal(await clipGradNorm(parametersOn(device, [[0], [0, 0]]), 1), 0);
        assert.equal(await clipGradNorm([zeros([2], { device })], 1), 0);
      }
    },
  );

  law(
    t,
    'clipGradNorm: a norm that is not finite is an error that names the parameter, and nothing was scaled',
    async () => {
      for (const device of devices)
        for (const bad of [Number.NaN, Infinity]) {
          const parameters = parametersOn(device, [[3], [4, bad], [5]]);
          await assert.rejects(async () => clipGradNorm(parameters, 1), {
            message: `clipGradNorm: the norm of the gradients is ${bad}; the first such gradient is that of parameter 1, float32[2]. Nothing was scaled`,
          });
          const after = await Promise.all(parameters.map(p => p.grad!.data()));
          assert.deepEqual(
            after.map(g => [...g]),
            [[3], [4, bad], [5]],
          );
          const [first] = parameters;
          assert.equal(await clipGradNorm([first!], 1), 3);
          mustBeClose([...(await first!.grad!.data())], [1], { rtol: 1e-5 }, device);
        }
    },
  );
}
