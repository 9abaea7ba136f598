// Householder reflectors H = I − τ v vᵀ with v₀ = 1, stored one a row, and their blocked application. Shared by qr and
// eigh. Golub & Van Loan, Matrix Computations (4th ed.), §5.1; compact WY: Schreiber & Van Loan (1989), §5.1.7.
import { block, gemm, transposed } from '../gemm.ts';

/** Reflectors applied at once. */
const NB = 32;

/**
 * Squares below this have lost digits to underflow, and a reflector made of them would not be orthogonal. Inputs are
 * scaled to max|a| ≈ 1, so a vector whose square is smaller may as well be zero.
 */
const TINY = 1e-270;

/**
 * Turns x = data[at … at+length) into v, so that H x = (β, 0, …, 0). β has the sign opposite to x₀, which avoids
 * cancellation; where nothing is to be done, τ = 0 and β = x₀.
 */
export function makeReflector(data: Float64Array, at: number, length: number): { beta: number; tau: number } {
  const alpha = data[at]!;
  let squares = 0;
  for (let p = at + 1; p < at + length; p++) squares += data[p]! * data[p]!;
  data[at] = 1;
  if (squares + alpha * alpha < TINY || squares === 0) {
    data.fill(0, at + 1, at + length);
    return { beta: squares === 0 ? alpha : 0, tau: 0 };
  }
  const beta = alpha > 0 ? -Math.sqrt(alpha * alpha + squares) : Math.sqrt(alpha * alpha + squares);
  for (let p = at + 1; p < at + length; p++) data[p]! /= alpha - beta;
  return { beta, tau: (beta - alpha) / beta };
}

/** Reflector i lies in row i of `data` [·, cols], from column i + shift on. tau [count]. */
export type Reflectors = {
  readonly data: Float64Array;
  readonly cols: number;
  readonly shift: number;
  readonly tau: Float64Array;
};

/**
 * z [rows, cols] ← z H₍to₋₁₎ … H₍from₎ (`order` 'descending') or z H₍from₎ … H₍to₋₁₎ ('ascending'): rows of z are
 * vectors, so the two are H₍from₎ … H₍to₋₁₎ and its transpose applied to each. Starts at row `first` of z.
 */
export function applyReflectors(
  h: Reflectors,
  from: number,
  to: number,
  z: Float64Array,
  first: number,
  rows: number,
  order: 'ascending' | 'descending',
): void {
  const blocks = Math.ceil((to - from) / NB);
  for (let b = 0; b < blocks; b++) {
    const p = from + NB * (order === 'ascending' ? b : blocks - 1 - b);
    applyBlock(h, p, Math.min(NB, to - p), z, first, rows, order);
  }
}

/** z ← z − (z Vᵀ) W where V [nb, m] has the reflectors as rows and W = T V (ascending) or Tᵀ V (descending). */
function applyBlock(
  { data, cols, shift, tau }: Reflectors,
  p: number,
  nb: number,
  z: Float64Array,
  first: number,
  rows: number,
  order: 'ascending' | 'descending',
): void {
  const start = p + shift;
  const m = cols - start;
  const v = new Float64Array(nb * m);
  for (let i = 0; i < nb; i++) {
    const row = (p + i) * cols;
    v.set(data.subarray(row + start + i, row + cols), i * m + i);
  }
  const V = block(v, 0, m);
  const t = triangle(nb, m, v, tau.subarray(p, p + nb));
  const T = block(t, 0, nb);
  const w = new Float64Array(nb * m);
  gemm(nb, m, nb, 1, order === 'ascending' ? T : transposed(T), V, block(w, 0, m));
  const y = new Float64Array(rows * nb);
  const Z = block(z, first * cols + start, cols);
  gemm(rows, nb, m, 1, Z, transposed(V), block(y, 0, nb));
  gemm(rows, m, nb, -1, block(y, 0, nb), block(w, 0, m), Z);
}

/** Upper triangular T [nb, nb] of the compact WY form: H₀ H₁ … = I − Vᵀ T V. */
function triangle(nb: number, m: number, v: Float64Array, tau: Float64Array): Float64Array {
  const gram = new Float64Array(nb * nb);
  gemm(nb, nb, m, 1, block(v, 0, m), block(v, 0, 1, m), block(gram, 0, nb));
  const t = new Float64Array(nb * nb);
  for (let j = 0; j < nb; j++) {
    for (let i = 0; i < j; i++) {
      let sum = 0;
      for (let l = i; l < j; l++) sum += t[i * nb + l]! * gram[l * nb + j]!;
      t[i * nb + j] = -tau[j]! * sum;
    }
    t[j * nb + j] = tau[j]!;
  }
  return t;
}
