/** Weights alone as matrices, for optimizers that look at gradients and at nothing else of a layer. */

import type { Tensor } from '@otimes/core';
import { borrowGrad } from '@otimes/core/extend';
import type { AnyModule, Parameter } from '@otimes/nn';
import type { MatrixBlock } from './block.ts';
import { type Collector, collectBlocks } from './collector.ts';

/** A weight [rows, …] as the matrix [rows, everything else], without the bias: of a convolution [out, in·kh·kw]. */
export class WeightMatrix implements MatrixBlock {
  /** That of the parameter in its layer: 'layers.0.weight'. */
  readonly path: string;
  /** Name of the collector that knows the layer. */
  readonly collector: string;
  readonly weight: Parameter;
  readonly parameters: readonly Parameter[];
  readonly dOut: number;
  readonly dIn: number;

  constructor(weight: Parameter, { path, collector }: { path: string; collector: string }) {
    this.path = path;
    this.collector = collector;
    this.weight = weight;
    this.parameters = [weight];
    this.dOut = weight.shape[0]!;
    this.dIn = weight.size / this.dOut;
  }

  gradient(): Tensor | null {
    const g = borrowGrad(this.weight);
    return g === null || g.rank === 2 ? g : g.flatten(1);
  }

  add(update: Tensor, scale: number): void {
    this.weight.addScaled_(update.reshape(this.weight.shape), scale);
  }
}

/**
 * The weights of all layers that a collector knows, but for tables that are looked up in by indices: their rows are no matrix's. What no
 * collector knows and what has less than two axes is none.
 */
export function weightMatrices(name: string, model: AnyModule, collectors: readonly Collector[]): WeightMatrix[] {
  const paths = new Map(Array.from(model.namedModules(), ([path, module]) => [module, path === '' ? '' : `${path}.`]));
  const found = new Map<Parameter, WeightMatrix>();
  for (const { tap, path, collector, parameters, oneHot } of collectBlocks(name, model, collectors, {
    sharing: undefined,
  }))
    for (const p of oneHot === undefined ? parameters : []) {
      // The groups of a convolution are blocks that share a weight, which is one matrix here.
      if (p.rank < 2 || found.has(p)) continue;
      const field = [...tap.namedParameters({ recurse: false })].find(([, value]) => value === p)?.[0];
      const own = field === undefined ? path : `${paths.get(tap) ?? ''}${field}`;
      found.set(p, new WeightMatrix(p, { path: own, collector }));
    }
  return [...found.values()];
}
