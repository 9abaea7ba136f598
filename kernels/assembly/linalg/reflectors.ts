// Householder reflectors H = I − τ v vᵀ with v₀ = 1, stored one a row, and their blocked application. Golub & Van Loan,
// Matrix Computations (4th ed.), §5.1; compact WY: Schreiber & Van Loan (1989), §5.1.7.
import { gemm } from './products';
import { bytes, dot, get, put, scale } from './rows';

/**
 * Squares below this have lost digits to underflow, and a reflector made of them would not be orthogonal. Inputs are
 * scaled to max|a| ≈ 1, so a vector whose square is smaller may as well be zero.
 */
// @ts-ignore: decorator
@inline
function tiny<T>(): T {
  return <T>(sizeof<T>() == 4 ? 1e-30 : 1e-270);
}

/**
 * Turns x [n] into v, so that H x = (β, 0, …, 0), and stores β and τ. β has the sign opposite to x₀, which avoids
 * cancellation; where nothing is to be done, τ = 0 and β = x₀.
 */
export function makeReflector<T>(n: i32, x: usize, betaAt: usize, tauAt: usize): void {
  const alpha = load<T>(x);
  const rest = x + sizeof<T>();
  const squares = dot<T>(n - 1, rest, rest);
  store<T>(x, <T>1);
  if (squares == <T>0 || squares + alpha * alpha < tiny<T>()) {
    memory.fill(rest, 0, bytes<T>(n - 1));
    store<T>(betaAt, squares == <T>0 ? alpha : <T>0);
    store<T>(tauAt, <T>0);
    return;
  }
  const length = sqrt<T>(alpha * alpha + squares);
  const beta = alpha > <T>0 ? -length : length;
  scale<T>(n - 1, <T>1 / (alpha - beta), rest);
  store<T>(betaAt, beta);
  store<T>(tauAt, (beta - alpha) / beta);
}

/** Reflectors applied at once to vectors of n elements: few where there are few, as they cost each other nb² n. */
export function blockSize(n: i32): i32 {
  return n <= 160 ? 16 : n <= 512 ? 32 : 48;
}

/** Elements of work that `applyReflectors` needs for up to `most` reflectors of `rows` vectors of n elements. */
export function applyWork(most: i32, rows: i32, n: i32): f64 {
  const nb = <f64>min(most, blockSize(n));
  return nb * (2 * <f64>n + <f64>rows + 2 * nb);
}

/**
 * z [rows, n] ← z H₍to₋₁₎ … H₍from₎ (`descending`) or z H₍from₎ … H₍to₋₁₎: rows of z are vectors, so the two are
 * H₍from₎ … H₍to₋₁₎ and its transpose applied to each. Reflector i lies in row i of h [·, n] from column i + shift on.
 * `skip`: row i of z is known to be zero from column i + 1 on, as in the identity.
 */
export function applyReflectors<T>(
  h: usize, n: i32, shift: i32, tau: usize, from: i32, to: i32, z: usize, rows: i32, descending: bool, skip: bool, work: usize,
): void {
  const nb = blockSize(n);
  const blocks = (to - from + nb - 1) / nb;
  for (let b = 0; b < blocks; b++) {
    const p = from + nb * (descending ? blocks - 1 - b : b);
    const first = skip ? p : 0;
    applyBlock<T>(h, n, shift, tau, p, min(nb, to - p), z + bytes<T>(first) * n, rows - first, descending, work);
  }
}

/** z ← z − (z Vᵀ) W where V [nb, m] has the reflectors as rows and W = T V (ascending) or Tᵀ V (descending). */
function applyBlock<T>(
  h: usize, n: i32, shift: i32, tau: usize, p: i32, nb: i32, z: usize, rows: i32, descending: bool, work: usize,
): void {
  const start = p + shift;
  const m = n - start;
  const row = bytes<T>(m);
  const v = work;
  const w = v + <usize>nb * row;
  const y = w + <usize>nb * row;
  const gram = y + bytes<T>(rows) * nb;
  const t = gram + bytes<T>(nb) * nb;
  for (let i = 0; i < nb; i++) {
    const to = v + <usize>i * row;
    memory.fill(to, 0, bytes<T>(i));
    memory.copy(to + bytes<T>(i), h + bytes<T>(p + i) * n + bytes<T>(start + i), row - bytes<T>(i));
  }
  gemm<T>(nb, nb, m, v, m, 1, v, 1, m, gram, nb, false);
  minusTriangle<T>(nb, gram, tau + bytes<T>(p), t);
  gemm<T>(nb, m, nb, t, descending ? 1 : nb, descending ? nb : 1, v, m, 1, w, m, false);
  const at = z + bytes<T>(start);
  gemm<T>(rows, nb, m, at, n, 1, v, 1, m, y, nb, false);
  gemm<T>(rows, m, nb, y, nb, 1, w, m, 1, at, n, true);
}

/** −T for the upper triangular T [nb, nb] of the compact WY form H₀ H₁ … = I − Vᵀ T V, from gram = V Vᵀ. */
function minusTriangle<T>(nb: i32, gram: usize, tau: usize, t: usize): void {
  memory.fill(t, 0, bytes<T>(nb) * nb);
  for (let i = 0; i < nb; i++) {
    const row = t + bytes<T>(i) * nb;
    put<T>(row, i, -get<T>(tau, i));
    for (let j = i + 1; j < nb; j++)
      put<T>(row, j, -get<T>(tau, j) * dot<T>(j - i, row + bytes<T>(i), gram + bytes<T>(j) * nb + bytes<T>(i)));
  }
}
