// Runs of kernels that reduce, and gradients against differences.

import type { Element, Float } from '@otimes/kernels';
import fc from 'fast-check';
import { type Bench, randoms, type Values } from './kernels.ts';

export const cube = fc.tuple(
  fc.oneof(fc.constant(1), fc.nat(4)),
  fc.oneof(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 70 })),
  fc.oneof(fc.constant(1), fc.nat(21)),
);

export function reduced(
  bench: Bench,
  name: string,
  type: Element,
  shape: readonly [number, number, number],
  x: Values,
  out: Element,
  at: number,
): Values {
  const [outer, along, inner] = shape;
  return bench.with(at, () => {
    const [px, py] = [bench.put(type, x), bench.room(out, outer * inner)];
    bench.call[`${name}_${type}`]!(outer, along, inner, px, py);
    return bench.read(out, py, outer * inner);
  });
}

/** A function of several arrays with one number for a result, and the gradients that kernels claim it has. */
export type Gradients = { value: (x: readonly Values[]) => number; gradients: readonly Values[] };

/** Central differences of `value` along random directions agree with the gradients. All in float64. */
export function mustBeGradients(inputs: readonly Values[], { value, gradients }: Gradients, what: string): void {
  const h = 1e-5;
  for (const [k, gradient] of gradients.entries()) {
    const direction = randoms(inputs[k]!.length, 11 + k);
    const moved = (by: number) =>
      inputs.map((x, i) => (i === k ? Float64Array.from(x, (v, j) => v + by * direction[j]!) : x));
    const slope = (value(moved(h)) - value(moved(-h))) / (2 * h);
    const claimed = direction.reduce((sum, d, j) => sum + d * gradient[j]!, 0);
    const size = direction.reduce((sum, d, j) => sum + Math.abs(d * gradient[j]!), 0);
    if (!(Math.abs(slope - claimed) <= 1e-6 * (1 + size)))
      throw new Error(`${what}: the gradient by input ${k} gives ${claimed}, differences give ${slope}`);
  }
}
export const dot = (a: ArrayLike<number>, b: ArrayLike<number>) =>
  Array.from(a).reduce((sum, v, i) => sum + v * b[i]!, 0);

/** A result or operand that is float64 whatever the type of the kernel: means and variances. */
export type Double = { room: number; double: true } | { double: Values };

/** Calls a kernel with operands and results that are put for it, and reads the results. */
export function run(
  bench: Bench,
  name: string,
  type: Float,
  args: readonly (number | Values | { room: number } | { ints: readonly number[] } | Double)[],
  at = 0,
): { results: Values[]; returned: number } {
  return bench.with(at, () => {
    const results: [Float, number, number][] = [];
    const raw = args.map(arg => {
      if (typeof arg === 'number') return arg;
      if ('ints' in arg) return bench.put('i32', arg.ints);
      const as = 'double' in arg ? 'f64' : type;
      if (!('room' in arg)) return bench.put(as, 'double' in arg ? arg.double : arg);
      const address = bench.room(as, arg.room);
      results.push([as, address, arg.room]);
      return address;
    });
    const returned = bench.call[`${name}_${type}`]!(...raw) ?? 0;
    return { results: results.map(([as, address, n]) => bench.read(as, address, n)), returned };
  });
}
export const f64 = (count: number, seed: number) => Float64Array.from(randoms(count, seed));
export const one = (r: { results: Values[] }): Values => r.results[0]!;
