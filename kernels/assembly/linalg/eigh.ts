// The symmetric eigenproblem in four steps: reduce to tridiagonal form, divide and conquer, transform back, sort.
import { divideAndConquer, divideWork, sort } from './divide';
import { columns } from './door';
import { packAt } from './products';
import { applyReflectors, applyWork } from './reflectors';
import { bytes, get, put } from './rows';
import { tridiagonalise, tridiagonalWork } from './tridiagonal';

function workOf<T>(n: i32): f64 {
  const steps = max(divideWork<T>(n), max(tridiagonalWork<T>(n), sizeof<T>() * applyWork(n, n, n)));
  return (sizeof<f64>() + sizeof<T>()) * <f64>n + steps + 64;
}

function decompose<T>(n: i32, a: usize, values: usize, vectors: usize, work: usize, scratch: usize): bool {
  packAt(scratch);
  const off = work;
  const tau = off + bytes<f64>(n);
  const steps = (tau + bytes<T>(n) + 63) & ~63;
  tridiagonalise<T>(n, a, values, off, tau, steps);
  // NaN and infinities end here, whatever the steps would make of them.
  for (let i = 0; i < n; i++)
    if (!(abs(get<f64>(values, i)) < Infinity && (i == n - 1 || abs(get<f64>(off, i)) < Infinity))) return false;
  if (!divideAndConquer<T>(n, values, off, vectors, steps)) return false;
  // Eigenvectors of a are H₀ … H₍n₋₂₎ times those of the tridiagonal matrix.
  applyReflectors<T>(a, n, 1, tau, 0, n - 1, vectors, n, true, false, steps);
  const order = sort(n, values);
  columns<T>(n, vectors, order, a);
  memory.copy(off, values, bytes<f64>(n));
  for (let i = 0; i < n; i++) put<f64>(values, i, get<f64>(off, get<i32>(order, i)));
  return true;
}

/** Bytes of work for `eigh` of an [n, n]: an f64, as all such numbers, since it may be more than there are addresses. */
export function eighWork_f32(n: i32): f64 {
  return workOf<f32>(n);
}

export function eighWork_f64(n: i32): f64 {
  return workOf<f64>(n);
}

/**
 * a [n, n] = V diag(values) Vᵀ: ascending eigenvalues into values [n] of f64, V in place of a, column j belonging to
 * values[j]; of each the first entry within 1e-6 of the largest is positive. Reads the upper triangle, expects max|a|
 * near 1. vectors [n, n] is work too. False where it does not converge.
 */
export function eigh_f32(n: i32, a: usize, values: usize, vectors: usize, work: usize, scratch: usize): bool {
  return decompose<f32>(n, a, values, vectors, work, scratch);
}

export function eigh_f64(n: i32, a: usize, values: usize, vectors: usize, work: usize, scratch: usize): bool {
  return decompose<f64>(n, a, values, vectors, work, scratch);
}
