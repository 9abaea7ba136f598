/** The options of matrix optimizers, and what one of them hands to the base beside. */

import {
  aBoolean,
  aFunction,
  aNumber,
  checkArgument,
  checkOptions,
  type Kind,
  type OptionKinds,
} from '@otimes/core/extend';
import type { Parameter } from '@otimes/nn';
import { aRate, checkLr, checkMembers, checkNames } from '../check.ts';
import type { Collector } from '../curvature/collector.ts';
import type { Structure } from '../curvature/side.ts';
import { KRONECKER_OPTIONS } from '../kronecker/options.ts';
import type { Overrides } from '../kronecker/overrides.ts';
import type { Optimizer } from '../optimizer.ts';

/** What a user may set for some matrices alone. */
export type MatrixOverride = {
  /** In the place of the optimizer's, and in proportion to it where a schedule changes that. */
  lr?: number;
  /** Leaves the parameters to the rest optimizer. */
  skip?: boolean;
};

/** Options that all matrix optimizers share. */
export type MatrixOptions = {
  /** Learning rate. */
  lr?: number;
  /** Decoupled: matrices shrink by lr · weightDecay a step. Default 0. */
  weightDecay?: number;
  /** Options of matrices, by the path of a module or of a parameter; the longest path that fits counts. Undefined is none. */
  overrides?: Overrides<MatrixOverride>;
  /** Which layers have a weight matrix. Default `defaultCollectors`: Linear, convolutions, recurrent layers, and the projections of MultiHeadAttention. */
  collectors?: readonly Collector[];
  /** The optimizer of all other parameters: biases, normalisation, embeddings, and what `overrides` skip. */
  rest?: (unclaimed: Parameter[]) => Optimizer;
};

const OVERRIDE: OptionKinds<MatrixOverride> = { lr: aNumber, skip: aBoolean };

const { lr, weightDecay, overrides, collectors, rest } = KRONECKER_OPTIONS;
/**
 * What each option of `MatrixOptions` must be, for the table of an optimizer that has these and its own, as `KRONECKER_OPTIONS`. The base
 * checks these again, and their ranges.
 */
export const MATRIX_OPTIONS: OptionKinds<MatrixOptions> = { lr, weightDecay, overrides, collectors, rest };

/** What a matrix optimizer hands to the base beside model and options. */
export type MatrixDefaults = {
  /** Default learning rate. */
  readonly lr: number;
  /** Makes the default optimizer of all other parameters. */
  readonly rest: (unclaimed: Parameter[]) => Optimizer;
  /** By how much a step of that may exceed lr times the largest of the gradient, 1/ε of Adam; Infinity where nobody knows. */
  readonly restGain: number;
  /** Default weight decay; 0 where nothing is said. */
  readonly weightDecay?: number;
  /** Whether weights shrink after the update instead of before it: W ← (1 − lr · weightDecay) (W − lr · update). Default false. */
  readonly decaysLast?: boolean;
  /** Whether steps of each matrix are part of the state, under `matrices.PATH.step`. Default false. */
  readonly counts?: boolean;
  /** The shapes of the slots of a matrix, by their names, where they are not `slotNames` of [rows, columns]. */
  readonly slots?: (rows: number, columns: number) => Readonly<Record<string, readonly number[]>>;
  /** The names of slots whose elements are never below 0, as averages of squares: `loadStateDict` refuses others. */
  readonly squares?: readonly string[];
  /** What `describe()` says of its sides: A that of the columns, G that of the rows. Default: nothing. */
  readonly structure?: (rows: number, columns: number) => { readonly A: Structure; readonly G: Structure };
  /** For a class of the library: whether updates and slots of any finite gradient are finite and small, so that nobody looks. */
  readonly isBounded?: boolean;
};

const DEFAULTS: { readonly [K in 'lr' | 'rest' | 'restGain']: Kind } = {
  lr: aRate,
  rest: aFunction,
  restGain: { expected: 'a number ≥ 0 or Infinity', is: v => typeof v === 'number' && v >= 0 },
};

const aFlag: Kind = { expected: 'true or false', is: v => typeof v === 'boolean' };
/** Those that may be missing. */
const FURTHER: { readonly [K in Exclude<keyof MatrixDefaults, keyof typeof DEFAULTS>]: Kind } = {
  weightDecay: aRate,
  decaysLast: aFlag,
  counts: aFlag,
  slots: aFunction,
  squares: { expected: 'a list of names', is: v => Array.isArray(v) && v.every(one => typeof one === 'string') },
  structure: aFunction,
  isBounded: aFlag,
};

/** Throws unless they are what the base can take. */
export function checkDefaults(name: string, defaults: MatrixDefaults): void {
  checkMembers(name, 'the third argument of MatrixOptimizer', defaults, DEFAULTS);
  for (const [member, kind] of Object.entries<Kind>(FURTHER)) {
    const value: unknown = Reflect.get(defaults, member);
    if (value !== undefined) checkArgument(name, `the third argument of MatrixOptimizer's ${member}`, value, kind);
  }
}

/** Throws for options of some matrices that are of another kind or out of range. */
export function checkOverrides(name: string, overrides: Overrides<MatrixOverride>): void {
  for (const [path, own] of Object.entries(overrides)) {
    const where = `${name}: overrides['${path}']`;
    checkOptions<MatrixOverride>(where, own, OVERRIDE);
    if (own?.lr !== undefined) checkLr(where, own.lr);
  }
}

/** Fields come after the base's constructor, which asks. */
function slotNamesOf(name: string, names: unknown): unknown {
  if (names !== undefined) return names;
  throw new TypeError(
    `${name}: expected its slotNames to be a list of names without dots, such as ['m'], got undefined: the base asks before fields are ` +
      "set, so write a getter: get slotNames() { return ['m']; }",
  );
}

/** The names and shapes of the slots of a matrix [rows, columns]. */
export type SlotShapes = (
  rows: number,
  columns: number,
) => readonly (readonly [name: string, shape: readonly number[]])[];

/** What the class or its defaults say of them. */
export function slotShapes(name: string, optimizer: object, { slots, counts }: MatrixDefaults): SlotShapes {
  const taken = counts ? ['step'] : [];
  if (slots !== undefined)
    return (rows, columns) => {
      const shapes = slots(rows, columns);
      checkNames(name, 'its slots', Object.keys(shapes), taken);
      return Object.entries(shapes);
    };
  const names = checkNames(name, 'its slotNames', slotNamesOf(name, Reflect.get(optimizer, 'slotNames')), taken);
  return (rows, columns) => names.map(slot => [slot, [rows, columns]]);
}
