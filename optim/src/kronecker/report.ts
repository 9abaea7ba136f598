/** What a Kronecker optimizer can say about itself, as data. */

import { noGrad, type Tensor } from '@otimes/core';
import type { Route } from '../curvature/routes/route.ts';
import type { Scalar } from '../curvature/scalar.ts';
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
  /**
   * Directions of A and of G that are null to the optimizer, and `masked`, the coordinates [dOut, dIn] that it left out of the
   * last step for that; null before the first step, and for optimizers that make no difference (KFAC; `nullRule: 'none'`,
   * `averageNull: false`).
   */
  readonly nulls: { readonly A: number; readonly G: number; readonly masked: number } | null;
  /** γ of STEVE's `graft`, by which the step is longer; 1 for others. */
  readonly graft: number;
  /** What `trust` left of the last update, 1 for all of it; null where that is off. */
  readonly trust: number | null;
  /** The same of `klClip`. */
  readonly klClip: number | null;
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

/** A report on all blocks; curvature and null directions are the optimizer's to tell, of blocks that have a basis. */
export function reportOf(
  states: readonly BlockState[],
  o: Pick<Report, 'steps' | 'milliseconds'> & {
    readonly refreshes: Omit<Report['refreshes'], 'inFlight'>;
    readonly dampingOf: (state: BlockState) => Parameters<typeof reportBlock>[1];
    readonly nullsOf: (state: BlockState) => Parameters<typeof reportBlock>[2];
  },
): Report {
  const inFlight = states.filter(({ job }) => job !== null).length;
  return {
    steps: o.steps,
    blocks: states.map(state =>
      noGrad(() => reportBlock(state, state.kfe && o.dampingOf(state), state.kfe && o.nullsOf(state))),
    ),
    refreshes: { ...o.refreshes, inFlight },
    milliseconds: { ...o.milliseconds },
  };
}

/**
 * @param damping λ and the mean curvature of the block, for optimizers that have them
 * @param nulls how many directions of each side are null, for optimizers that ask
 */
function reportBlock(
  state: BlockState,
  damping: { lambda: number; mean: Scalar } | null,
  nulls: { readonly A: number; readonly G: number } | null,
): BlockReport {
  const { kfe, block, route, graft, trust, klClip, cosine, silent } = state;
  const values = (s: Tensor) => Float64Array.from(s.dataSync());
  const spectrum = kfe === null ? null : { A: values(kfe.host.sA), G: values(kfe.host.sG) };
  return {
    path: block.path,
    route,
    spectrum,
    effectiveRank: spectrum && { A: effectiveRank(spectrum.A), G: effectiveRank(spectrum.G) },
    relativeDamping: damping && damping.lambda / Number(damping.mean),
    nulls: nulls && { A: nulls.A, G: nulls.G, masked: silent === null ? 0 : silent.astype('float32').sum().item() },
    graft: Number(graft),
    trust: trust && Number(trust),
    klClip: klClip && Number(klClip),
    cosine: cosine && Number(cosine),
  };
}

export function effectiveRank(eigenvalues: ArrayLike<number>): number {
  const all = Array.from(eigenvalues);
  const total = all.reduce((sum, s) => sum + s, 0);
  if (!(total > 0)) return 0;
  const entropy = all.reduce((sum, s) => (s > 0 ? sum - (s / total) * Math.log(s / total) : sum), 0);
  return Math.exp(entropy);
}
