// Runs of the Kronecker family on each of the ways that a gradient takes into the eigenbasis.

import assert from 'node:assert/strict';
import type { Sequential } from '@otimes/nn';
import { EKFAC, KFAC, type KroneckerOptions, type KroneckerPreconditioner, type Route, STEVE } from '@otimes/optim';
import { type Acts, type DataOptions, lossOf, newBatches, newNet, train } from '../suites/training.ts';
import { mustBeClose } from './allclose.ts';

export const ROUTES: readonly Route[] = ['gradient', 'activations', 'resident'];
export const TURNED: readonly Route[] = ['activations', 'resident'];

/** Something done to a model between two parts of a step. */
export type Act = (model: Sequential, step: number) => unknown;
export type Make = (model: Sequential, o?: KroneckerOptions) => KroneckerPreconditioner;

export const family: Record<string, Make> = {
  'KFAC eigen': (m, o) => new KFAC(m, { lr: 0.1, damping: 0.1, ...o }),
  'KFAC pi': (m, o) => new KFAC(m, { lr: 0.1, damping: 0.1, dampingSplit: 'pi', ...o }),
  'KFAC momentum': (m, o) => new KFAC(m, { lr: 0.05, damping: 0.1, momentum: 0.9, ...o }),
  'KFAC nesterov, weight decay': (m, o) =>
    new KFAC(m, { lr: 0.05, damping: 0.1, momentum: 0.8, nesterov: true, weightDecay: 0.1, ...o }),
  'KFAC klClip': (m, o) => new KFAC(m, { lr: 0.2, damping: 0.05, klClip: 1e-3, ...o }),
  'KFAC that trust bounds': (m, o) => new KFAC(m, { lr: 0.5, trust: 0.02, weightDecay: 0.1, ...o }),
  'EKFAC, defaults': (m, o) => new EKFAC(m, { lr: 0.1, ...o }),
  'EKFAC example': (m, o) => new EKFAC(m, { lr: 0.1, damping: 0.1, ...o }),
  'EKFAC batch, momentum': (m, o) =>
    new EKFAC(m, { lr: 0.1, damping: 0.1, secondMoment: 'batch', momentum: 0.5, ...o }),
  'STEVE carry': (m, o) => new STEVE(m, { lr: 0.02, ...o }),
  'STEVE zero': (m, o) => new STEVE(m, { lr: 0.02, onRefresh: 'zero', ...o }),
  'STEVE nesterov': (m, o) => new STEVE(m, { lr: 0.02, nesterov: true, ...o }),
  'STEVE example': (m, o) => new STEVE(m, { lr: 0.1, secondMoment: 'example', ...o }),
  'STEVE weight decay': (m, o) => new STEVE(m, { lr: 0.02, weightDecay: 0.1, ...o }),
};

/** The three optimizers, each with what it keeps between steps. */
export const three: Record<string, Make> = {
  KFAC: (m, o) => family['KFAC momentum']!(m, o),
  EKFAC: (m, o) => family['EKFAC example']!(m, o),
  STEVE: (m, o) => family['STEVE carry']!(m, o),
};

/** A model in the middle of a refresh period on some route, its plain twin, and a batch. */
export function midway(route: Route, o: DataOptions & { make?: Make; factorEvery?: number } = {}) {
  const { make = family['STEVE carry']!, factorEvery = 1, ...data } = o;
  const run = train(m => make(m, { refreshEvery: 8, factorEvery, route }), { ...data, steps: 3 });
  const { model, optimizer } = run;
  assert.ok(
    run.routes.every(one => one === route),
    `${run.routes} instead of ${route}`,
  );
  const twin = newNet(data);
  twin.loadStateDict(model.stateDict());
  const { x, y } = newBatches({ ...data, steps: 5 })[4]!;
  const loss = (of: Sequential = model) => lossOf(of.call(x), y);
  optimizer.zeroGrad();
  return { model, optimizer, twin, x, y, loss };
}

/** Runs with the same acts on every route end in the same place. */
export function sameEverywhere(
  acts: Acts,
  o: DataOptions & { make?: Make; refreshEvery?: number; factorEvery?: number } = {},
): void {
  const { make = family['STEVE weight decay']!, refreshEvery = 5, factorEvery = 1, ...data } = o;
  const [plain, ...others] = ROUTES.map(route =>
    train(m => make(m, { route, refreshEvery, factorEvery }), { steps: 12, ...data, ...acts }),
  );
  for (const [i, run] of others.entries()) {
    assert.ok(run.turned > 0, TURNED[i]);
    mustBeClose([...run.losses], [...plain!.losses], { rtol: 1e-9, atol: 1e-9 }, `${TURNED[i]}: losses`);
    mustBeClose([...run.values], [...plain!.values], { rtol: 1e-9, atol: 1e-9 }, TURNED[i]);
  }
}
