/** What build.mjs says of a kernel in kernels/signatures.txt: how a call of it is cut into calls of itself with the same bits. */

import type { Kernel } from './team.ts';

/** Places of arguments whose product is meant; −1 − place for one that divides. */
export type Factors = readonly number[];

/** An axis that may be cut. */
export type Axis = {
  /** The argument that counts what is cut, or with `from` says where it ends. */
  readonly at: number;
  /**
   * Addresses that move, each with its place, the bytes of an element, and the factors that tell by how many elements for each
   * unit of the axis. Bytes below 0 are so many of the first type, 0 stands for the second.
   */
  readonly moves: readonly (readonly [at: number, bytes: number, ...elements: number[]])[];
  /** Distances in a result: where one is 0, the pieces would write in one place. */
  readonly still?: readonly number[];
  /** Pieces are multiples of it, but for the last; 1 by default, 64 for what should lie in whole cache lines. */
  readonly unit?: number;
  /** An argument that says how many elements a unit of the axis has, where `unit` counts elements. */
  readonly each?: number;
  /** The argument that takes where a piece begins; `at` then takes where it ends, not how long it is. */
  readonly from?: number;
  /** An argument that is left out in the whole, and what it is in pieces. */
  readonly set?: readonly [at: number, ...product: number[]];
};

export type Plan = {
  readonly arity: number;
  /** Nanoseconds that it takes one thread for each of the product of `work`, or of the type's bytes times that. */
  readonly ns: number;
  readonly work: Factors;
  readonly sized?: boolean;
  /** The first whose length is not 1 is cut, or the last. */
  readonly axes: readonly Axis[];
  /** A function of `RULES` that chooses in another way, by these arguments. */
  readonly rule?: 'copy' | 'each' | 'filters' | 'product' | 'triangle' | 'wide';
  readonly takes?: readonly number[];
  /** Which argument is the scratch. */
  readonly scratch?: number;
  /** Memory of which every piece has its own, and the argument that says how many bytes that is. */
  readonly own?: readonly [at: number, bytes: number];
  /** Unless this argument is left out, or 0, a call stays whole. */
  readonly whole?: number;
  /**
   * A call may be made once more after a part of it, unless one of the operands `written` is read as well, or this argument is
   * not 0. Without it calls add to what they find.
   */
  readonly again?: { readonly written: readonly number[]; readonly unless?: number };
};

/** Names of kernels, parted by spaces, and their plan. */
export type Plans = readonly (readonly [names: string, plan: Plan])[];

/** Calls `f`, unless `long` of its first four arguments, for products of m, n, k and the batch; then `share` does. */
export type Wrap = (f: Kernel, long: (...x: number[]) => boolean, share: (x: number[]) => number | undefined) => Kernel;
