/** Optimizers with their options, each on a small task: what a run on one device is compared by with a run on another. */

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
import { DeviceRun, type DeviceTask, deviceTasks } from './device-runs.ts';

export type Setting = {
  readonly make: (m: Module) => Optimizer;
  readonly task?: DeviceTask;
  readonly clip?: number;
  /** Of losses and parameters, where scalars are float32 numbers here and float64 there. Default 0: bit for bit. */
  readonly rtol?: number;
  /** Whether bases arrive when they are ready, so that no run is like another. */
  readonly unordered?: boolean;
  /** Whether rounding decides where it goes, in directions of no curvature that nothing damps. */
  readonly rounding?: boolean;
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
  "STEVE nullRule 'none', onRefresh 'zero'": {
    make: steveOf({ nullRule: 'none', onRefresh: 'zero', graft: false }),
    rounding: true,
  },
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
  'EKFAC, transformer': { make: m => new EKFAC(m, { ...every3, klClip: false }), task: transformer, rounding: true },
  'KFAC, CNN': { make: m => new KFAC(m, { ...every3, trust: false }), task: cnn },
  'EKFAC, CNN': { make: m => new EKFAC(m, { ...every3, klClip: false }), task: cnn },
  'STEVE, CNN': { make: steveOf({ graft: false }), task: cnn },
  'STEVE, CNN, taps': { make: steveOf({ structure: 'taps', graft: false }), task: cnn },
  'STEVE, CNN, channels, G in blocks': {
    make: steveOf({ structure: { A: 'channels', G: 'blocks' }, blockDim: 2, secondMoment: 'example' }),
    task: cnn,
    rtol: 1e-5,
  },
  'STEVE, CNN, taps in the background, lag 1': {
    make: steveOf({ structure: 'taps', refresh: 'background', refreshLag: 1, graft: false }),
    task: cnn,
  },
  'KFAC, CNN, blocks': {
    make: m => new KFAC(m, { ...every3, trust: false, structure: 'blocks', blockDim: 5 }),
    task: cnn,
  },
  'EKFAC, CNN, taps, G in blocks': {
    make: m => new EKFAC(m, { ...every3, klClip: false, structure: { A: 'taps', G: 'blocks' }, blockDim: 2 }),
    task: cnn,
  },
};

export const settings: Record<string, Setting> = { ...firstOrder, ...kfac, ...steve, ...fishers, ...models };

export async function trained(device: string, { make, task = mlp, clip }: Setting, steps = 8): Promise<DeviceRun> {
  const run = new DeviceRun(device, task, make);
  return run.steps(steps, () => clip && clipGradNorm(run.model.parameters(), clip));
}
