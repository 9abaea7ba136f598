// Eigenvalues and eigenvectors of D + ρ z zᵀ, D diagonal: the heart of a merge in divide and conquer. Roots of the
// secular equation by Li's middle way (LAPACK Working Note 89, 1993), eigenvectors by Gu & Eisenstat, "A stable and
// efficient algorithm for the rank-one modification of the symmetric eigenproblem" (1994), which makes them orthogonal
// to working precision however close the roots are. Always in float64; only the eigenvectors are rounded to T.
import { bytes, get, put, sumLanes } from './rows';

const EPS: f64 = 1.1102230246251565e-16;
const MAX_STEPS: i32 = 200;
/** Interpolation converges in three to five steps; after this many every second step is a bisection. */
const BISECT_AFTER: i32 = 12;

/** What `terms` found: Σ z²/(pole − λ) and its derivative. */
let sum: f64 = 0;
let slope: f64 = 0;

/** `sum` and `slope` over `count` poles, λ = origin + μ; fills the distances pole − λ. */
function terms(count: i32, origin: f64, mu: f64, poles: usize, squares: usize, distances: usize): void {
  const o = f64x2.splat(origin);
  const m = f64x2.splat(mu);
  const one = f64x2.splat(1);
  let s = f64x2.splat(0);
  let t = f64x2.splat(0);
  for (; count >= 2; count -= 2) {
    const distance = f64x2.sub(f64x2.sub(v128.load(poles), o), m);
    v128.store(distances, distance);
    const reciprocal = f64x2.div(one, distance);
    const term = f64x2.mul(v128.load(squares), reciprocal);
    s = f64x2.add(s, term);
    t = f64x2.add(t, f64x2.mul(term, reciprocal));
    poles += 16;
    squares += 16;
    distances += 16;
  }
  sum = sumLanes<f64>(s);
  slope = sumLanes<f64>(t);
  if (count == 0) return;
  const distance = load<f64>(poles) - origin - mu;
  store<f64>(distances, distance);
  const reciprocal = 1 / distance;
  const term = load<f64>(squares) * reciprocal;
  sum += term;
  slope += term * reciprocal;
}

/**
 * Root i of f(λ) = 1/ρ + Σ z²ⱼ / (poleⱼ − λ), between pole i and the next. Sought as an offset μ from the nearer of the
 * two, so that `distances`, poles − root, come out without cancellation. NaN where it does not converge.
 */
function findRoot(k: i32, i: i32, poles: usize, squares: usize, rhoInverse: f64, distances: usize): f64 {
  const last = i == k - 1;
  let gap: f64 = 0;
  if (last) {
    for (let j = 0; j < k; j++) gap += get<f64>(squares, j);
    gap /= rhoInverse;
  } else gap = get<f64>(poles, i + 1) - get<f64>(poles, i);
  const middle = 0.5 * gap;
  terms(k, get<f64>(poles, i), middle, poles, squares, distances);
  let f = rhoInverse + sum;
  // f rises from −∞ to +∞ (to 1/ρ past the last pole), so its sign in the middle tells the half.
  const upper = f < 0;
  const origin = get<f64>(poles, upper && !last ? i + 1 : i);
  let low: f64 = upper ? (last ? middle : -middle) : 0;
  let high: f64 = upper ? (last ? gap : 0) : middle;
  let mu = upper && !last ? -middle : middle;
  if (!last) {
    // dlaed4's first guess: the two poles as they are, the others as in the middle. c μ² − p μ + q = 0.
    const zi = get<f64>(squares, i);
    const zj = get<f64>(squares, i + 1);
    const c = f + (zi - zj) / middle;
    const p = (upper ? -c * gap : c * gap) + zi + zj;
    const q = upper ? -zj * gap : zi * gap;
    const root = sqrt<f64>(abs(p * p - 4 * q * c));
    const guess = (upper ? p < 0 : p <= 0) ? (p - root) / (2 * c) : (2 * q) / (p + root);
    if (guess > low && guess < high) mu = guess;
  }

  // Poles up to `split` and those after it are modelled by one rational term each.
  const split = last ? i - 1 : i;
  const rest = bytes<f64>(split + 1);
  for (let step = 0; step < MAX_STEPS; step++) {
    terms(split + 1, origin, mu, poles, squares, distances);
    const left = sum;
    const leftSlope = slope;
    terms(k - split - 1, origin, mu, poles + rest, squares + rest, distances + rest);
    const steepness = leftSlope + slope;
    f = rhoInverse + left + sum;
    const rounding = 8 * (sum - left) + rhoInverse + abs(mu) * steepness;
    if (abs(f) <= EPS * rounding) return origin + mu;
    if (f < 0) low = mu;
    else high = mu;

    // The root of c + s/(a − η) + t/(b − η) that matches f and both slopes (dlaed4); Newton's step where it fails.
    const a = get<f64>(distances, split);
    const b = get<f64>(distances, split + 1);
    const p = (a + b) * f - a * b * steepness;
    const q = a * b * f;
    const c = f - a * leftSlope - b * slope;
    const root = sqrt<f64>(abs(p * p - 4 * q * c));
    const signed = last ? root : -root;
    const eta = (last ? p >= 0 : p <= 0) ? (p + signed) / (2 * c) : (2 * q) / (p - signed);
    let next = mu + (f * eta < 0 ? eta : -f / steepness);
    if (!(next > low && next < high) || (step > BISECT_AFTER && (step & 1) == 0)) next = 0.5 * (low + high);
    if (next == mu || high - low <= 2 * EPS * max(abs(low), abs(high))) return origin + mu;
    mu = next;
  }
  return NaN;
}

