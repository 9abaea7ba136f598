/**
 * What does an element cost? Nanoseconds an element of the kernels of @otimes/kernels that are no matrix products, in both
 * variants, next to plain loops over typed arrays: float32, one thread, interleaved, medians of CPU time. Each result is
 * compared with that of the loop first.
 *
 *   npm run bench bench/elementwise.ts
 *   npm run bench bench/elementwise.ts -- --only exp,softmax
 */

import { parseArgs } from 'node:util';
import { createKernels, type Exports, type Kernels, normalize, type PartExports, variants } from '@otimes/kernels';
import { interleave } from './timing.ts';

const { values: options } = parseArgs({ options: { only: { type: 'string' } } });
const SIZES = [64, 4096, 1_000_000];
/** Columns where a kernel works on rows. */
const COLS = 64;

/** Operands: a, b, a result, and two that are written as well. */
type Arrays = readonly [Float32Array, Float32Array, Float32Array, Float32Array, Float32Array];
type Case = {
  js: (n: number, ...x: Arrays) => void;
  wasm: (e: Exports & PartExports['normalize'], n: number, ...x: readonly number[]) => void;
};

const map =
  (f: (x: number) => number): Case['js'] =>
  (n, a, _, c) => {
    for (let i = 0; i < n; i++) c[i] = f(a[i]!);
  };

const CASES: Readonly<Record<string, Case>> = {
  add: {
    js(n, a, b, c) {
      for (let i = 0; i < n; i++) c[i] = a[i]! + b[i]!;
    },
    wasm: (e, n, a, b, c) => e.add_f32(1, n, a!, 0, 1, b!, 0, 1, c!),
  },
  'add a row': {
    js(n, a, b, c) {
      for (let i = 0; i < n; i += COLS) for (let j = 0; j < COLS; j++) c[i + j] = a[i + j]! + b[j]!;
    },
    wasm: (e, n, a, b, c) => e.add_f32(n / COLS, COLS, a!, COLS, 1, b!, 0, 1, c!),
  },
  'greater than 0': {
    js(n, a, _, c) {
      for (let i = 0; i < n; i++) c[i] = a[i]! > 0 ? 1 : 0;
    },
    wasm: (e, n, a, b, c) => e.gt_f32(1, n, a!, 0, 1, b!, 0, 0, c!),
  },
  relu: {
    js(n, a, _, c) {
      for (let i = 0; i < n; i++) c[i] = Math.max(a[i]!, 0);
    },
    wasm: (e, n, a, _, c) => e.relu_f32(n, a!, c!),
  },
  'relu backward': {
    js(n, a, b, c) {
      for (let i = 0; i < n; i++) c[i] = a[i]! > 0 ? b[i]! : 0;
    },
    wasm: (e, n, a, b, c) => e.reluBackward_f32(n, b!, a!, c!),
  },
  exp: { js: map(Math.exp), wasm: (e, n, a, _, c) => e.exp_f32(n, a!, c!) },
  log1p: { js: map(x => Math.log1p(x * x)), wasm: (e, n, a, _, c) => logOfSquare(e, n, a!, c!) },
  sin: { js: map(Math.sin), wasm: (e, n, a, _, c) => e.sin_f32(n, a!, c!) },
  tanh: { js: map(Math.tanh), wasm: (e, n, a, _, c) => e.tanh_f32(n, a!, c!) },
  sigmoid: { js: map(x => 1 / (1 + Math.exp(-x))), wasm: (e, n, a, _, c) => e.sigmoid_f32(n, a!, c!) },
  'gelu, tanh form': {
    js: map(x => 0.5 * x * (1 + Math.tanh(0.7978845608 * (x + 0.044715 * x * x * x)))),
    wasm: (e, n, a, _, c) => e.geluTanh_f32(n, a!, c!),
  },
  'power 1.5': {
    js: map(x => Math.abs(x) ** 1.5),
    wasm(e, n, a, b, c) {
      e.abs_f32(n, a!, c!);
      e.fill_f32(1, 1.5, b!);
      e.pow_f32(1, n, c!, 0, 1, b!, 0, 0, c!);
    },
  },
  sum: {
    js(n, a, _, c) {
      let sum = 0;
      for (let i = 0; i < n; i++) sum += a[i]!;
      c[0] = sum;
    },
    wasm: (e, n, a, _, c) => e.sum_f32(1, n, 1, a!, c!),
  },
  'sum of columns': {
    js(n, a, _, c) {
      const sums = new Float64Array(COLS);
      for (let i = 0; i < n; i += COLS) for (let j = 0; j < COLS; j++) sums[j]! += a[i + j]!;
      c.set(sums);
    },
    wasm: (e, n, a, _, c) => e.sum_f32(1, n / COLS, COLS, a!, c!),
  },
  max: {
    js(n, a, _, c) {
      let max = -Infinity;
      for (let i = 0; i < n; i++) max = Math.max(max, a[i]!);
      c[0] = max;
    },
    wasm: (e, n, a, _, c) => e.max_f32(1, n, 1, a!, c!),
  },
  softmax: {
    js(n, a, _, c) {
      for (let i = 0; i < n; i += COLS) {
        let max = -Infinity;
        for (let j = 0; j < COLS; j++) max = Math.max(max, a[i + j]!);
        let sum = 0;
        for (let j = 0; j < COLS; j++) sum += c[i + j] = Math.exp(a[i + j]! - max);
        for (let j = 0; j < COLS; j++) c[i + j]! /= sum;
      }
    },
    wasm: (e, n, a, _, c) => e.softmax_f32(n / COLS, COLS, a!, c!),
  },
  'layer norm': {
    js(n, a, _, c) {
      for (let i = 0; i < n; i += COLS) {
        let [mean, variance] = [0, 0];
        for (let j = 0; j < COLS; j++) mean += a[i + j]! / COLS;
        for (let j = 0; j < COLS; j++) variance += (a[i + j]! - mean) ** 2 / COLS;
        const scale = 1 / Math.sqrt(variance + 1e-5);
        for (let j = 0; j < COLS; j++) c[i + j] = (a[i + j]! - mean) * scale;
      }
    },
    wasm: (e, n, a, _, c, d, f) => e.layerNorm_f32(n / COLS, COLS, a!, 0, 0, 1e-5, c!, d!, f!),
  },
  "Adam's moments": {
    js(n, a, _, c, m, v) {
      for (let i = 0; i < n; i++) {
        const g = a[i]!;
        m[i] = 0.9 * m[i]! + 0.1 * g;
        v[i] = 0.999 * v[i]! + 0.001 * g * g;
        c[i] = m[i]! / 0.5 / (Math.sqrt(v[i]! / 0.5) + 1e-8);
      }
    },
    wasm: (e, n, a, _, c, m, v) => e.moments_f32(n, m!, v!, a!, 0, 0.9, 0.999, 1e-8, 0.5, 0.5, c!),
  },
  'y + 0 · x': {
    js(n, a, _, c) {
      for (let i = 0; i < n; i++) c[i]! += 0 * a[i]!;
    },
    wasm: (e, n, a, _, c) => e.addScaled_f32(1, n, c!, 0, 1, a!, 0, 1, 0, 1),
  },
  transpose: {
    js(n, a, _, c) {
      for (let i = 0; i < n / COLS; i++) for (let j = 0; j < COLS; j++) c[(j * n) / COLS + i] = a[i * COLS + j]!;
    },
    wasm: (e, n, a, _, c) => e.copy_f32_f32(COLS, n / COLS, a!, 1, COLS, c!, n / COLS, 1),
  },
};

