/** What an entry in the list of operations is, and short ways to write one. */

import type { DType, Tensor } from '@otimes/core';
import fc from 'fast-check';
import { axes, broadcasting, type Domain, real, shape } from '../arbitraries/tensor.ts';
import { type Dense, elementwise, reduced } from '../helpers/dense.ts';

/** One use of an operation: shapes and domains of its inputs, the call, and the same by plain loops. */
export type Use = {
  /** `dtype` is fixed for indices and conditions; the others are drawn from the dtypes under test. */
  inputs: readonly { shape: readonly number[]; domain: Domain; dtype?: DType }[];
  run(...x: Tensor[]): Tensor;
  naive(...x: Dense[]): Dense;
  /** dtype of the result, from the common one of the inputs that were drawn; that one itself by default. */
  result?(common: DType): DType;
};

export type OpEntry = {
  /** The method or function, and which use of it where there are several. */
  name: string;
  use: fc.Arbitrary<Use>;
  /** All that are under test, by default. */
  dtypes?: readonly DType[];
  /** A dtype that the entry makes itself: it runs where the device has that one. */
  makes?: DType;
  /** Nothing flows back through integers and booleans. */
  differentiable?: false;
  /** It computes on the host, and refuses devices that are read with await. */
  onHost?: boolean;
};

export const floating = (dtype: DType): DType => (dtype === 'float64' ? dtype : 'float32');
export const bool = (): DType => 'bool';

// --- how to write an entry ------------------------------------------------------------------------------------------

export type Options = Pick<Use, 'result'> & Pick<OpEntry, 'dtypes' | 'makes' | 'differentiable'>;

export function entry(name: string, use: fc.Arbitrary<Use>, { dtypes, makes, differentiable }: Options = {}): OpEntry {
  return {
    name,
    use,
    ...(dtypes && { dtypes }),
    ...(makes && { makes }),
    ...(differentiable === false && { differentiable }),
  };
}

/** f(x) element by element. */
export function unary(
  name: string,
  domain: Domain,
  run: (x: Tensor) => Tensor,
  f: (x: number) => number,
  o: Options = {},
): OpEntry {
  const use = shape().map(s => ({ inputs: [{ shape: s, domain }], run, naive: (x: Dense) => elementwise(f, x), ...o }));
  return entry(name, use, o);
}

/** f(a, b) element by element, with broadcasting. */
export function binary(
  name: string,
  [domainA, domainB]: [Domain, Domain],
  run: (a: Tensor, b: Tensor) => Tensor,
  f: (a: number, b: number) => number,
  o: Options = {},
): OpEntry {
  const use = broadcasting(2).map(([a, b]) => ({
    inputs: [
      { shape: a!, domain: domainA },
      { shape: b!, domain: domainB },
    ],
    run,
    naive: (p: Dense, q: Dense) => elementwise(f, p, q),
    ...o,
  }));
  return entry(name, use, o);
}

type Axes = number | number[] | undefined;

/** f of the values along axes, of which it takes `atLeast` (default 0). */
export function reduction(
  name: string,
  domain: Domain,
  run: (x: Tensor, axes: Axes, o: { keepdim: boolean }) => Tensor,
  f: (values: number[]) => number,
  { atLeast = 0, ...o }: Options & { atLeast?: number } = {},
): OpEntry {
  const count = (s: readonly number[], over: Axes) =>
    (over === undefined ? s : [over].flat().map(a => s.at(a)!)).reduce((product, n) => product * n, 1);
  const use = shape()
    .chain(s => fc.tuple(fc.constant(s), axes(s.length), fc.boolean()))
    .filter(([s, over]) => count(s, over) >= atLeast)
    .map(([s, over, keepdim]) => ({
      inputs: [{ shape: s, domain }],
      run: (x: Tensor) => run(x, over, { keepdim }),
      naive: (x: Dense) => reduced(x, over, keepdim, f),
      ...o,
    }));
  return entry(name, use, o);
}

/** A change of shape or place. `of` gives, for an input shape, the call and the same by indices. */
export function rearrangement(
  name: string,
  shapes: fc.Arbitrary<number[]>,
  of: (s: number[]) => fc.Arbitrary<Pick<Use, 'run' | 'naive'>>,
): OpEntry {
  return entry(
    name,
    shapes.chain(s => of(s).map(({ run, naive }) => ({ inputs: [{ shape: s, domain: real }], run, naive }))),
  );
}

export const rows = <T>(table: readonly T[]): readonly T[] => table;

export const sum = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);
