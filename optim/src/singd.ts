/**
 * SINGD, structured inverse-free natural gradient descent (Lin, Dangel, Eschenhagen, Neklyudov, Kristiadi, Turner & Makhzani 2024): KFAC that
 * decomposes and inverts nothing. What is implemented, and which choices are this library's: docs/math.md.
 */

import { aBoolean, aNumber, checkArgument, checkOptions, checkRange, nameOf } from '@otimes/core/extend';
import { coordinates } from './curvature/decompose/none.ts';
import { type AnyModule, KRONECKER_OPTIONS, type KroneckerOptions } from './kronecker/options.ts';
import { KroneckerPreconditioner } from './kronecker/preconditioner.ts';
import { InverseFreeRule } from './kronecker/rules/inverse-free.ts';
import { SGD } from './sgd.ts';

/** What each side of a block is: of K and C, as of A and G. */
const STRUCTURES = ['exact', 'blocks', 'diagonal', 'identity'] as const;
type OwnStructure = (typeof STRUCTURES)[number];

/** Of the shared options those that speak of decompositions. */
const DECOMPOSING = ['refresh', 'refreshLag', 'refreshThreshold', 'refreshBudget', 'eigensolver', 'route'] as const;
type Decomposing = (typeof DECOMPOSING)[number];

export type SINGDOptions = Omit<KroneckerOptions, Decomposing | 'structure'> & {
  /** β₂. Default 1e-3. */
  lr?: number;
  /** α₂ of the update, heavy ball. Default 0.9. */
  momentum?: number;
  /** λ ≥ 0, added to the curvature. Default 1e-3. */
  damping?: number;
  /** β₁, the step of K and C. Too large a step diverges at the start: see `normalizeLrCov`. Default 1e-2. */
  lrCov?: number;
  /** α₁, momentum of K and C. Default 0.5, and 0 with `adaptive: false`. */
  alpha1?: number;
  /** Whether A and G scale each other by traces, as in INGD. Without (IKFAC) K Kᵀ is KFAC's (A + λ)⁻¹ up to β₁². Default true. */
  adaptive?: boolean;
  /** Divides β₁ by the largest element of the momentum where that is above 1, and weighs what is new by 1 − α₁. Default false. */
  normalizeLrCov?: boolean;
  /** K and C are updated every so many steps, the first included: T. Default 10. */
  refreshEvery?: number;
  /** α of running averages of A and G, before K and C see them. Default 0: the batch alone. */
  factorDecay?: number;
  /** Of K and A, C and G: 'exact' (default), 'blocks' of `blockDim`, 'diagonal', 'identity', or `{ A, G }`. The paper has dense for exact. */
  structure?: OwnStructure | { readonly A?: OwnStructure; readonly G?: OwnStructure };
};

const isStructure = (v: unknown) => STRUCTURES.some(one => one === v);
const aStructure = {
  expected: `one of ${STRUCTURES.map(one => `'${one}'`).join(', ')}, or { A, G } of them`,
  is: (v: unknown) =>
    isStructure(v) ||
    (typeof v === 'object' &&
      v !== null &&
      Object.entries(v).every(
        ([side, own]) => (side === 'A' || side === 'G') && (own === undefined || isStructure(own)),
      )),
};

/** Of its own. */
const OWN = {
  structure: aStructure,
  momentum: aNumber,
  damping: aNumber,
  lrCov: aNumber,
  alpha1: aNumber,
  adaptive: aBoolean,
  normalizeLrCov: aBoolean,
};

function checkSingdOptions(o: SINGDOptions): void {
  const shared = Object.entries(KRONECKER_OPTIONS).filter(([option]) => !DECOMPOSING.some(one => one === option));
  checkOptions<object>('SINGD', o, { ...Object.fromEntries(shared), ...OWN });
  for (const rate of ['momentum', 'alpha1'] as const)
    if (o[rate] !== undefined) checkRange('SINGD', rate, o[rate], 0, 1);
  for (const size of ['damping', 'lrCov'] as const)
    if (o[size] !== undefined) checkRange('SINGD', size, o[size], 0, Infinity);
  for (const [path, own] of Object.entries(o.overrides ?? {}))
    if (own?.structure !== undefined)
      checkArgument(`SINGD: overrides['${path}']`, 'structure', own.structure, aStructure);
}

/** Unclaimed parameters go to SGD with the same lr and momentum unless `rest` says otherwise. */
export class SINGD extends KroneckerPreconditioner {
  static readonly builtIn: string = 'SINGD';
  readonly #rule: InverseFreeRule;

  constructor(model: AnyModule, o: SINGDOptions = {}) {
    // Before the base registers its hooks: a refused optimizer leaves none behind.
    checkSingdOptions(o);
    const { adaptive = true, momentum = 0.9, damping = 1e-3, lrCov = 1e-2, normalizeLrCov = false } = o;
    const alpha1 = o.alpha1 ?? (adaptive ? 0.5 : 0);
    const rule = new InverseFreeRule({ adaptive, momentum, damping, lrCov, normalizeLrCov, alpha1 });
    const shared = { ...o, factorDecay: o.factorDecay ?? 0, structure: o.structure ?? ('exact' as const) };
    super(model, shared, {
      rule,
      fixedBasis: coordinates,
      lr: 1e-3,
      rest: (unclaimed, lr) => new SGD(unclaimed, { lr, momentum }),
    });
    this.#rule = rule;
  }

  override step(...none: readonly never[]): void | Promise<void> {
    this.#rule.follows = this.stagger || this.steps % this.refreshEvery === 0;
    return super.step(...none);
  }

  get damping(): number {
    return this.#rule.dampingLambda;
  }

  /** λ ≥ 0; from the next step on. */
  set damping(damping: number) {
    this.#check('damping', damping);
    this.#rule.dampingLambda = damping;
  }

  get lrCov(): number {
    return this.#rule.lrCov;
  }

  /** β₁ ≥ 0; from the next step on. */
  set lrCov(lrCov: number) {
    this.#check('lrCov', lrCov);
    this.#rule.lrCov = lrCov;
  }

  #check(what: string, value: number): void {
    checkRange(nameOf(this), what, value, 0, Infinity);
    this.checkNoStepOpen(`setting ${what}`);
  }

  get momentum(): number {
    return this.#rule.momentum;
  }

  get alpha1(): number {
    return this.#rule.alpha1;
  }

  get adaptive(): boolean {
    return this.#rule.adaptive;
  }

  get normalizeLrCov(): boolean {
    return this.#rule.normalizeLrCov;
  }
}
