// Matrices to test with (seeded, or of a spectrum that breaks things) and ways to compare them.
import { matmul, qr } from '@otimes/linalg';
import ndarray, { type NdArray } from 'ndarray';

export type Matrix = NdArray<Float64Array>;

/** Numbers in [−½, ½) from a seed (mulberry32). */
export function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32 - 0.5;
  };
}

/** [rows, cols] filled from a rule. */
export function build(rows: number, cols: number, entry: (i: number, j: number) => number): Matrix {
  const data = new Float64Array(rows * cols);
  for (let i = 0, p = 0; i < rows; i++) for (let j = 0; j < cols; j++) data[p++] = entry(i, j);
  return ndarray(data, [rows, cols]);
}

/** Symmetric [n, n], the rule asked for i ≤ j only. */
export function symmetric(n: number, entry: (i: number, j: number) => number): Matrix {
  const a = build(n, n, (i, j) => (i <= j ? entry(i, j) : 0));
  for (let i = 0; i < n; i++) for (let j = 0; j < i; j++) a.set(i, j, a.get(j, i));
  return a;
}

export const rowOf = (values: ArrayLike<number>): NdArray<Float64Array> =>
  ndarray(Float64Array.from(values), [values.length]);

export const identity = (n: number): Matrix => build(n, n, (i, j) => (i === j ? 1 : 0));

export const toFloat32 = (a: NdArray): NdArray<Float32Array> => ndarray(Float32Array.from(entries(a)), [...a.shape]);

/** a b by the definition. */
export function product(a: NdArray, b: NdArray): Matrix {
  const inner = a.shape[1]!;
  return build(a.shape[0]!, b.shape[1]!, (i, j) => {
    let sum = 0;
    for (let k = 0; k < inner; k++) sum += a.get(i, k) * b.get(k, j);
    return sum;
  });
}

/** The entries of a vector or matrix in row-major order. */
export function entries(a: NdArray): number[] {
  const [rows = 0, cols] = a.shape;
  if (cols === undefined) return Array.from({ length: rows }, (_, i) => a.get(i));
  return Array.from({ length: rows * cols }, (_, p) => a.get(Math.floor(p / cols), p % cols));
}

export const nested = (a: NdArray): number[][] =>
  Array.from({ length: a.shape[0]! }, (_, i) => Array.from({ length: a.shape[1]! }, (_, j) => a.get(i, j)));

/** Frobenius norm, safe at any scale. */
export const norm = (a: NdArray): number => Math.hypot(...chunks(entries(a)));

// Math.hypot takes its numbers as arguments, of which there can be too many.
function chunks(values: number[]): number[] {
  const out: number[] = [];
  for (let p = 0; p < values.length; p += 1000) out.push(Math.hypot(...values.slice(p, p + 1000)));
  return out;
}

/** ‖a − b‖ in the Frobenius norm. */
export const distance = (a: NdArray, b: NdArray): number => {
  const other = entries(b);
  return Math.hypot(...chunks(entries(a).map((x, p) => x - other[p]!)));
};

/**
 * Throws unless the shapes agree and |actual − expected| ≤ tolerance · max(1, max|expected|) entry by entry; 0 asks for
 * equality. It throws, rather than asserts, so that fast-check can shrink what failed.
 */
export function expectClose(actual: NdArray, expected: NdArray, tolerance = 0): void {
  const [came, wanted] = [`[${actual.shape}]`, `[${expected.shape}]`];
  if (came !== wanted) throw new Error(`expected shape ${wanted}, got ${came}`);
  const found = entries(actual);
  const target = entries(expected);
  const bound = tolerance * target.reduce((max, x) => Math.max(max, Math.abs(x)), 1);
  for (const [p, x] of target.entries()) {
    if (Math.abs(found[p]! - x) <= bound || Object.is(found[p], x)) continue;
    throw new Error(`entry ${p} of ${came} is ${found[p]}, expected ${x} within ${bound} (ratio ${found[p]! / x})`);
  }
}

export const transpose = (a: NdArray) => a.transpose(1, 0);
/** V diag(by). */
export const scaleColumns = (v: NdArray, by: NdArray) =>
  build(v.shape[0]!, v.shape[1]!, (i, j) => v.get(i, j) * by.get(j));
