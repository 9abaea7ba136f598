// Divide and conquer for the symmetric tridiagonal eigenproblem: Cuppen (1981), Gu & Eisenstat (1995); deflation as in
// LAPACK's dlaed2. The matrix is torn into two halves plus a rank-one coupling, and a merge diagonalises D + ρ z zᵀ.
// Factors in training are of low rank more often than not, and there deflation saves most of the work.
import { block, gemm } from '../gemm.ts';
import { EPS, implicitQL, rotateRows } from './ql.ts';
import { solveSecular } from './secular.ts';

/** Blocks up to this size go to implicit QL. */
const LEAF = 32;

/**
 * What the recursion works on. d, e: diagonal and off-diagonal [n]; q [n, n]: eigenvectors as ROWS, each block on its
 * own rows and columns; gathered and s: scratch [n, n].
 */
type Work = {
  readonly n: number;
  readonly d: Float64Array;
  readonly e: Float64Array;
  readonly q: Float64Array;
  readonly gathered: Float64Array;
  readonly s: Float64Array;
};

/**
 * Eigenvalues, unsorted, and the matching eigenvectors as rows [n, n], of the tridiagonal matrix with diagonal d [n]
 * and off-diagonal e [n] (the last unused). Overwrites both; `values` is d. Expects norms near 1: the tolerance of
 * deflation is absolute.
 */
export function divideAndConquer(d: Float64Array, e: Float64Array): { values: Float64Array; rows: Float64Array } {
  const n = d.length;
  const matrix = () => new Float64Array(n * n);
  const work: Work = { n, d, e, q: matrix(), gathered: matrix(), s: matrix() };
  for (let i = 0; i < n; i++) work.q[i * n + i] = 1;
  solve(work, 0, n);
  return { values: d, rows: work.q };
}

/** Diagonalises the block of `size` rows from `start` on. */
function solve(work: Work, start: number, size: number): void {
  const { d, e } = work;
  if (size <= LEAF) {
    implicitQL(start, size, d, e, work.q, work.n);
    return;
  }
  const half = size >> 1;
  const cut = start + half - 1;
  const coupling = e[cut]!;
  e[cut] = 0;
  d[cut]! -= Math.abs(coupling);
  d[cut + 1]! -= Math.abs(coupling);
  solve(work, start, half);
  solve(work, start + half, size - half);
  merge(work, start, half, size, coupling);
}

/** Where the entries of an eigenvector are: in the columns of the first half, of both, or of the second. */
type Support = 'first' | 'both' | 'second';

function merge(work: Work, start: number, half: number, size: number, coupling: number): void {
  const { n: ld, d, q, gathered, s } = work;
  const corner = start * ld + start;
  // z: last components of the first half's eigenvectors, first components of the second's, scaled to a unit vector.
  const z = new Float64Array(size);
  for (let i = 0; i < half; i++) z[i] = q[corner + i * ld + half - 1]! * Math.SQRT1_2;
  for (let i = half; i < size; i++) z[i] = q[corner + i * ld + half]! * Math.SQRT1_2 * (coupling < 0 ? -1 : 1);
  const rho = 2 * Math.abs(coupling);
  const { kept, deflated, support } = deflate(work, start, half, z, rho);
  const k = kept.length;

  // Rows with the same support side by side, so that two products skip the blocks of zeros.
  const groups = (['first', 'both', 'second'] as const).map(which => kept.filter(i => support[i] === which));
  const grouped = groups.flat();
  const [first, both] = [groups[0]!.length, groups[1]!.length];
  const slot = new Int32Array(size);
  grouped.forEach((i, p) => {
    slot[i] = p;
  });
  [...grouped, ...deflated].forEach((i, p) => {
    gathered.set(q.subarray(corner + i * ld, corner + i * ld + size), p * size);
  });

  const poles = Float64Array.from(kept, i => d[start + i]!);
  const weights = Float64Array.from(kept, i => z[i]!);
  const roots = solveSecular(
    poles,
    weights,
    rho,
    Int32Array.from(kept, i => slot[i]!),
    s,
  );
  const deflatedValues = deflated.map(i => d[start + i]!);
  d.set(roots, start);
  d.set(deflatedValues, start + k);

  for (let i = 0; i < k; i++) q.fill(0, corner + i * ld, corner + i * ld + size);
  gemm(k, half, first + both, 1, block(s, 0, k), block(gathered, 0, size), block(q, corner, ld));
  const right = block(gathered, first * size + half, size);
  gemm(k, size - half, k - first, 1, block(s, first, k), right, block(q, corner + half, ld));
  for (let i = k; i < size; i++) q.set(gathered.subarray(i * size, (i + 1) * size), corner + i * ld);
}

/**
 * Rows whose eigenpair the coupling does not change: z is negligible there, or becomes so by rotating two rows of
 * nearly equal eigenvalue. `kept` ascends in eigenvalue; z, d and q are rotated along.
 */
function deflate(
  { n: ld, d, q }: Work,
  start: number,
  half: number,
  z: Float64Array,
  rho: number,
): { kept: number[]; deflated: number[]; support: Support[] } {
  const size = z.length;
  const values = d.subarray(start, start + size);
  const ascending = Array.from(values.keys()).sort((i, j) => values[i]! - values[j]!);
  const support = Array.from(values, (_, i): Support => (i < half ? 'first' : 'second'));
  let largest = 0;
  for (let i = 0; i < size; i++) largest = Math.max(largest, Math.abs(values[i]!), Math.abs(z[i]!));
  const tolerance = 8 * EPS * largest;

  const kept: number[] = [];
  const deflated: number[] = [];
  let previous = -1;
  for (const i of ascending) {
    if (rho * Math.abs(z[i]!) <= tolerance) {
      deflated.push(i);
      continue;
    }
    if (previous >= 0) {
      const tau = Math.hypot(z[i]!, z[previous]!);
      const c = z[i]! / tau;
      const s = -z[previous]! / tau;
      const [low, high] = [values[previous]!, values[i]!];
      if (Math.abs((high - low) * c * s) <= tolerance) {
        z[i] = tau;
        z[previous] = 0;
        if (support[i] !== support[previous]) support[i] = support[previous] = 'both';
        rotateRows(q, (start + previous) * ld + start, (start + i) * ld + start, size, c, s);
        values[previous] = low * c * c + high * s * s;
        values[i] = low * s * s + high * c * c;
        deflated.push(previous);
      } else kept.push(previous);
    }
    previous = i;
  }
  if (previous >= 0) kept.push(previous);
  return { kept, deflated, support };
}
