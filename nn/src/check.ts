/** What constructors of layers share: sizes, and where and how parameters are made. */

import { type DType, Generator } from '@otimes/core';
import { aCount, aDevice, aDType, anInstance, checkArgument, isPlainObject, type Kind } from '@otimes/core/extend';

/** Where and how parameters are made. */
export type Placement = {
  /** Draws first weights, and dropout; default: the generator that `manualSeed` seeds. */
  rng?: Generator;
  /** Default 'float32'. */
  dtype?: DType;
  /** Default 'cpu'. */
  device?: string;
};

/** As options of layers. */
export const PLACEMENT = {
  rng: anInstance(Generator, 'a Generator'),
  dtype: aDType,
  device: aDevice,
};

/** These options alone, as the functions take them that make tensors; those left out stay out. */
export function placed({ rng, dtype, device }: { [K in keyof Placement]?: Placement[K] | undefined }): Placement {
  return { ...(rng && { rng }), ...(dtype && { dtype }), ...(device && { device }) };
}

/** The same for what is not drawn. */
export function still({ dtype, device }: Placement): Omit<Placement, 'rng'> {
  return placed({ dtype, device });
}

/** Throws unless each of the named sizes is an integer ≥ 1. */
export function checkPositive(where: string, sizes: Record<string, unknown>): void {
  for (const [name, value] of Object.entries(sizes)) checkArgument(where, name, value, aCount);
}

/** A probability of dropping. */
export const aShare: Kind = {
  expected: 'a probability 0 ≤ p < 1',
  is: v => typeof v === 'number' && v >= 0 && v < 1,
  error: RangeError,
};

/** What is added to a variance. */
export const anEps: Kind = {
  expected: 'a number ≥ 0',
  is: v => typeof v === 'number' && v >= 0 && v < Infinity,
  error: RangeError,
};

/** Options of which some cannot be left out. */
export const someOptions: Kind = { expected: 'an object of options', is: isPlainObject };
