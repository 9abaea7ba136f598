/** Comparison of numbers that tells what differs: the index, both values, and by how many tolerances. */

import { type Nested, Tensor, type TypedArray } from '@otimes/core';

/** Anything with numbers in it. A typed array has one axis; give a Tensor where more are meant. */
export type Values = Tensor | Nested | TypedArray | Float64Array;

/** |actual − expected| ≤ atol + rtol · |expected|. The defaults depend on the dtype: 1e-5, 1e-6 if float32 takes part, else 1e-9, 1e-12. */
export type Tolerance = { rtol?: number; atol?: number };

type Dense = { shape: readonly number[]; data: ArrayLike<number>; float32: boolean };

function dense(values: Values): Dense {
  if (values instanceof Tensor)
    return { shape: values.shape, data: values.dataSync(), float32: values.dtype === 'float32' };
  if (ArrayBuffer.isView(values))
    return { shape: [values.length], data: values, float32: values instanceof Float32Array };
  const shape: number[] = [];
  for (let level: Nested | undefined = values; typeof level === 'object'; level = level[0]) shape.push(level.length);
  const data: number[] = [];
  const visit = (value: Nested): void => {
    if (typeof value === 'object') for (const item of value) visit(item);
    else data.push(Number(value));
  };
  visit(values);
  return { shape, data, float32: false };
}

function indexOf(position: number, shape: readonly number[]): string {
  const index: number[] = [];
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    index.unshift(position % shape[axis]!);
    position = Math.floor(position / shape[axis]!);
  }
  return `[${index.join(',')}]`;
}

/** How `actual` differs from `expected`, or null where it does not. NaN equals NaN; infinities equal themselves. */
export function difference(actual: Values, expected: Values, tolerance: Tolerance = {}): string | null {
  const [a, e] = [dense(actual), dense(expected)];
  const float32 = a.float32 || e.float32;
  const { rtol = float32 ? 1e-5 : 1e-9, atol = float32 ? 1e-6 : 1e-12 } = tolerance;
  if (a.shape.join() !== e.shape.join()) return `shape [${a.shape.join(',')}], expected [${e.shape.join(',')}]`;
  let [worst, at, count] = [0, 0, 0];
  for (let i = 0; i < a.data.length; i++) {
    const [x, y] = [a.data[i]!, e.data[i]!];
    if (Object.is(x, y) || x === y) continue;
    const ratio = Math.abs(x - y) / (atol + rtol * Math.abs(y));
    if (ratio <= 1) continue;
    count++;
    const size = Number.isNaN(ratio) ? Number.POSITIVE_INFINITY : ratio;
    if (size > worst) [worst, at] = [size, i];
  }
  if (count === 0) return null;
  return (
    `at ${indexOf(at, a.shape)}: ${a.data[at]}, expected ${e.data[at]}, ${worst.toPrecision(3)} × the tolerance ` +
    `(rtol ${rtol}, atol ${atol}); ${count} of ${a.data.length} differ`
  );
}

/** Throws where `actual` differs from `expected`: for properties. */
export function mustBeClose(actual: Values, expected: Values, tolerance?: Tolerance, what = 'values'): void {
  const found = difference(actual, expected, tolerance);
  if (found !== null) throw new Error(`${what}: ${found}`);
}

/** Asserts that `actual` equals `expected` within the tolerance. */
export function allclose(
  t: { pass(message: string): boolean; fail(message: string): boolean },
  actual: Values,
  expected: Values,
  tolerance?: Tolerance,
  message = 'values are close',
): boolean {
  const found = difference(actual, expected, tolerance);
  return found === null ? t.pass(message) : t.fail(`${message}: ${found}`);
}