/**
 * poles [k] strictly ascending, z [k] without zeros, rho > 0; squares and row are work [k]. Ascending eigenvalues into
 * roots [k], eigenvectors of T into the rows of `vectors` [k, k], which is work [k, k] of float64 before: the component
 * along pole j stands in column position[j]. False where it does not converge.
 */
export function solveSecular<T>(
  k: i32, poles: usize, z: usize, rho: f64, position: usize, roots: usize, vectors: usize, squares: usize, row: usize,
): bool {
  for (let j = 0; j < k; j++) put<f64>(squares, j, get<f64>(z, j) * get<f64>(z, j));
  if (k == 1) {
    put<f64>(roots, 0, get<f64>(poles, 0) + rho * get<f64>(squares, 0));
    store<T>(vectors, <T>1);
    return true;
  }
  for (let i = 0; i < k; i++) {
    const root = findRoot(k, i, poles, squares, 1 / rho, vectors + bytes<f64>(i) * k);
    if (root != root) return false;
    put<f64>(roots, i, root);
  }
  // The vector near z for which the computed roots are exact (Gu & Eisenstat, equation 3.3).
  const nearby = squares;
  for (let j = 0; j < k; j++) put<f64>(nearby, j, get<f64>(vectors + bytes<f64>(j) * k, j));
  for (let i = 0; i < k; i++) {
    const distances = vectors + bytes<f64>(i) * k;
    const pole = f64x2.splat(get<f64>(poles, i));
    const own = get<f64>(nearby, i);
    let j = 0;
    for (; j + 2 <= k; j += 2) {
      const at = bytes<f64>(j);
      const ratio = f64x2.div(v128.load(distances + at), f64x2.sub(v128.load(poles + at), pole));
      v128.store(nearby + at, f64x2.mul(v128.load(nearby + at), ratio));
    }
    if (j < k)
      put<f64>(nearby, j, get<f64>(nearby, j) * (get<f64>(distances, j) / (get<f64>(poles, j) - get<f64>(poles, i))));
    put<f64>(nearby, i, own);
  }
  for (let j = 0; j < k; j++) put<f64>(nearby, j, copysign<f64>(sqrt<f64>(abs(get<f64>(nearby, j))), get<f64>(z, j)));

  for (let i = 0; i < k; i++) {
    const distances = vectors + bytes<f64>(i) * k;
    // NOTE: with T = f32 row i ends before the distances of row i + 1 begin, so writing over them is safe.
    const to = vectors + bytes<T>(i) * k;
    let norm = f64x2.splat(0);
    let j = 0;
    for (; j + 2 <= k; j += 2) {
      const x = f64x2.div(v128.load(nearby + bytes<f64>(j)), v128.load(distances + bytes<f64>(j)));
      v128.store(row + bytes<f64>(j), x);
      norm = f64x2.add(norm, f64x2.mul(x, x));
    }
    let squared = sumLanes<f64>(norm);
    if (j < k) {
      const x = get<f64>(nearby, j) / get<f64>(distances, j);
      put<f64>(row, j, x);
      squared += x * x;
    }
    const by = 1 / sqrt<f64>(squared);
    for (j = 0; j < k; j++) put<T>(to, get<i32>(position, j), <T>(get<f64>(row, j) * by));
  }
  return true;
}
