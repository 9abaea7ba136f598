/**
 * The Cholesky factor of a matrix and its inverse, nearly all of it products: the first half is factorised, then what it leaves
 * of the second one, down to blocks of `LEAF`.
 */

import { gram, notDifferentiable, type Tensor, tensor, zeros } from '@otimes/core';
import { defineBuiltIn, readsLater } from '@otimes/core/extend';

/** Rows of a block that is factorised element by element. */
const LEAF = 64;

/** L and L⁻¹, lower triangular [n, n]. */
type Triangular = { readonly L: Tensor; readonly inverse: Tensor };

/** What is added to the diagonal of a matrix, and what pivots below it are taken for, so that every finite matrix has a factor. */
export type Pivots = { readonly shift: number; readonly least: number };

/**
 * L Lᵀ = x + shift · I for a symmetric x [n, n], of which the lower triangle is read.
 *
 * @param wantsInverse whether L⁻¹ is to be whole; else its lower half is not computed
 */
export function cholesky(x: Tensor, pivots: Pivots, wantsInverse = true): Triangular {
  if (x.shape[0]! <= leafOf(x)) return factors(x, pivots);
  const blank = () => zeros(x.shape, { dtype: x.dtype, device: x.device });
  const all = { L: blank(), inverse: blank() };
  factorise(x, 0, all, pivots, wantsInverse);
  return all;
}

/** Fills the diagonal block of `all` that begins at row `from`. */
function factorise(x: Tensor, from: number, all: Triangular, pivots: Pivots, wantsInverse: boolean): void {
  const n = x.shape[0]!;
  const block = ({ L, inverse }: Triangular, row: number, rows: number, column: number, columns: number) => {
    const of = (y: Tensor) => y.narrow(0, from + row, rows).narrow(1, from + column, columns);
    return { L: of(L), inverse: of(inverse) };
  };
  const leaf = leafOf(x);
  if (n <= leaf) {
    const [both, own] = [factors(x, pivots), block(all, 0, n, 0, n)];
    own.L.copy_(both.L);
    own.inverse.copy_(both.inverse);
    return;
  }
  const half = leaf * Math.ceil(n / leaf / 2);
  const rest = n - half;
  factorise(x.narrow(0, 0, half).narrow(1, 0, half), from, all, pivots, true);
  const first = block(all, 0, half, 0, half).inverse;
  const below = x.narrow(0, half, rest).narrow(1, 0, half).matmul(first.transpose());
  const corner = x.narrow(0, half, rest).narrow(1, half, rest).sub(gram(below.transpose()));
  factorise(corner, from + half, all, pivots, wantsInverse);
  const own = block(all, half, rest, 0, half);
  own.L.copy_(below);
  if (!wantsInverse) return;
  const second = block(all, half, rest, half, rest).inverse;
  own.inverse.copy_(second.matmul(below.matmul(first)).neg());
}

/** Where values are awaited and the device has no such kernel, products go down to single elements. */
const leafOf = (x: Tensor): number => (readsLater(x) && x.storage.backend.cholesky === undefined ? 1 : LEAF);

const onDevice = defineBuiltIn<Pivots>({
  name: 'cholesky',
  shape: ([x]) => ({ shape: [2, ...x!.shape], dtype: x!.dtype }),
  forward: (backend, [x], out, { shift, least }) => backend.cholesky!(x!, shift, least, out),
  backward: notDifferentiable,
});

function factors(x: Tensor, pivots: Pivots): Triangular {
  if (x.storage.backend.cholesky !== undefined) {
    const both = onDevice([x], pivots);
    return { L: both.narrow(0, 0, 1).squeeze(0), inverse: both.narrow(0, 1, 1).squeeze(0) };
  }
  if (!readsLater(x)) return byLoops(x, pivots);
  const L = x.add(pivots.shift).maximum(pivots.least).sqrt();
  return { L, inverse: L.reciprocal() };
}

function byLoops(x: Tensor, { shift, least }: Pivots): Triangular {
  const n = x.shape[0]!;
  const L = Float64Array.from(x.dataSync());
  const inverse = new Float64Array(n * n);
  const dot = (a: Float64Array, i: number, step: number, j: number, from: number, to: number) => {
    let sum = 0;
    for (let k = from; k < to; k++) sum += L[i * n + k]! * a[j + k * step]!;
    return sum;
  };
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < i; j++) L[i * n + j] = (L[i * n + j]! - dot(L, i, 1, j * n, 0, j)) / L[j * n + j]!;
    L[i * n + i] = Math.sqrt(Math.max(least, L[i * n + i]! + shift - dot(L, i, 1, i * n, 0, i)));
    for (let j = 0; j <= i; j++) inverse[i * n + j] = (Number(i === j) - dot(inverse, i, n, j, j, i)) / L[i * n + i]!;
    L.fill(0, i * n + i + 1, (i + 1) * n);
  }
  const there = (values: Float64Array) => tensor(values, { shape: [n, n], dtype: x.dtype, device: x.device });
  return { L: there(L), inverse: there(inverse) };
}
