/** What callers of an operator may choose. */

import { Generator } from '@otimes/core';
import { aFunction, aNumber, anInstance, type OptionKinds, oneOf } from '@otimes/core/extend';
import { type Eigensolver, twoSizes } from './basis.ts';

export type FromFactorsOptions = {
  /** [dOut, dIn]; needed where a factor has rank 0. */
  readonly sizes?: readonly [number, number];
  /** Default: `eigh` of @otimes/linalg, float64 inside. */
  readonly eigensolver?: Eigensolver;
};

export type DampingOptions = {
  /**
   * λ ≥ 0, added to each eigenvalue, in units of those. Default 0. With that the inverses of an operator with null directions are
   * a RangeError that names the factor and its smallest eigenvalue, and `logdet` is −∞.
   */
  readonly damping?: number;
};

export type SolveOptions = DampingOptions & {
  /**
   * 'eigen' (default) inverts A ⊗ G + λ1. 'pi' inverts (A + π√λ 1) ⊗ (G + √λ/π 1), π² = (tr A / dIn) / (tr G / dOut) (Martens &
   * Grosse 2015, §6.3); an operator without a basis then does with Cholesky. Not with eigenvalues other than sG sAᵀ.
   */
  readonly split?: 'eigen' | 'pi';
};

export type SampleOptions = DampingOptions & {
  /** Default: the generator that `manualSeed` seeds. */
  readonly rng?: Generator;
};

export const DAMPING: OptionKinds<DampingOptions> = { damping: aNumber };
export const SOLVE: OptionKinds<SolveOptions> = { ...DAMPING, split: oneOf('eigen', 'pi') };
export const SAMPLE: OptionKinds<SampleOptions> = { ...DAMPING, rng: anInstance(Generator, 'a Generator') };
export const FROM_FACTORS: OptionKinds<FromFactorsOptions> = {
  sizes: twoSizes,
  eigensolver: aFunction,
};
