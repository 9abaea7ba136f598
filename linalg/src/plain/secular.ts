// Eigenvalues and eigenvectors of D + ρ z zᵀ, D diagonal: the heart of a merge in divide and conquer. Roots of the
// secular equation by Li's middle way (LAPACK Working Note 89, 1993), eigenvectors by Gu & Eisenstat, "A stable and
// efficient algorithm for the rank-one modification of the symmetric eigenproblem" (1994), which makes them orthogonal
// to working precision however close the roots are.
import { EPS } from './ql.ts';

const MAX_STEPS = 200;
/** Interpolation converges in three to five steps; after this many every second step is a bisection. */
const BISECT_AFTER = 12;

/**
 * poles [k] strictly ascending, z [k] without zeros, rho > 0. Returns the ascending eigenvalues and fills the first k²
 * of `vectors`, row i with eigenvector i: its component along pole j stands in column position[j].
 */
export function solveSecular(
  poles: Float64Array,
  z: Float64Array,
  rho: number,
  position: Int32Array,
  vectors: Float64Array,
): Float64Array {
  const k = poles.length;
  const squares = z.map(x => x * x);
  const roots = new Float64Array(k);
  if (k === 1) {
    vectors[0] = 1;
    roots[0] = poles[0]! + rho * squares[0]!;
    return roots;
  }
  // Row i holds poles − roots[i] for now.
  for (let i = 0; i < k; i++) roots[i] = findRoot(i, poles, squares, 1 / rho, vectors.subarray(i * k, (i + 1) * k));

  const nearby = nearbyVector(poles, z, vectors);
  const row = new Float64Array(k);
  for (let i = 0; i < k; i++) {
    let norm = 0;
    for (let j = 0; j < k; j++) {
      const x = nearby[j]! / vectors[i * k + j]!;
      row[position[j]!] = x;
      norm += x * x;
    }
    norm = Math.sqrt(norm);
    for (let j = 0; j < k; j++) vectors[i * k + j] = row[j]! / norm;
  }
  return roots;
}

/** The vector, up to a factor, near z for which the computed roots are exact (Gu & Eisenstat, equation 3.3). */
function nearbyVector(poles: Float64Array, z: Float64Array, distances: Float64Array): Float64Array {
  const k = poles.length;
  const product = new Float64Array(k);
  for (let j = 0; j < k; j++) product[j] = distances[j * k + j]!;
  for (let i = 0; i < k; i++) {
    const pole = poles[i]!;
    for (let j = 0; j < i; j++) product[j]! *= distances[i * k + j]! / (poles[j]! - pole);
    for (let j = i + 1; j < k; j++) product[j]! *= distances[i * k + j]! / (poles[j]! - pole);
  }
  return product.map((x, j) => Math.sign(z[j]!) * Math.sqrt(Math.abs(x)));
}

/**
 * Root i of f(λ) = 1/ρ + Σ z²ⱼ / (poleⱼ − λ), between pole i and the next. Sought as an offset μ from the nearer of the
 * two, so that `distances`, poles − root, come out without cancellation.
 */
function findRoot(
  i: number,
  poles: Float64Array,
  squares: Float64Array,
  rhoInverse: number,
  distances: Float64Array,
): number {
  const last = i === poles.length - 1;
  const gap = last ? squares.reduce((sum, x) => sum + x, 0) / rhoInverse : poles[i + 1]! - poles[i]!;
  const middle = 0.5 * gap;
  let f = rhoInverse;
  for (let j = 0; j < poles.length; j++) f += squares[j]! / (poles[j]! - poles[i]! - middle);
  // f rises from −∞ to +∞ (to 1/ρ past the last pole), so its sign in the middle tells the half.
  const upper = f < 0;
  const nearer = upper && !last ? i + 1 : i;
  const origin = poles[nearer]!;
  let low = upper ? (last ? middle : -middle) : 0;
  let high = upper ? (last ? gap : 0) : middle;
  let mu = upper && !last ? -middle : middle;

  // Poles up to `split` and those after it are modelled by one rational term each.
  const split = last ? i - 1 : i;
  for (let step = 0; step < MAX_STEPS; step++) {
    const left = terms(0, split + 1, origin, mu, poles, squares, distances);
    const right = terms(split + 1, poles.length, origin, mu, poles, squares, distances);
    const slope = left.slope + right.slope;
    f = rhoInverse + left.sum + right.sum;
    const rounding = 8 * (right.sum - left.sum) + rhoInverse + Math.abs(mu) * slope;
    if (Math.abs(f) <= EPS * rounding) return origin + mu;
    if (f < 0) low = mu;
    else high = mu;

    let next = mu + interpolate(f, slope, left.slope, right.slope, distances[split]!, distances[split + 1]!, last);
    if (!(next > low && next < high) || (step > BISECT_AFTER && step % 2 === 0)) next = 0.5 * (low + high);
    if (next === mu || high - low <= 2 * EPS * Math.max(Math.abs(low), Math.abs(high))) return origin + mu;
    mu = next;
  }
  throw new Error(`eigh: the secular equation did not converge in ${MAX_STEPS} steps`);
}

/** Σ z²/(pole − λ) and its derivative over poles from … to−1, λ = origin + μ; fills their distances. */
function terms(
  from: number,
  to: number,
  origin: number,
  mu: number,
  poles: Float64Array,
  squares: Float64Array,
  distances: Float64Array,
): { sum: number; slope: number } {
  let sum = 0;
  let slope = 0;
  for (let j = from; j < to; j++) {
    const distance = poles[j]! - origin - mu;
    distances[j] = distance;
    const reciprocal = 1 / distance;
    const term = squares[j]! * reciprocal;
    sum += term;
    slope += term * reciprocal;
  }
  return { sum, slope };
}

/** Step to the root of c + s/(a − η) + t/(b − η) that matches f and both slopes (dlaed4); Newton where it fails. */
function interpolate(
  f: number,
  slope: number,
  left: number,
  right: number,
  a: number,
  b: number,
  last: boolean,
): number {
  const p = (a + b) * f - a * b * slope;
  const q = a * b * f;
  const c = f - a * left - b * right;
  const root = Math.sqrt(Math.abs(p * p - 4 * q * c));
  const stable = last ? p >= 0 : p <= 0;
  const signed = last ? root : -root;
  const eta = stable ? (p + signed) / (2 * c) : (2 * q) / (p - signed);
  return f * eta < 0 ? eta : -f / slope;
}
