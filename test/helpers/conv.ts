// Kernels of convolution and pooling with operands amid others' elements, which must stay as they were.

import assert from 'node:assert/strict';
import { WasmBackend } from '@otimes/core';
import { createKernels, type FloatType, type Variant, variants } from '@otimes/kernels';
import type { Backend, Operand } from '../../core/src/backends/backend.ts';
import { contiguousStrides, type Shape, sizeOf } from '../../core/src/shape.ts';
import { Storage } from '../../core/src/storage.ts';

/** The kernels that were called, each with its variant. */
export const called = new Set<string>();

export function backendOf(variant: Variant): WasmBackend {
  const kernels = createKernels({ variant })!;
  kernels.override('threads', below => {
    const counted = (name: string, kernel: (...x: number[]) => number) => [
      name,
      (...x: number[]) => {
        called.add(`${variant} ${name}`);
        return kernel(...x);
      },
    ];
    return Object.fromEntries(Object.entries(below).map(([name, kernel]) => counted(name, kernel as never)));
  });
  return new WasmBackend(variant, kernels);
}
export const backends = variants().map(backendOf);

/** Elements before and after every operand. */
export const MARGIN = 9;
export const GUARD = 77;

export type Values = ArrayLike<number>;
export function operand(backend: Backend, dtype: FloatType | 'int32', values: Values, shape: Shape): Operand {
  const padded = new { float32: Float32Array, float64: Float64Array, int32: Int32Array }[dtype](
    values.length + 2 * MARGIN,
  ).fill(GUARD);
  padded.set(Array.from(values), MARGIN);
  const storage = new Storage(backend, dtype, backend.store(padded));
  return { storage, dtype, shape, strides: contiguousStrides(shape), offset: MARGIN };
}

/** Seeded numbers in [−1, 1), thinned to float32. */
export function noise(count: number, seed: number): number[] {
  let state = (seed + 1) * 2654435761;
  return Array.from({ length: count }, () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return Math.fround(state / 2 ** 31);
  });
}

export type Input = { readonly values: Values; readonly shape: Shape; readonly dtype?: FloatType | 'int32' };
export const input = (shape: Shape, seed: number): Input => ({ values: noise(sizeOf(shape), seed), shape });
export const abs = ({ values, shape }: Input): Input => ({ values: Array.from(values, Math.abs), shape });

export type Result = { readonly dtype: FloatType | 'int32'; readonly shape: Shape };
/** Runs a kernel on operands of a backend; its results, whose surroundings must be as before. */
export function run(
  backend: Backend,
  dtype: FloatType,
  inputs: readonly Input[],
  results: readonly Result[],
  kernel: (backend: Backend, inputs: Operand[], out: Operand[]) => void,
): number[][] {
  const operands = inputs.map(({ values, shape, dtype: own }) => operand(backend, own ?? dtype, values, shape));
  const out = results.map(({ dtype: type, shape }) =>
    operand(backend, type, new Array(sizeOf(shape)).fill(GUARD), shape),
  );
  kernel(backend, operands, out);
  return [...operands, ...out]
    .map(x => {
      const all = Array.from(x.storage.array);
      const end = MARGIN + sizeOf(x.shape);
      if (![...all.slice(0, MARGIN), ...all.slice(end)].every(v => v === GUARD))
        throw new Error('wrote beside an operand');
      return all.slice(MARGIN, end);
    })
    .slice(operands.length);
}

export function mustBeWithin(actual: Values, expected: Values, bound: (i: number) => number, what: string): void {
  assert.equal(actual.length, expected.length);
  for (let i = 0; i < actual.length; i++) {
    const [x, y] = [actual[i]!, expected[i]!];
    if (Object.is(x, y) || Math.abs(x - y) <= bound(i)) continue;
    throw new Error(`${what}: at ${i} ${x}, expected ${y}, off by ${Math.abs(x - y) / bound(i)} × the bound`);
  }
}
