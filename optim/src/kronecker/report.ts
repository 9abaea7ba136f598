/** What a Kronecker optimizer can say about itself, as data. */

import type { Tensor } from '@otimes/core';
import type { Route } from './route.ts';
import type { BlockState } from './state.ts';

/** The parts of a step that are timed. 'statistics' is the part of backward that collects them. */
export type Phase = 'statistics' | 'refresh' | 'precondition' | 'rest';

export type BlockReport = {
  readonly path: string;
  readonly route: Route;
  /** Eigenvalues in ascending order; null before the first step. Those of a side at the identity are equal. */
  readonly spectrum: { readonly A: Float64Array; readonly G: Float64Array } | null;
  /** exp of the entropy of the normalised eigenvalues (Roy & Vetterli 2007): how many directions count. */
  readonly effectiveRank: { readonly A: number; readonly G: number } | null;
  /** λ over the mean of the curvature it is added to; null for optimizers without damping. */
  readonly relativeDamping: number | null;
  /** The cosine between gradient and update in the last step, once `observe()` was called. */
  readonly cosine: number | null;
};

export type Report = {
  readonly steps: number;
  readonly blocks: readonly BlockReport[];
  readonly refreshes: {
    /** Bases that took over. */
    readonly done: number;
    /** Decompositions that failed in the background; the old basis stayed. */
    readonly failed: number;
    readonly lastError: string | null;
    /** Decompositions under way. */
    readonly inFlight: number;
  };
  /** Milliseconds, summed over all steps. */
  readonly milliseconds: Readonly<Record<Phase, number>>;
};

export class Stopwatch {
  readonly milliseconds: Record<Phase, number> = { statistics: 0, refresh: 0, precondition: 0, rest: 0 };

  time<T>(phase: Phase, run: () => T): T {
    const start = performance.now();
    try {
      return run();
    } finally {
      this.milliseconds[phase] += performance.now() - start;
    }
  }
}

/** @param damping λ and the mean curvature of the block, for optimizers that have them */
export function reportBlock(state: BlockState, damping: { lambda: number; mean: number } | null): BlockReport {
  const { kfe, block, route, cosine } = state;
  const values = (s: Tensor) => Float64Array.from(s.dataSync());
  const spectrum = kfe === null ? null : { A: values(kfe.sA), G: values(kfe.sG) };
  return {
    path: block.path,
    route,
    spectrum,
    effectiveRank: spectrum && { A: effectiveRank(spectrum.A), G: effectiveRank(spectrum.G) },
    relativeDamping: damping && damping.lambda / damping.mean,
    cosine,
  };
}

export function effectiveRank(eigenvalues: ArrayLike<number>): number {
  const all = Array.from(eigenvalues);
  const total = all.reduce((sum, s) => sum + s, 0);
  if (!(total > 0)) return 0;
  const entropy = all.reduce((sum, s) => (s > 0 ? sum - (s / total) * Math.log(s / total) : sum), 0);
  return Math.exp(entropy);
}
