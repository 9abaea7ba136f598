/** Entries of the list in `ops.ts` for linear algebra. Matrices are kept away from singular ones and from equal eigenvalues by their diagonal. */

import { linalg, type Tensor, tensor } from '@otimes/core';
import fc from 'fast-check';
import { length, real, shape } from '../arbitraries/tensor.ts';
import { broadcastShape, build, Dense } from '../helpers/dense.ts';
import { entry, type OpEntry, type Options, sum } from './opEntry.ts';

type Matrix = number[][];

const range = (n: number) => Array.from({ length: n }, (_, i) => i);
const made = (m: number, n: number, f: (i: number, j: number) => number): Matrix =>
  range(m).map(i => range(n).map(j => f(i, j)));
const times = (a: Matrix, b: Matrix, n: number): Matrix =>
  a.map(row => range(n).map(j => sum(row.map((value, k) => value * b[k]![j]!))));
const flip = (a: Matrix, n: number): Matrix => range(n).map(j => a.map(row => row[j]!));

/** Gauss and Jordan, of matrices whose diagonals outweigh the rest: inverse and determinant. */
function eliminated(a: Matrix): { inverse: Matrix; determinant: number } {
  const n = a.length;
  const rows = a.map((row, i) => [...row, ...range(n).map(j => Number(i === j))]);
  let determinant = 1;
  for (let k = 0; k < n; k++) {
    const pivot = rows[k]![k]!;
    determinant *= pivot;
    rows[k] = rows[k]!.map(x => x / pivot);
    for (let i = 0; i < n; i++)
      if (i !== k) {
        const factor = rows[i]![k]!;
        rows[i] = rows[i]!.map((x, j) => x - factor * rows[k]![j]!);
      }
  }
  return { inverse: rows.map(row => row.slice(n)), determinant };
}

/** (aᵀ a)⁻¹ aᵀ for more rows than columns, else aᵀ (a aᵀ)⁻¹. */
function pseudoinverse(a: Matrix, n: number): Matrix {
  const m = a.length;
  const t = flip(a, n);
  return m >= n ? times(eliminated(times(t, a, n)).inverse, t, m) : times(t, eliminated(times(a, t, m)).inverse, m);
}

/** L with a = L Lᵀ, element by element. */
function rooted(a: Matrix): Matrix {
  const l = a.map(row => row.map(() => 0));
  for (let i = 0; i < a.length; i++)
    for (let j = 0; j <= i; j++) {
      const rest = a[i]![j]! - sum(range(j).map(k => l[i]![k]! * l[j]![k]!));
      l[i]![j] = i === j ? Math.sqrt(rest) : rest / l[j]![j]!;
    }
  return l;
}

/** Orthonormal columns by Gram and Schmidt, in order. */
function orthonormal(a: Matrix, n: number): Matrix {
  const columns: Matrix = [];
  for (const column of flip(a, n).slice(0, a.length)) {
    const rest = columns.reduce((x, q) => {
      const share = sum(q.map((value, i) => value * column[i]!));
      return x.map((value, i) => value - share * q[i]!);
    }, column);
    const norm = Math.hypot(...rest);
    columns.push(rest.map(x => x / norm));
  }
  return flip(columns, a.length);
}

const matrixAt = (x: Dense, batch: readonly number[]): Matrix => {
  const [m, n] = x.shape.slice(-2) as [number, number];
  return made(m, n, (i, j) => x.at([...batch, i, j]));
};

/** f of the matrices at each index of the common leading axes; its results are [m, n], or numbers where `size` is null. */
function perMatrix(size: readonly [number, number] | null, f: (...x: Matrix[]) => Matrix | number, ...x: Dense[]) {
  const batch = broadcastShape(...x.map(one => one.shape.slice(0, -2)));
  const found = new Map<string, Matrix | number>();
  return build([...batch, ...(size ?? [])], index => {
    const at = index.slice(0, batch.length);
    const key = at.join();
    if (!found.has(key)) found.set(key, f(...x.map(one => matrixAt(one, at))));
    const value = found.get(key)!;
    return typeof value === 'number' ? value : value[index.at(-2)!]![index.at(-1)!]!;
  });
}

/** The diagonal 10, 30, 50, … of [m, n]; elements beside it are at most 2.5. */
const heavy = (i: number, j: number) => (i === j ? 10 + 20 * i : 0);
const shift = (x: Tensor) => {
  const [m, n] = x.shape.slice(-2) as [number, number];
  const diagonal = made(m, n, heavy).flat();
  return x.add(tensor(diagonal, { shape: [m, n], dtype: x.dtype, device: x.device }));
};
const shifted = (a: Matrix): Matrix => a.map((row, i) => row.map((x, j) => x + heavy(i, j)));
/** Symmetric, with the diagonal. */
const symmetric = (x: Tensor) => shift(x.add(x.transpose()).mul(0.5));
const symmetrised = (a: Matrix): Matrix => shifted(a.map((row, i) => row.map((x, j) => (x + a[j]![i]!) / 2)));

