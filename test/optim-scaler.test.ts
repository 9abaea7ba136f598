/** GradScaler: losses times a scale, and steps that are skipped where gradients overflow for it. */

import assert from 'node:assert/strict';
import { readStateDict, registerBackend, type Tensor, tensor } from '@otimes/core';
import type { Module } from '@otimes/nn';
import {
  Adam,
  alone,
  clipGradNorm,
  clipGradValue,
  EKFAC,
  GradScaler,
  Muon,
  type Optimizer,
  SGD,
  SINGD,
  STEVE,
} from '@otimes/optim';
import t from 'tap';
import { Queued } from './helpers/dozen.ts';
import { laterDevice } from './helpers/later.ts';
import { ScaledRun } from './suites/scaled.ts';

const every2 = { refreshEvery: 2, lr: 0.05 };
const optimizers: Record<string, (m: Module) => Optimizer> = {
  'SGD with momentum': m => new SGD(m.parameters(), { lr: 0.1, momentum: 0.9 }),
  Adam: m => new Adam(m.parameters(), { lr: 0.01 }),
  Muon: m => new Muon(m),
  EKFAC: m => new EKFAC(m, { ...every2, klClip: false }),
  STEVE: m => new STEVE(m, every2),
  SINGD: m => new SINGD(m, { ...every2, lrCov: 0.1 }),
  'STEVE in the basis': m => new STEVE(m, { ...every2, route: 'resident' }),
  'STEVE of sampled labels': m => new STEVE(m, { ...every2, fisher: 'ggn', loss: 'crossEntropy' }),
};
registerBackend(new Queued('queued'));
const devices = ['cpu', laterDevice().device, 'queued'];

for (const device of devices)
  for (const [name, make] of Object.entries(optimizers)) {
    t.test(`${device}: ${name} learns from scaled losses what it learns without`, async () => {
      const [plain, scaled] = [false, true].map(
        enabled => new ScaledRun(device, make, { initScale: 2 ** 10, enabled }),
      );
      for (let i = 0; i < 5; i++) for (const run of [plain!, scaled!]) await run.step();
      const [expected, found] = [await plain!.parameters(), await scaled!.parameters()];
      for (const [i, value] of found.entries())
        assert.ok(
          Math.abs(value - expected[i]!) <= 1e-5 * (1 + Math.abs(expected[i]!)),
          `${i}: ${value}, ${expected[i]}`,
        );
    });

    t.test(`${device}: a step of ${name} whose gradients overflow changes nothing and halves the scale`, async () => {
      const run = new ScaledRun(device, make, { initScale: 2 ** 10, growthInterval: 2 });
      await run.step();
      const before = await run.tensors();
      await run.step(Infinity);
      assert.deepEqual(await run.tensors(), before);
      assert.equal(await run.scaler.getScale(), 2 ** 9);
      await run.step();
      assert.notDeepEqual(await run.tensors(), before);
      for (const value of await run.parameters()) assert.ok(Number.isFinite(value));
    });
  }

