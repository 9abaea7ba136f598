/** Bases that are renewed while training goes on. */

import type { Tensor } from '@otimes/core';
import type { Kfe, Rotation } from './basis.ts';

/** Factors that are being decomposed elsewhere. */
export type RefreshJob = {
  readonly A: Tensor;
  readonly G: Tensor;
  /** The step that started it. */
  readonly step: number;
  /** The basis at that time. */
  readonly from: Kfe;
  /** Of factors that are read with await: fulfilled when they have been, before which nothing can end; null for others. */
  readonly arrived: Promise<void> | null;
  /** Whether it has come to an end, good or bad; with `wait` it returns when it has, if it has `arrived`. */
  ended(wait: boolean): boolean;
  /** The new one, waiting for it if need be. Throws what the decomposition threw. Once: A and G cannot be read after it. */
  take(): Arrival;
};

/** A new basis, and the way there from the one that the job started from. */
export type Arrival = { readonly kfe: Kfe; readonly rotation: Rotation };