const lengths = length({ maxLength: 3 });
const leading = shape({ maxRank: 1, maxLength: 2 });
const floats: Options = { dtypes: ['float32', 'float64'] };
const host = (name: string, use: OpEntry['use']): OpEntry => ({ ...entry(name, use, floats), onHost: true });

/** Of square matrices [..., n, n]. */
const square = (name: string, run: (x: Tensor) => Tensor, f: (a: Matrix) => Matrix | number, scalar = false): OpEntry =>
  host(
    name,
    fc.tuple(leading, lengths).map(([batch, n]) => ({
      inputs: [{ shape: [...batch, n, n], domain: real }],
      run,
      naive: (x: Dense) => perMatrix(scalar ? null : [n, n], f, x),
    })),
  );

/** Of matrices [..., m, n]; `size` is that of the results. */
const oblong = (
  name: string,
  run: (x: Tensor) => Tensor,
  f: (a: Matrix, n: number) => Matrix | number,
  size: (m: number, n: number) => [number, number] | null,
): OpEntry =>
  host(
    name,
    fc.tuple(leading, lengths, lengths).map(([batch, m, n]) => ({
      inputs: [{ shape: [...batch, m, n], domain: real }],
      run,
      naive: (x: Dense) => perMatrix(size(m, n), a => f(a, n), x),
    })),
  );

/** With each of the sixteen settings of its options. */
const triangles = host(
  'solveTriangular',
  fc.tuple(fc.nat(15), leading, leading, lengths, lengths).chain(([bits, p, q, n, k]) => {
    const [upper, left, unitriangular, transpose] = [1, 2, 4, 8].map(bit => (bits & bit) !== 0) as boolean[];
    const o = { upper: upper!, left: left!, unitriangular: unitriangular!, transpose: transpose! };
    const triangle = (a: Matrix): Matrix => {
      const own = a.map((row, i) =>
        row.map((x, j) => (i === j ? (o.unitriangular ? 1 : x) : (o.upper ? j > i : j < i) ? x : 0)),
      );
      return o.transpose ? flip(own, own.length) : own;
    };
    const size: [number, number] = o.left ? [n, k] : [k, n];
    // The leading shapes are the same, or one has none.
    return fc.constantFrom([p, p], [p, []], [[], q]).map(([one, other]) => ({
      inputs: [
        { shape: [...one!, n, n], domain: real },
        { shape: [...other!, ...size], domain: real },
      ],
      run: (a: Tensor, b: Tensor) => linalg.solveTriangular(shift(a), b, o),
      naive: (a: Dense, b: Dense) =>
        perMatrix(
          size,
          (t, x) => {
            const inverse = inverseOfTriangle(triangle(shifted(t)));
            return o.left ? times(inverse, x, k) : times(x, inverse, n);
          },
          a,
          b,
        ),
    }));
  }),
);

/** Its pivots are the diagonal, so nothing has to outweigh anything. */
const inverseOfTriangle = (a: Matrix): Matrix => eliminated(a).inverse;

const systems: OpEntry[] = [
  host(
    'solve of matrices',
    fc.tuple(leading, lengths, lengths).chain(([batch, n, k]) =>
      fc.constantFrom([batch, batch], [batch, []], [[], batch]).map(([one, other]) => ({
        inputs: [
          { shape: [...one!, n, n], domain: real },
          { shape: [...other!, n, k], domain: real },
        ],
        run: (a: Tensor, b: Tensor) => linalg.solve(shift(a), b),
        naive: (a: Dense, b: Dense) => perMatrix([n, k], (p, q) => times(eliminated(shifted(p)).inverse, q, k), a, b),
      })),
    ),
  ),
  host(
    'solve of vectors',
    fc.tuple(leading, lengths, fc.boolean()).map(([batch, n, one]) => ({
      inputs: [
        { shape: [...batch, n, n], domain: real },
        { shape: one ? [n] : [...batch, n], domain: real },
      ],
      run: (a: Tensor, b: Tensor) => linalg.solve(shift(a), b),
      naive: (a: Dense, b: Dense) => {
        const columns = new Dense([...b.shape, 1], b.data);
        const x = perMatrix([n, 1], (p, q) => times(eliminated(shifted(p)).inverse, q, 1), a, columns);
        return new Dense(x.shape.slice(0, -1), x.data);
      },
    })),
  ),
];

