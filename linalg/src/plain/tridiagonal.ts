// Householder reduction of a symmetric matrix to tridiagonal form, first step of eigh. Golub & Van Loan, Matrix
// Computations (4th ed.), §8.3.1, with one deviation: the rank-two update of a step and the matrix-vector product of
// the next are one pass over the upper triangle, which halves the memory traffic and needs no blocking.
import { makeReflector, type Reflectors } from './householder.ts';

/** a = Q T Qᵀ with T tridiagonal and Q = H₀ H₁ … H₍n₋₂₎, the `reflectors`. offDiagonal [n], of which n − 1 are used. */
type Tridiagonal = { diagonal: Float64Array; offDiagonal: Float64Array; reflectors: Reflectors };

/** The vectors of one step, all [n]: a pending update A ← A − v wᵀ − w vᵀ, and y = A u of the updated A. */
type Step = { v: Float64Array; w: Float64Array; u: Float64Array; y: Float64Array };

/** Reduces a [n, n], of which the upper triangle is read and overwritten: row k receives reflector k. */
export function tridiagonalise(n: number, a: Float64Array): Tridiagonal {
  const diagonal = new Float64Array(n);
  const offDiagonal = new Float64Array(n);
  const taus = new Float64Array(n);
  const vector = () => new Float64Array(n);
  let step: Step = { v: vector(), w: vector(), u: vector(), y: vector() };
  for (let k = 0; k < n; k++) {
    const { v, w, u, y } = step;
    const row = k * n;
    const [vk, wk] = [v[k]!, w[k]!];
    for (let j = k; j < n; j++) a[row + j]! -= vk * w[j]! + wk * v[j]!;
    diagonal[k] = a[row + k]!;
    if (k === n - 1) break;

    const { beta, tau } = makeReflector(a, row + k + 1, n - k - 1);
    offDiagonal[k] = beta;
    taus[k] = tau;
    u.set(a.subarray(row + k + 1, row + n), k + 1);
    y.fill(0, k + 1);
    updateAndMultiply(n, k + 1, a, step);

    // w = τ y − ½ τ² (uᵀy) u makes H A H = A − u wᵀ − w uᵀ.
    let dot = 0;
    for (let j = k + 1; j < n; j++) dot += u[j]! * y[j]!;
    const half = 0.5 * tau * tau * dot;
    for (let j = k + 1; j < n; j++) y[j] = tau * y[j]! - half * u[j]!;
    step = { v: u, w: y, u: v, y: w };
  }
  return { diagonal, offDiagonal, reflectors: { data: a, cols: n, shift: 1, tau: taus } };
}

/** A ← A − v wᵀ − w vᵀ and y = A u on rows and columns from `from` on, upper triangle only, four rows at a time. */
function updateAndMultiply(n: number, from: number, a: Float64Array, step: Step): void {
  const { v, w, u, y } = step;
  let i = from;
  for (; i + 4 <= n; i += 4) {
    for (let r = 0; r < 4; r++) updateRow(n, i + r, i + 4, a, step);
    const [v0, v1, v2, v3] = [v[i]!, v[i + 1]!, v[i + 2]!, v[i + 3]!];
    const [w0, w1, w2, w3] = [w[i]!, w[i + 1]!, w[i + 2]!, w[i + 3]!];
    const [u0, u1, u2, u3] = [u[i]!, u[i + 1]!, u[i + 2]!, u[i + 3]!];
    let [s0, s1, s2, s3] = [0, 0, 0, 0];
    const r0 = i * n;
    const r1 = r0 + n;
    const r2 = r1 + n;
    const r3 = r2 + n;
    for (let j = i + 4; j < n; j++) {
      const vj = v[j]!;
      const wj = w[j]!;
      const uj = u[j]!;
      const a0 = a[r0 + j]! - (v0 * wj + w0 * vj);
      const a1 = a[r1 + j]! - (v1 * wj + w1 * vj);
      const a2 = a[r2 + j]! - (v2 * wj + w2 * vj);
      const a3 = a[r3 + j]! - (v3 * wj + w3 * vj);
      a[r0 + j] = a0;
      a[r1 + j] = a1;
      a[r2 + j] = a2;
      a[r3 + j] = a3;
      s0 += a0 * uj;
      s1 += a1 * uj;
      s2 += a2 * uj;
      s3 += a3 * uj;
      y[j]! += a0 * u0 + a1 * u1 + (a2 * u2 + a3 * u3);
    }
    y[i]! += s0;
    y[i + 1]! += s1;
    y[i + 2]! += s2;
    y[i + 3]! += s3;
  }
  for (; i < n; i++) updateRow(n, i, n, a, step);
}

/** The same for the part of row i between the diagonal and column `end`. */
function updateRow(n: number, i: number, end: number, a: Float64Array, { v, w, u, y }: Step): void {
  const row = i * n;
  const [vi, wi, ui] = [v[i]!, w[i]!, u[i]!];
  let x = a[row + i]! - 2 * vi * wi;
  a[row + i] = x;
  let sum = x * ui;
  for (let j = i + 1; j < end; j++) {
    x = a[row + j]! - (vi * w[j]! + wi * v[j]!);
    a[row + j] = x;
    sum += x * u[j]!;
    y[j]! += x * ui;
  }
  y[i]! += sum;
}
