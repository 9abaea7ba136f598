/** Drawing: numbers from a seed, operands with new values, and operands made of results that are there. */

import { type DType, Generator, type Shape, type Tensor, tensor } from '@otimes/core';
import fc from 'fast-check';
import { type Domain, laidOut, layout } from '../../test/arbitraries/tensor.ts';
import type { Device } from './devices.ts';

/** One tensor on every device, with the same bits. */
export type Value = readonly Tensor[];

export class Draw {
  readonly rng: Generator;
  constructor(seed: number) {
    this.rng = new Generator(seed);
  }
  /** 0 … n−1. */
  below(n: number): number {
    return this.rng.integer(0, n);
  }
  one<T>(items: readonly T[]): T {
    return items[this.below(items.length)]!;
  }
  /** True once in n times. */
  once(n: number): boolean {
    return this.below(n) === 0;
  }
  /** What fast-check draws. */
  from<T>(arbitrary: fc.Arbitrary<T>): T {
    return fc.sample(arbitrary, { seed: this.below(2 ** 30), numRuns: 1 })[0]!;
  }
}

const SPECIAL: Record<DType, readonly number[]> = {
  float32: [
    0,
    -0,
    NaN,
    Infinity,
    -Infinity,
    1e-45,
    -3e-40,
    1e30,
    -1e30,
    1e-30,
    3.4028234663852886e38,
    16777217,
    88,
    -104,
  ],
  float64: [0, -0, NaN, Infinity, -Infinity, 5e-324, -1e-310, 1e30, -1e300, 1e-30, 1.7976931348623157e308, 709, -745],
  int32: [0, -1, 2147483647, -2147483648, 65536, 16777217],
  bool: [0, 1],
};

/** A new value in any layout, with a share of extreme elements where `extreme` says so. */
export function fresh(
  draw: Draw,
  devices: readonly Device[],
  { shape, domain, dtype, extreme }: { shape: Shape; domain: Domain; dtype: DType; extreme: boolean },
): Value {
  const size = shape.reduce((a, b) => a * b, 1);
  const values = [...draw.from(domain(size, dtype === 'int32' || dtype === 'bool'))];
  if (extreme) for (let i = 0; i < size; i++) if (draw.once(3)) values[i] = draw.one(SPECIAL[dtype]);
  // bool holds 0 and 1.
  const stored = dtype === 'bool' ? values.map(x => Number(x !== 0)) : values;
  const how = draw.from(layout(shape.length, { repeated: draw.once(3) }));
  return devices.map(({ name }) => laidOut(stored, shape, how, dtype, name));
}

/** The same contiguous elements on every device. */
export function everywhere(devices: readonly Device[], x: Tensor): Value {
  const data = x.dataSync();
  return devices.map(({ name }) => tensor([...data], { shape: x.shape, dtype: x.dtype, device: name }));
}

/** A view of the wanted shape of `x`, by ways that the draw chooses; null where there is none. */
export function fitted(draw: Draw, x: Value, shape: Shape): Value | null {
  let now = x;
  const through = (f: (x: Tensor) => Tensor): void => {
    now = now.map(f);
  };
  const first = () => now[0]!;
  if (draw.once(2) && first().rank > 1) {
    const order = first().shape.map((_, i) => i);
    for (let i = order.length - 1; i > 0; i--) {
      const j = draw.below(i + 1);
      [order[i], order[j]] = [order[j]!, order[i]!];
    }
    through(x => x.permute(order));
  }
  const size = shape.reduce((a, b) => a * b, 1);
  if (first().rank !== shape.length && first().size === size && size > 0) through(x => x.reshape(shape));
  while (first().rank > shape.length) {
    if (first().shape[0] === 0) return null;
    const at = draw.below(first().shape[0]!);
    through(x => x.slice(at));
  }
  while (first().rank < shape.length) through(x => x.unsqueeze(0));
  const ranges: ([number, number | null, number] | null)[] = [];
  for (const [i, wanted] of shape.entries()) {
    const there = first().shape[i]!;
    if (there < wanted && there !== 1) return null;
    if (there <= 1 && wanted > 0) ranges.push(draw.once(4) ? [-1, null, -1] : null);
    else if (wanted === 0) ranges.push([0, 0, 1]);
    else {
      const most = wanted === 1 ? 2 : Math.floor((there - 1) / (wanted - 1));
      const step = 1 + draw.below(Math.max(1, Math.min(most, 3)));
      const span = (wanted - 1) * step + 1;
      const start = draw.below(there - span + 1);
      const end = start + span;
      if (draw.once(3)) ranges.push([end - 1, start === 0 ? null : start - 1, -step]);
      else ranges.push([start, end, step]);
    }
  }
  if (ranges.some(range => range !== null)) through(x => x.slice(...ranges));
  if (first().shape.join() !== shape.join()) through(x => x.expand(shape));
  return now;
}