const norms = (['fro', 'nuc', 1, -1, 2, -2, Infinity, -Infinity] as const).map(ord =>
  host(
    `matrixNorm ${ord}`,
    fc.tuple(leading, length({ minLength: 1, maxLength: 3 })).map(([batch, n]) => ({
      inputs: [{ shape: [...batch, n, n], domain: real }],
      run: (x: Tensor) => linalg.matrixNorm(ord === 'nuc' || ord === 2 || ord === -2 ? symmetric(x) : shift(x), ord),
      naive: (x: Dense) =>
        perMatrix(
          null,
          a => {
            if (ord === 'fro') return Math.hypot(...shifted(a).flat());
            // Of symmetric positive definite matrices the singular values are the eigenvalues.
            if (ord === 'nuc') return sum(symmetrised(a).map((row, i) => row[i]!));
            if (ord === 2) return largestEigenvalue(symmetrised(a));
            if (ord === -2) return 1 / largestEigenvalue(eliminated(symmetrised(a)).inverse);
            const rows = Math.abs(ord) === 1 ? flip(shifted(a), n) : shifted(a);
            const sums = rows.map(row => sum(row.map(Math.abs)));
            return ord > 0 ? Math.max(...sums) : Math.min(...sums);
          },
          x,
        ),
    })),
  ),
);

/** By powers of the matrix, squared again and again. */
function largestEigenvalue(a: Matrix): number {
  const n = a.length;
  let power = a;
  for (let i = 0; i < 12; i++) {
    const squared = times(power, power, n);
    const size = Math.hypot(...squared.flat());
    power = squared.map(row => row.map(x => x / size));
  }
  const v = power.map(row => sum(row));
  const w = times(
    a,
    v.map(x => [x]),
    1,
  ).map(([x]) => x!);
  return Math.hypot(...w) / Math.hypot(...v);
}

export const linalgEntries: readonly OpEntry[] = [
  square(
    'inv',
    x => linalg.inv(shift(x)),
    a => eliminated(shifted(a)).inverse,
  ),
  square(
    'det',
    x => linalg.det(shift(x)),
    a => eliminated(shifted(a)).determinant,
    true,
  ),
  square(
    'slogdet logdet',
    x => linalg.logdet(shift(x)),
    a => Math.log(eliminated(shifted(a)).determinant),
    true,
  ),
  square(
    'matrixPower',
    x => linalg.matrixPower(shift(x).mul(1 / 16), -3),
    a => {
      const { inverse } = eliminated(shifted(a).map(row => row.map(x => x / 16)));
      return times(inverse, times(inverse, inverse, a.length), a.length);
    },
  ),
  square(
    'cholesky',
    x => linalg.cholesky(symmetric(x)),
    a => rooted(symmetrised(a)),
  ),
  square(
    'eigh: V diag(1 / λ) Vᵀ is the inverse',
    x => {
      const { values, vectors } = linalg.eigh(symmetric(x));
      return vectors.div(values.unsqueeze(-2)).matmul(vectors.transpose());
    },
    a => eliminated(symmetrised(a)).inverse,
  ),
  square(
    'eigvalsh: Π λ is the determinant',
    x => linalg.eigvalsh(symmetric(x)).log().sum(-1),
    a => Math.log(eliminated(symmetrised(a)).determinant),
    true,
  ),
  ...systems,
  triangles,
  oblong(
    'qr: q',
    x => linalg.qr(shift(x)).q,
    (a, n) => orthonormal(shifted(a), n),
    (m, n) => [m, Math.min(m, n)],
  ),
  oblong(
    'qr: r',
    x => linalg.qr(shift(x)).r,
    (a, n) => times(flip(orthonormal(shifted(a), n), Math.min(a.length, n)), shifted(a), n),
    (m, n) => [Math.min(m, n), n],
  ),
  oblong(
    'svd: V diag(1 / s) Uᵀ is the pseudoinverse',
    x => {
      const { u, s, vh } = linalg.svd(shift(x));
      return vh.transpose().div(s.unsqueeze(-2)).matmul(u.transpose());
    },
    (a, n) => pseudoinverse(shifted(a), n),
    (m, n) => [n, m],
  ),
  oblong(
    'svdvals: Σ s² is Σ a²',
    x => linalg.svdvals(shift(x)).square().sum(-1),
    a =>
      sum(
        shifted(a)
          .flat()
          .map(x => x * x),
      ),
    () => null,
  ),
  oblong(
    'pinv',
    x => linalg.pinv(shift(x)),
    (a, n) => pseudoinverse(shifted(a), n),
    (m, n) => [n, m],
  ),
  host(
    'lstsq',
    fc.tuple(leading, lengths, lengths, lengths).map(([batch, m, n, k]) => ({
      inputs: [
        { shape: [...batch, m, n], domain: real },
        { shape: [m, k], domain: real },
      ],
      run: (a: Tensor, b: Tensor) => linalg.lstsq(shift(a), b).solution,
      naive: (a: Dense, b: Dense) => perMatrix([n, k], (p, q) => times(pseudoinverse(shifted(p), n), q, k), a, b),
    })),
  ),
  ...norms,
];