/** Random symmetric [n, n]. */
export const gaussian = (n: number, seed: number) => {
  const next = random(seed);
  return symmetric(n, () => next() + next() + next());
};
/** XᵀX over r random rows: positive semidefinite, of rank r at most. */
export const gram = (n: number, r: number, seed: number) => {
  const next = random(seed);
  const x = build(r, n, next);
  return matmul(x, x, { transposeA: true });
};

/** Spectra that break eigensolvers, each a rule for a symmetric matrix [n, n]. */
export const families: Record<string, (n: number) => NdArray> = {
  random: n => gaussian(n, 1),
  identity: n => identity(n),
  zero: n => symmetric(n, () => 0),
  'rank one': n => symmetric(n, () => 1),
  'low rank with dead inputs': n => {
    const x = gram(n, 10, 4);
    return symmetric(n, (i, j) => (i % 3 && j % 3 ? x.get(i, j) : 0));
  },
  'repeated diagonal': n => symmetric(n, (i, j) => (i === j ? i % 7 : 0)),
  'repeated, rotated': n => {
    const q = qr(gaussian(n, 2)).q;
    const a = matmul(scaleColumns(q, rowOf(Array.from({ length: n }, (_, i) => i % 3))), q, { transposeB: true });
    return symmetric(n, (i, j) => a.get(i, j));
  },
  Wilkinson: n => symmetric(n, (i, j) => (i === j ? Math.abs(i - (n - 1) / 2) : j - i === 1 ? 1 : 0)),
  'glued Wilkinson': n =>
    symmetric(n, (i, j) => (i === j ? Math.abs((i % 21) - 10) : j - i > 1 ? 0 : i % 21 === 20 ? 1e-8 : 1)),
  'second difference': n => symmetric(n, (i, j) => (i === j ? 2 : j - i === 1 ? -1 : 0)),
  'zero diagonal': n => symmetric(n, (i, j) => (j - i === 1 ? 1 : 0)),
  'anti-diagonal': n => symmetric(n, (i, j) => (i + j === n - 1 ? 1 : 0)),
  arrow: n => symmetric(n, (i, j) => (i === j ? i : i === 0 ? 1 : 0)),
  Hilbert: n => symmetric(n, (i, j) => 1 / (i + j + 1)),
  'graded down to 1e-20': n => symmetric(n, (i, j) => 10 ** ((-10 * (i + j)) / n) * (i === j ? 2 : 1)),
  'graded up from 1e-20': n => symmetric(n, (i, j) => 10 ** ((-10 * (2 * n - i - j)) / n) * (i === j ? 2 : 1)),
  'nearly the identity': n => symmetric(n, (i, j) => (i === j ? 1 : 1e-10 / (1 + j - i))),
};
/** More of them, which overflow or underflow in float32. */
export const wideFamilies: typeof families = {
  'scale 1e150': n => symmetric(n, (i, j) => (i === j ? 1e150 * (i + 1) : 1e148)),
  'scale 1e-150': n => symmetric(n, (i, j) => (i === j ? 1e-150 * (i + 1) : 1e-152)),
  'scale 1e300': n => symmetric(n, (i, j) => 1e300 / (1 + j - i)),
  'random, graded down to 1e-300': n => {
    const next = random(11);
    return symmetric(n, (i, j) => 10 ** ((-150 * (i + j)) / n) * next());
  },
  'random, graded up from 1e-300': n => {
    const next = random(1);
    return symmetric(n, (i, j) => 10 ** ((-150 * (2 * n - i - j)) / n) * next());
  },
  'one large row, the rest 1e-160': n => symmetric(n, (i, j) => (i === 0 ? 1 / (1 + j) : 1e-160 * (i + j))),
};
/** The same for float32. */
export const narrowFamilies: typeof families = {
  'scale 1e20': n => symmetric(n, (i, j) => (i === j ? 1e20 * (2 + i / n) : 1e20 / (1 + j - i))),
  'scale 1e-20': n => symmetric(n, (i, j) => (i === j ? 1e-20 * (2 + i / n) : 1e-20 / (1 + j - i))),
};