for (const device of devices) {
  t.test(
    `${device}: a first step may be skipped, and the scale grows after growthInterval steps that are not`,
    async () => {
      const run = new ScaledRun(device, optimizers.STEVE!, { initScale: 8, growthFactor: 4, growthInterval: 2 });
      const scales: number[] = [];
      for (const spoiled of [Number.NaN, 1, 1, 1, Infinity, 1, 1]) {
        await run.step(spoiled);
        scales.push(await run.scaler.getScale());
      }
      assert.deepEqual(scales, [4, 4, 16, 16, 8, 8, 32]);
    },
  );

  t.test(
    `${device}: the scale stops where float32 still holds what is made of it, its square for factors`,
    async () => {
      const o = { initScale: 2 ** 30, growthFactor: 2 ** 6, growthInterval: 1 };
      for (const name of ['EKFAC', 'STEVE', 'SINGD', 'Muon']) {
        const run = new ScaledRun(device, optimizers[name]!, o);
        for (let i = 0; i < 6; i++) await run.step();
        assert.equal(await run.scaler.getScale(), 2 ** (name === 'Muon' ? 66 : 48), name);
      }
    },
  );

  t.test(`${device}: gradients that were unscaled can be clipped before the step`, async () => {
    const run = new ScaledRun(device, optimizers.Adam!, { initScale: 2 ** 12 });
    run.backward();
    run.scaler.unscale_(run.optimizer);
    const norm = await clipGradNorm(run.model.parameters(), 1e-3);
    assert.ok(norm < 10);
    assert.ok((await clipGradNorm(run.model.parameters(), Infinity)) < 1.001e-3);
    await run.scaler.step(run.optimizer);
    run.scaler.update();
  });

  t.test(`${device}: gradients that overflowed pass clipping after unscale_, and the step is skipped`, async () => {
    const run = new ScaledRun(device, optimizers.Adam!, { initScale: 2 ** 10 });
    const [before, all] = [await run.parameters(), run.model.parameters()];
    for (const [i, spoiled] of [Infinity, Number.NaN].entries()) {
      run.backward(spoiled);
      run.scaler.unscale_(run.optimizer);
      assert.ok(!Number.isFinite(await clipGradNorm(all, 1)));
      clipGradValue(all, 1);
      await run.scaler.step(run.optimizer);
      run.scaler.update();
      assert.deepEqual(await run.parameters(), before);
      assert.equal(await run.scaler.getScale(), 2 ** (9 - i));
    }
    const left = all[0]!.grad!;
    left.copy_(left.mul(Number.NaN));
    await assert.rejects(async () => clipGradNorm(all, 1), {
      message: /^clipGradNorm: the norm of the gradients is NaN/,
    });
    await run.step();
    assert.notDeepEqual(await run.parameters(), before);
  });

  t.test(`${device}: clipping leaves gradients alone where others overflowed for a scaler`, async () => {
    const [good, bad, other] = [3, Infinity, Number.NaN].map(value => {
      const p = tensor([0], { device, requiresGrad: true });
      p.grad = tensor([value], { device });
      return p;
    }) as [Tensor, Tensor, Tensor];
    const [optimizer, scaler] = [new SGD([bad]), new GradScaler({ initScale: 2 })];
    scaler.scale(tensor([1], { device }));
    scaler.unscale_(optimizer);
    assert.equal(await clipGradNorm([good, bad], 1), Infinity);
    assert.deepEqual([...(await good.grad!.data())], [3]);
    await assert.rejects(async () => clipGradNorm([good, bad, other], 1), { message: /that of parameter 2/ });
    await scaler.step(optimizer);
    scaler.update();
    await assert.rejects(async () => clipGradNorm([good, bad], 1), { message: /that of parameter 1/ });
    assert.deepEqual([...(await bad.data())], [0]);
  });

  t.test(`${device}: a scaler that was saved goes on`, async () => {
    const o = { initScale: 8, growthInterval: 3 };
    const run = new ScaledRun(device, optimizers.Adam!, o);
    for (const spoiled of [Infinity, 1, 1]) await run.step(spoiled);
    const saved = await readStateDict(run.scaler.stateDict());
    const other = new ScaledRun(device, optimizers.Adam!, o);
    other.scaler.loadStateDict(saved);
    assert.equal(await other.scaler.getScale(), 4);
    await other.step();
    assert.equal(await other.scaler.getScale(), 8);
  });
}

t.test('an inner number that is finite overflows no step, even if the norm of a gradient does', async () => {
  const p = tensor([1], { requiresGrad: true });
  const [optimizer, scaler] = [new SGD([p], { lr: 1e-30 }), new GradScaler({ initScale: 2 })];
  scaler.scale(p.mul(1e30).sum()).backward();
  scaler.step(optimizer);
  assert.ok(Math.abs(p.item()) < 1e-6);
});

t.test('an optimizer with a communicator of several processes is refused before anything changes', async () => {
  const run = new ScaledRun('cpu', m => new STEVE(m, { communicator: { ...alone, size: 2 } }), {});
  run.backward();
  const before = await run.gradients();
  assert.throws(() => run.scaler.step(run.optimizer), { message: /without a communicator of several processes/ });
  assert.deepEqual(await run.gradients(), before);
});

t.test('calls out of order, and options out of range, are refused', async () => {
  const p = tensor([1], { requiresGrad: true });
  const [optimizer, scaler] = [new SGD([p]), new GradScaler()];
  const refused = (run: () => unknown, message: RegExp) => assert.throws(run, { message });
  refused(() => scaler.update(), /expected step\(\) or unscale_\(\)/);
  refused(() => scaler.step(optimizer), /expected gradients, got none/);
  scaler.scale(p.sum()).backward();
  scaler.unscale_(optimizer);
  refused(() => scaler.unscale_(optimizer), /divided by the scale already/);
  scaler.step(optimizer);
  refused(() => scaler.step(optimizer), /expected update\(\)/);
  refused(() => scaler.step({} as Optimizer), /an optimizer of this package/);
  refused(() => scaler.scale(1 as unknown as Tensor), /loss/);
  for (const o of [{ initScale: 0 }, { growthFactor: 1 }, { backoffFactor: 1 }, { growthInterval: 0 }, { scale: 1 }])
    assert.throws(() => new GradScaler(o));
  refused(() => scaler.loadStateDict({ scale: tensor(0), growth: tensor(0) }), /scale expects a number > 0/);
});
