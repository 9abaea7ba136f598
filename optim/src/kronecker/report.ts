/** What a Kronecker optimizer can say about itself, as data. */

import { noGrad, type Tensor } from '@otimes/core';
import { readsLater } from '@otimes/core/extend';
import type { Route } from '../curvature/routes/route.ts';
import type { Scalar } from '../curvature/scalar.ts';
import type { Rule } from './rule.ts';
import type { BlockState } from './state.ts';
import type { Parts } from './step.ts';

/** The parts of a step that are timed. 'statistics' is the part of backward that collects them. */
export type Phase = 'statistics' | 'refresh' | 'precondition' | 'rest';

export type BlockReport = {
  readonly path: string;
  readonly route: Route;
  /**
   * Eigenvalues in ascending order; null before the first step, and for optimizers that decompose nothing (SINGD). Those of a side at the identity are equal. `JSON.stringify` writes
   * them as lists.
   */
  readonly spectrum: { readonly A: Float64Array; readonly G: Float64Array } | null;
  /** exp of the entropy of the normalised eigenvalues (Roy & Vetterli 2007): how many directions count. */
  readonly effectiveRank: { readonly A: number; readonly G: number } | null;
  /** λ, null for optimizers without damping. */
  readonly damping: number | null;
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
    /** Where they are computed: within the step, or by workers. */
    readonly mode: 'sync' | 'background';
    /** Bases that took over. */
    readonly done: number;
    /** Bases that stayed by `refreshThreshold` when they were due, with new eigenvalues. */
    readonly skipped: number;
    /** Decompositions that failed in the background, or bases that could not be followed; the old basis stayed. */
    readonly failed: number;
    readonly lastError: string | null;
    /** Decompositions under way. */
    readonly inFlight: number;
  };
  /** Milliseconds, summed over all steps. */
  readonly milliseconds: Readonly<Record<Phase, number>>;
};

/** What a report is made from. */
type Source = Pick<Parts, 'name' | 'states' | 'rule' | 'refresher' | 'watch'>;

/** A report on all blocks. Throws a TypeError where blocks are on a device that is read with await. */
export function reportOf(o: Source): Report {
  const { states } = o;
  const later = states.find(({ block }) => readsLater(block.parameters[0]!));
  if (later !== undefined)
    throw new TypeError(
      `${o.name}.report: ${later.label} is on '${later.block.parameters[0]!.device}', which is read with await: ` +
        'await readReport()',
    );
  const now = (x: Scalar | null) => (x === null || typeof x === 'number' ? x : x.item());
  const blocks = states.map(state => {
    const { scalars, spectra, block } = draftOf(state, o.rule);
    return block(
      scalars.map(now),
      spectra.map(s => s.dataSync()),
    );
  });
  return finished(o, blocks);
}

/** The same on every device. Everything is read as it is at the call. */
export async function readReportOf(o: Source): Promise<Report> {
  const { states } = o;
  const later = (x: Scalar | null) => (x === null || typeof x === 'number' ? x : x.number());
  const drafts = states.map(state => draftOf(state, o.rule));
  const values = drafts.map(({ scalars, spectra }) =>
    Promise.all([Promise.all(scalars.map(later)), Promise.all(spectra.map(s => s.data()))]),
  );
  const known = states.map(async state => {
    const { expandedG } = state;
    if (typeof expandedG === 'boolean') return;
    const expands = (await expandedG.number()) !== 0;
    if (state.expandedG === expandedG) state.expandedG = expands;
  });
  const report = finished(o, []);
  const [all] = await Promise.all([Promise.all(values), Promise.all(known)]);
  return { ...report, blocks: drafts.map(({ block }, i) => block(...all[i]!)) };
}

function finished({ states, refresher, watch }: Source, blocks: readonly BlockReport[]): Report {
  const inFlight = states.filter(({ job }) => job !== null).length;
  const { steps, mode, done, skipped, failed, lastError } = refresher;
  const milliseconds = { ...watch.milliseconds };
  return { steps, blocks, refreshes: { mode, done, skipped, failed, lastError, inFlight }, milliseconds };
}

/** A block's report that still lacks these numbers, which tensors may have, and the eigenvalues of A and G, or none. */
type Draft = {
  readonly scalars: readonly (Scalar | null)[];
  readonly spectra: readonly Tensor[];
  readonly block: (values: readonly (number | null)[], spectra: readonly ArrayLike<number>[]) => BlockReport;
};

function draftOf(state: BlockState, rule: Rule): Draft {
  const { kfe, block, route, graft, trust, klClip, cosine, silent } = state;
  const [damping, nulls] =
    kfe === null ? [null, null] : noGrad(() => [rule.dampingOf?.(state) ?? null, rule.nullsOf?.(state) ?? null]);
  const masked = nulls === null || silent === null ? null : silent.astype('float32').sum();
  return {
    scalars: [damping?.mean ?? null, masked, graft, trust, klClip, cosine, nulls?.A ?? null, nulls?.G ?? null],
    spectra: kfe === null || state.fixedBasis !== undefined ? [] : [kfe.host.sA, kfe.host.sG],
    block: ([mean, masked, graft, trust, klClip, cosine, nullA, nullG], spectra) => {
      const spectrum = spectra.length === 0 ? null : { A: listed(spectra[0]!), G: listed(spectra[1]!) };
      return {
        path: block.path,
        route,
        spectrum,
        effectiveRank: spectrum && { A: effectiveRank(spectrum.A), G: effectiveRank(spectrum.G) },
        damping: damping?.lambda ?? null,
        relativeDamping: damping && damping.lambda / mean!,
        nulls: nulls && { A: nullA!, G: nullG!, masked: masked ?? 0 },
        graft: graft!,
        trust: trust!,
        klClip: klClip!,
        cosine: cosine!,
      };
    },
  };
}

/** The elements of a vector, as an array that JSON has as a list: of its own a typed array would be an object of its indices. */
const listed = (s: ArrayLike<number>): Float64Array =>
  Object.defineProperty(Float64Array.from(s).sort(), 'toJSON', { value: toList });

function toList(this: Float64Array): number[] {
  return Array.from(this);
}

export function effectiveRank(eigenvalues: ArrayLike<number>): number {
  const all = Array.from(eigenvalues);
  const total = all.reduce((sum, s) => sum + s, 0);
  if (!(total > 0)) return 0;
  const entropy = all.reduce((sum, s) => (s > 0 ? sum - (s / total) * Math.log(s / total) : sum), 0);
  return Math.exp(entropy);
}
