/** Checks that constructors of layers share: sizes, and where and how parameters are made. */

import { type DType, Generator } from '@otimes/core';
import { aCount, aDevice, aDType, anInstance, checkArgument, isPlainObject, type Kind } from '@otimes/core/extend';

/** Where and how parameters are made. */
export type Placement = {
  /** Draws the initial weights, and what dropout drops; default: the generator that `manualSeed` seeds. */
  rng?: Generator;
  /** Default 'float32'. */
  dtype?: DType;
  /** Default 'cpu'. */
  device?: string;
};

/** The kinds of these options. */
export const PLACEMENT = {
  rng: anInstance(Generator, 'a Generator'),
  dtype: aDType,
  device: aDevice,
};

/** These options without all others, as functions that make tensors take them; undefined ones are left out. */
export function placed({ rng, dtype, device }: { [K in keyof Placement]?: Placement[K] | undefined }): Placement {
  return { ...(rng && { rng }), ...(dtype && { dtype }), ...(device && { device }) };
}

/** The same without `rng`, for tensors that are not random. */
export function withoutRng({ dtype, device }: Placement): Omit<Placement, 'rng'> {
  return placed({ dtype, device });
}

/** Throws unless each of the named sizes is an integer ≥ 1. */
export function checkPositive(where: string, sizes: Record<string, unknown>): void {
  for (const [name, value] of Object.entries(sizes)) checkArgument(where, name, value, aCount);
}

/** The probability of dropping an element. */
export const aProbability: Kind = {
  expected: 'a probability 0 ≤ p < 1',
  is: v => typeof v === 'number' && v >= 0 && v < 1,
  error: RangeError,
};

/** Options of which some are required. */
export const requiredOptions: Kind = { expected: 'an object of options', is: isPlainObject };

/** In tables of options: one whose value is checked elsewhere, so that the list of all names is whole. */
export const isOption: Kind = { expected: 'an option', is: () => true };
