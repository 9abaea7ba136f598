/** Products and convolutions for `products.ts`: operands on the GPU, what computes the result by a plan, and a few results by plain loops. */

import type { ConvGeometry, Operand } from '@otimes/core';
import { type Context, memoryOf, temporary } from '../../../gpu/src/context.ts';
import { type ConvChoice, convForward, convInputGrad, convWeightGrad } from '../../../gpu/src/conv.ts';
import { multiply } from '../../../gpu/src/product.ts';
import { planOn, planWith } from '../../../gpu/src/product-plan.ts';
import type { Tile } from '../../../gpu/src/product-tile.ts';

export type Choice = { readonly tile: Tile; readonly splits: number; readonly copy?: boolean };

export type Case = {
  readonly name: string;
  /** Products and sums. */
  readonly operations: number;
  readonly choices: readonly Choice[];
  /** Allocates operands and result. */
  open(c: Context): Opened;
};

export type Opened = {
  readonly all: readonly Operand[];
  readonly result: Operand;
  /** Without a choice: as the library chooses. */
  run(choice?: Choice): void;
  /** Result number `at`, and the sum of the magnitudes that it consists of. */
  expected(at: number): { value: number; size: number };
};

/** Numbers from −1 to 1, by a generator of 32 bits. */
const most = 2 ** 26 + 977;
let all: Float32Array<ArrayBuffer> | null = null;
function numbers(): Float32Array<ArrayBuffer> {
  if (all !== null) return all;
  all = new Float32Array(most);
  for (let i = 0, state = 1; i < most; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    all[i] = state / 2 ** 31;
  }
  return all;
}

/** Where the second operand's numbers begin. */
const SECOND = 977;
function filled(c: Context, shape: readonly number[], from: number): Operand {
  const x = temporary(c, 'float32', shape);
  const size = shape.reduce((a, b) => a * b, 1);
  c.commands.write(memoryOf(x), numbers().subarray(from, from + size));
  return x;
}

function sumOf(count: number, term: (k: number) => number): { value: number; size: number } {
  let [value, size] = [0, 0];
  for (let k = 0; k < count; k++) {
    const one = term(k);
    value += one;
    size += Math.abs(one);
  }
  return { value, size };
}

export type Product = { m: number; n: number; k: number; batch?: number; turned?: string };

/** [batch, M, K] · [batch, K, N]; of `turned` A, B or both lie transposed in memory. */
export function product(name: string, { m, n, k, batch = 1, turned = '' }: Product, choices: readonly Choice[]): Case {
  const matrix = (x: Operand, is: boolean): Operand => {
    const [, rows, columns] = x.shape as [number, number, number];
    return is ? { ...x, strides: [rows * columns, 1, rows] } : x;
  };
  return {
    name,
    operations: 2 * batch * m * n * k,
    choices,
    open(c) {
      const a = matrix(filled(c, [batch, m, k], 0), turned.includes('A'));
      const b = matrix(filled(c, [batch, k, n], SECOND), turned.includes('B'));
      const y = temporary(c, 'float32', [batch, m, n]);
      const run = (choice?: Choice) =>
        multiply(c, a, b, y, {
          plan:
            choice === undefined
              ? planOn(c.commands.device, { m, n, k, batch })
              : planWith(choice.tile, k, choice.splits),
        });
      const at = (x: Operand, z: number, i: number, j: number) =>
        z * x.strides[0]! + i * x.strides[1]! + j * x.strides[2]!;
      return {
        all: [a, b, y],
        result: y,
        run,
        expected(index) {
          const [z, i, j] = [Math.floor(index / (m * n)), Math.floor(index / n) % m, index % n];
          return sumOf(k, q => numbers()[at(a, z, i, q)]! * numbers()[SECOND + at(b, z, q, j)]!);
        },
      };
    },
  };
}

export type Conv = { n: number; c: number; size: number; o: number; kernel: number; stride: number };

