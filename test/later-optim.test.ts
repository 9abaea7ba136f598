/** What optimizers read on a device that is read with await, and that their runs there are those of 'reference'. */

import assert from 'node:assert/strict';
import type { Module } from '@otimes/nn';
import {
  Adam,
  AdamW,
  clipGradNorm,
  EKFAC,
  KFAC,
  type KroneckerOptions,
  type Optimizer,
  SGD,
  STEVE,
} from '@otimes/optim';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { instantReadsIn, laterDevice } from './helpers/later.ts';
import { DeviceRun, type DeviceTask, deviceTasks } from './suites/device-runs.ts';

type Setting = {
  readonly make: (m: Module) => Optimizer;
  readonly task?: DeviceTask;
  readonly clip?: number;
  /** Of losses and parameters, where scalars are float32 numbers here and float64 there. Default 0: bit for bit. */
  readonly rtol?: number;
  /** Whether bases arrive when they are ready, so that no run is like another. */
  readonly unordered?: boolean;
};

const { mlp, regression, cnn, transformer } = deviceTasks;
const every3 = { refreshEvery: 3, lr: 0.05 };

const firstOrder: Record<string, Setting> = {
  SGD: { make: m => new SGD(m.parameters(), { lr: 0.1, momentum: 0.9 }) },
  Adam: { make: m => new Adam(m.parameters(), { lr: 0.01, amsgrad: true }) },
  'AdamW, clipped': { make: m => new AdamW(m.parameters(), { lr: 0.01 }), clip: 0.5, rtol: 1e-5 },
};

const kfac: Record<string, Setting> = {
  'KFAC eigen': { make: m => new KFAC(m, { ...every3, trust: false }) },
  // π comes from means on the host, which adds in another order.
  'KFAC pi': { make: m => new KFAC(m, { ...every3, trust: false, dampingSplit: 'pi' }), rtol: 1e-5 },
  'KFAC klClip': { make: m => new KFAC(m, { ...every3, klClip: 1e-4 }), rtol: 1e-5 },
  'KFAC trust': { make: m => new KFAC(m, { ...every3, damping: 1e-4, trust: 0.01 }), rtol: 1e-5 },
  'KFAC trust, resident': {
    make: m => new KFAC(m, { ...every3, damping: 1e-4, trust: 0.01, route: 'resident' }),
    rtol: 1e-5,
  },
  'KFAC momentum': { make: m => new KFAC(m, { ...every3, trust: false, momentum: 0.9 }) },
  'KFAC nesterov, trust and klClip': {
    make: m => new KFAC(m, { ...every3, momentum: 0.9, nesterov: true, klClip: 1e-3, trust: 0.02 }),
    rtol: 1e-5,
  },
  'EKFAC example': { make: m => new EKFAC(m, { ...every3, klClip: false }) },
  'EKFAC batch, klClip, weight decay': {
    make: m => new EKFAC(m, { ...every3, secondMoment: 'batch', weightDecay: 0.1 }),
    rtol: 1e-5,
  },
};

const steveOf = (o: ConstructorParameters<typeof STEVE>[1]) => (m: Module) => new STEVE(m, { ...every3, ...o });
// γ is a float32 number here.
const steve: Record<string, Setting> = {
  'STEVE batch': { make: steveOf({}), rtol: 1e-5 },
  'STEVE without graft': { make: steveOf({ graft: false }) },
  'STEVE resident': { make: steveOf({ graft: false, route: 'resident' }) },
  'STEVE activations': { make: steveOf({ graft: false, route: 'activations' }) },
  'STEVE example': { make: steveOf({ secondMoment: 'example' }), rtol: 1e-5 },
  'STEVE nesterov': { make: steveOf({ nesterov: true, graft: false }) },
  "STEVE nullRule 'tolerance'": { make: steveOf({ nullRule: 'tolerance', graft: false }) },
  "STEVE nullRule 'none', onRefresh 'zero'": { make: steveOf({ nullRule: 'none', onRefresh: 'zero', graft: false }) },
  'STEVE maxFactorDim': { make: steveOf({ maxFactorDim: 5, graft: false }) },
  'STEVE lossReduction sum': { make: steveOf({ lossReduction: 'sum', graft: false }) },
  'STEVE background': { make: steveOf({ refresh: 'background' }), unordered: true },
  'STEVE background, lag 1': { make: steveOf({ refresh: 'background', refreshLag: 1, graft: false }) },
  'STEVE staggered, factors every 2nd step': { make: steveOf({ stagger: true, factorEvery: 2, graft: false }) },
};

const fisher = (o: KroneckerOptions) => (m: Module) => new KFAC(m, { ...every3, trust: false, ...o });
const fishers: Record<string, Setting> = {
  'Fisher sampled, crossEntropy': { make: fisher({ fisher: 'sampled', loss: 'crossEntropy' }) },
  'Fisher ggn, crossEntropy': { make: fisher({ fisher: 'ggn', loss: 'crossEntropy' }) },
  'Fisher sampled, mse': { make: fisher({ fisher: 'sampled', loss: 'mse' }), task: regression },
  'Fisher ggn, mse': { make: fisher({ fisher: 'ggn', loss: 'mse' }), task: regression },
  'Fisher empirical, mse': { make: fisher({}), task: regression },
};

const models: Record<string, Setting> = {
  'KFAC, transformer': {
    make: m => new KFAC(m, { ...every3, damping: 0.1, trust: false, sharing: 'reduce' }),
    task: transformer,
  },
  'STEVE, transformer': { make: steveOf({ graft: false, sharing: 'reduce' }), task: transformer },
  'EKFAC, transformer': { make: m => new EKFAC(m, { ...every3, klClip: false }), task: transformer },
  'KFAC, CNN': { make: m => new KFAC(m, { ...every3, trust: false }), task: cnn },
  'EKFAC, CNN': { make: m => new EKFAC(m, { ...every3, klClip: false }), task: cnn },
  'STEVE, CNN': { make: steveOf({ graft: false }), task: cnn },
};

const STEPS = 8;
const later = laterDevice().device;

async function trained(device: string, { make, task = mlp, clip }: Setting): Promise<DeviceRun> {
  const run = new DeviceRun(device, task, make);
  return run.steps(STEPS, () => clip && clipGradNorm(run.model.parameters(), clip));
}

for (const [name, setting] of Object.entries({ ...firstOrder, ...kfac, ...steve, ...fishers, ...models }))
  t.test(`${name}: a run reads nothing at once, and is that of 'reference'`, async t => {
    const { rtol = 0, unordered = false } = setting;
    let run: DeviceRun | null = null;
    const reads = await instantReadsIn(async () => {
      run = await trained(later, setting);
    });
    t.comment(`${reads} instant reads in ${STEPS} steps`);
    t.equal(reads, 0);
    assert.ok(run);
    const { losses, model } = run as DeviceRun;
    t.ok(losses.every(Number.isFinite));
    if (unordered) return;
    const expected = await trained('reference', setting);
    mustBeClose([...losses], [...expected.losses], { rtol, atol: 0 }, 'losses');
    for (const [path, p] of model.namedParameters()) {
      const values = [...(await p.data())];
      const twin = [...expected.model.namedParameters().get(path)!.dataSync()];
      mustBeClose(values, twin, { rtol, atol: rtol }, path);
    }
  });
