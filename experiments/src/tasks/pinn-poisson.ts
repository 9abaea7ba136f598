/**
 * A network that solves Poisson's equation −Δu = f on the unit square, u = 0 at its edge, from nothing but these two: a physics-informed
 * network (Raissi, Perdikaris & Karniadakis 2019) in float64. The solution u = sin(πx) sin(πy), f = 2π² u, is that of Müller & Zeinhofer
 * (2023, §4), and so is the count of points by default, 30² inside and 30 of each edge.
 */

import { concat, Generator, grad, rand, type Tensor, tensor, zeros } from '@otimes/core';
import { type Module, mlp } from '@otimes/nn';
import type { Batches, OpenTask, Task } from '../experiment.ts';
import { evaluated } from './evaluate.ts';
import { aCount, optionsFor, someSizes } from './options.ts';

type Options = {
  /** Units of the hidden layers, tanh. */
  hidden: readonly number[];
  /** Points in the square, and of each of its four edges: all of them in every batch. */
  inside: number;
  edge: number;
  /** Of the mean square at the edge in the loss. */
  edgeWeight: number;
  /** Steps that are called an epoch. */
  stepsPerEpoch: number;
  /** Points of each of the two splits that are measured. */
  measured: number;
};

const DEFAULTS: Options = {
  hidden: [32, 32],
  inside: 900,
  edge: 30,
  edgeWeight: 100,
  stepsPerEpoch: 25,
  measured: 1000,
};
const KINDS = {
  hidden: someSizes,
  inside: aCount,
  edge: aCount,
  edgeWeight: aCount,
  stepsPerEpoch: aCount,
  measured: aCount,
};

type Points = { readonly inside: Tensor; readonly edge: Tensor };
const F64 = { dtype: 'float64' } as const;

/** points [n, 2] → [n, 1] */
function solution(points: Tensor): Tensor {
  const waves = points.mul(Math.PI).sin();
  return waves.narrow(1, 0, 1).mul(waves.narrow(1, 1, 1));
}

/** −Δu − f at points [n, 2] that require a gradient; 0 for a solution. */
function residual(model: Module, points: Tensor): Tensor {
  const inside = { createGraph: true };
  const u: Tensor = model.call(points);
  const [first] = grad(u.sum(), [points], inside);
  const [ux, uy] = [first!.narrow(1, 0, 1), first!.narrow(1, 1, 1)];
  const [ofX] = grad(ux.sum(), [points], inside);
  const [ofY] = grad(uy.sum(), [points], inside);
  const laplacian = ofX!.narrow(1, 0, 1).add(ofY!.narrow(1, 1, 1));
  return laplacian.add(solution(points.detach()).mul(2 * Math.PI ** 2));
}

/** Points at the edges x = 0, x = 1, y = 0 and y = 1, `each` of them, [4 each, 2]. */
function edges(each: number, rng: Generator): Tensor {
  const free = () => rand([each, 1], { rng, ...F64 });
  const at = (value: number) => zeros([each, 1], F64).add(value);
  return concat(
    [concat([at(0), free()], 1), concat([at(1), free()], 1), concat([free(), at(0)], 1), concat([free(), at(1)], 1)],
    0,
  );
}

/** The same points again and again. */
class Repeated implements Batches<Points> {
  readonly stepsPerEpoch: number;
  readonly #points: Points;
  /** Batches of this epoch that were handed out. */
  #position = 0;

  constructor(points: Points, stepsPerEpoch: number) {
    this.#points = points;
    this.stepsPerEpoch = stepsPerEpoch;
  }

  async *epoch(): AsyncGenerator<Points> {
    try {
      while (this.#position < this.stepsPerEpoch) {
        this.#position++;
        yield this.#points;
      }
    } finally {
      this.#position = 0;
    }
  }

  stateDict() {
    return { position: tensor(this.#position, { dtype: 'int32' }) };
  }

  loadStateDict(state: Readonly<Record<string, Tensor>>): void {
    const { position, ...others } = state;
    const value = position?.size === 1 ? position.item() : Number.NaN;
    if (!(Number.isInteger(value) && value >= 0 && value <= this.stepsPerEpoch) || Object.keys(others).length > 0)
      throw new RangeError(
        `task 'pinn-poisson': expected a state with a position of 0 … ${this.stepsPerEpoch}, got ${Object.keys(state).join(', ')}` +
          (Number.isNaN(value) ? '' : ` with position ${value}`),
      );
    this.#position = value;
  }
}

export const pinnPoisson: Task = {
  name: 'pinn-poisson',
  about:
    "Poisson's equation on the unit square, from the equation and the edge alone; a tanh network in float64; the mean square of the residual " +
    'inside and at the edge. The loss of an evaluation is the mean squared distance to the solution.',
  metric: { name: 'relative L2 error', unit: 'number', better: 'lower' },
  data: null,
  async open({ device, options }): Promise<OpenTask<Points>> {
    const o = optionsFor<Options>('pinn-poisson', options, DEFAULTS, KINDS);
    const points = (seed: number): Points => {
      const rng = new Generator(1000 + seed);
      const inside = rand([o.inside, 2], { rng, ...F64 }).to(device);
      inside.requiresGrad = true;
      return { inside, edge: edges(o.edge, rng).to(device) };
    };
    const measured = (seed: number) => {
      const points = rand([o.measured, 2], { rng: new Generator(seed), ...F64 });
      const wanted = solution(points);
      return { points: points.to(device), wanted: wanted.to(device), square: wanted.square().sum().item() };
    };
    const splits = { validation: measured(1), test: measured(2) };
    return {
      samples: { train: o.inside + 4 * o.edge, validation: o.measured, test: o.measured },
      model: seed => mlp([2, ...o.hidden, 1], { activation: 'tanh', rng: new Generator(seed), ...F64 }).to(device),
      batches: seed => new Repeated(points(seed), o.stepsPerEpoch),
      loss(model, { inside, edge }) {
        const atEdge: Tensor = model.call(edge);
        return residual(model, inside).square().mean().add(atEdge.square().mean().mul(o.edgeWeight));
      },
      async evaluate(model, split) {
        const { points, wanted, square } = splits[split];
        const { loss } = await evaluated(model, o.measured, (from, count) => {
          const wrong: Tensor = model.call(points.narrow(0, from, count)).sub(wanted.narrow(0, from, count));
          const loss = wrong.square().sum();
          return { loss, metric: loss };
        });
        return { loss, metric: Math.sqrt((loss * o.measured) / square) };
      },
    };
  },
};