function logOfSquare(e: Exports, n: number, a: number, c: number): void {
  e.square_f32(n, a, c);
  e.log1p_f32(n, c, c);
}

/** Numbers in [−4, 4); the second operand starts with 0. */
function fill(arrays: Arrays): void {
  let state = 1;
  for (const x of arrays)
    for (let i = 0; i < x.length; i++) {
      state = (Math.imul(state, 1664525) + 1013904223) | 0;
      x[i] = state / 2 ** 29;
    }
  arrays[1][0] = 0;
  for (let i = 0; i < arrays[4].length; i++) arrays[4][i] = Math.abs(arrays[4][i]!);
}

const all: readonly { name: string; kernels: Kernels; block: number }[] = variants().map(name => {
  const kernels = createKernels({ variant: name, memory: { initial: 2 ** 26 } })!;
  return { name, kernels, block: kernels.heap.pool.alloc(5 * 4 * SIZES.at(-1)!) };
});

function checkResult(name: string, c: Float32Array, expected: Float32Array): void {
  const bytes = name.startsWith('greater');
  const length = name.startsWith('sum of') ? COLS : name === 'sum' || name === 'max' ? 1 : c.length;
  const result = bytes ? new Uint8Array(c.buffer, c.byteOffset, length) : c;
  for (let i = 0; i < length; i++)
    if (!(Math.abs(result[i]! - expected[i]!) <= 1e-5 * (1 + Math.abs(expected[i]!))))
      throw new Error(`${name}: ${result[i]} at ${i}, expected ${expected[i]}`);
}

function row(name: string, { js, wasm }: Case): Record<string, string> {
  const cells: [string, string][] = [];
  for (const size of SIZES) {
    const n = size - (size % COLS);
    const array = () => new Float32Array(n);
    const plain: Arrays = [array(), array(), array(), array(), array()];
    fill(plain);
    const start = plain.map(x => x.slice());
    js(n, ...plain);
    const contenders = [() => js(n, ...plain)];
    for (const { kernels, block } of all) {
      const at = plain.map((_, i) => block + 4 * n * i);
      const views = at.map(p => kernels.memory.f32.subarray(p / 4, p / 4 + n));
      for (const [i, view] of views.entries()) view.set(start[i]!);
      const exports = kernels.load(normalize);
      wasm(exports, n, ...at);
      checkResult(name, views[2]!, plain[2]);
      const [a, b, c, d, e] = at as [number, number, number, number, number];
      contenders.push(() => wasm(exports, n, a, b, c, d, e));
    }
    const seconds = interleave(contenders);
    const nanoseconds = seconds.map(s => ((s / n) * 1e9).toPrecision(2));
    for (const [i, label] of ['JS', ...all.map(v => v.name)].entries())
      cells.push([`${label} ${size}`, nanoseconds[i]!]);
  }
  return Object.fromEntries(cells);
}

const chosen = options.only?.split(',');
const cases = Object.entries(CASES).filter(([name]) => chosen === undefined || chosen.includes(name));
console.log('ns an element');
console.table(Object.fromEntries(cases.map(([name, one]) => [name, row(name, one)])));