/** The three kernels of a convolution of square images, padded so that stride 1 keeps their size. */
export function convolution(
  form: 'forward' | 'input' | 'weight',
  { n, c: channels, size, o, kernel, stride }: Conv,
  choices: readonly Choice[],
): Case {
  const padding = kernel >> 1;
  const places = Math.floor((size + 2 * padding - kernel) / stride) + 1;
  const geometry: ConvGeometry = {
    kernel: [kernel, kernel],
    stride: [stride, stride],
    padding: [padding, padding],
    dilation: [1, 1],
    groups: 1,
  };
  const [xs, ws, ys] = [
    [n, channels, size, size],
    [o, channels, kernel, kernel],
    [n, o, places, places],
  ];
  const pixel = (image: number, channel: number, y: number, x: number, side: number, count: number, from: number) =>
    y < 0 || x < 0 || y >= side || x >= side ? 0 : numbers()[from + ((image * count + channel) * side + y) * side + x]!;
  const weight = (output: number, channel: number, tap: number, from: number) =>
    numbers()[from + (output * channels + channel) * kernel * kernel + tap]!;
  const taps = kernel * kernel;
  const step = (tap: number) => [Math.floor(tap / kernel) - padding, (tap % kernel) - padding] as const;
  const what = { forward: 'forward', input: 'by input', weight: 'by weight' }[form];
  return {
    name: `${channels}→${o} ${size}² ${kernel}×${kernel}${stride > 1 ? ` /${stride}` : ''} B${n} ${what}`,
    operations: 2 * n * places * places * o * channels * taps,
    choices,
    open(c) {
      const [first, second, result] = { forward: [xs, ws, ys], input: [ys, ws, xs], weight: [xs, ys, ws] }[form];
      const [a, b] = [filled(c, first!, 0), filled(c, second!, SECOND)];
      const y = temporary(c, 'float32', result!);
      const choose = (choice?: Choice): ConvChoice =>
        choice === undefined ? {} : { plan: choice, ...(choice.copy !== undefined && { copy: choice.copy }) };
      const run = (choice?: Choice) => {
        if (form === 'forward') convForward(c, a, b, null, y, geometry, choose(choice));
        else if (form === 'input') convInputGrad(c, a, b, y, geometry, choose(choice));
        else convWeightGrad(c, a, b, y, geometry, choose(choice));
      };
      const expected = (at: number) => {
        if (form === 'weight') {
          const [tap, channel, output] = [
            at % taps,
            Math.floor(at / taps) % channels,
            Math.floor(at / taps / channels),
          ];
          const [dy, dx] = step(tap);
          return sumOf(n * places * places, k => {
            const [image, i, j] = [Math.floor(k / places / places), Math.floor(k / places) % places, k % places];
            const x = pixel(image, channel, i * stride + dy, j * stride + dx, size, channels, 0);
            return x * pixel(image, output, i, j, places, o, SECOND);
          });
        }
        const side = form === 'forward' ? places : size;
        const count = form === 'forward' ? o : channels;
        const [j, i] = [at % side, Math.floor(at / side) % side];
        const [plane, image] = [Math.floor(at / side / side) % count, Math.floor(at / side / side / count)];
        const others = form === 'forward' ? channels : o;
        return sumOf(others * taps, k => {
          const [tap, other] = [k % taps, Math.floor(k / taps)];
          const [dy, dx] = step(tap);
          if (form === 'forward')
            return (
              pixel(image, other, i * stride + dy, j * stride + dx, size, channels, 0) *
              weight(plane, other, tap, SECOND)
            );
          const [y0, x0] = [(i - dy) / stride, (j - dx) / stride];
          if (!Number.isInteger(y0) || !Number.isInteger(x0)) return 0;
          return pixel(image, other, y0, x0, places, o, 0) * weight(other, plane, tap, SECOND);
        });
      };
      return { all: [a, b, y], result: y, run, expected };
    },
  };
}
