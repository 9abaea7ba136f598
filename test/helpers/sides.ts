// Sides of Kronecker blocks in every structure, and the matrices that their packed tensors stand for.

import { type DType, full, type Generator, randn, Tensor, tensor, zeros } from '@otimes/core';
import { eigh } from '@otimes/linalg';
import { Side } from '@otimes/optim/curvature';
import fc from 'fast-check';

/** A convolution's inputs, or with one tap a linear layer's, and a structure for them. */
export type SideCase = {
  channels: number;
  taps: number;
  bias: boolean;
  structure: 'exact' | 'taps' | 'channels' | 'blocks' | 'diagonal' | 'identity';
  blockDim: number;
};

export const sideCases = fc.record<SideCase>({
  channels: fc.integer({ min: 1, max: 7 }),
  taps: fc.constantFrom(1, 1, 2, 4, 6),
  bias: fc.boolean(),
  structure: fc.constantFrom('exact', 'taps', 'channels', 'blocks', 'diagonal', 'identity'),
  blockDim: fc.integer({ min: 1, max: 12 }),
});

export const sizeOf = ({ channels, taps, bias }: SideCase): number => channels * taps + Number(bias);

export function sideOf(of: SideCase): Side {
  const n = sizeOf(of);
  const { taps, bias, blockDim } = of;
  if (of.structure === 'exact') return Side.exact(n);
  if (of.structure === 'identity') return Side.identity(n);
  if (of.structure === 'diagonal') return Side.diagonal(n);
  if (of.structure === 'blocks') return Side.blocks(n, blockDim, { taps, bias });
  return Side.channels(n, taps, { bias, turnsTaps: of.structure === 'taps' });
}

/** A random symmetric semidefinite matrix. */
export function semidefinite(n: number, o: { rng: Generator; dtype?: DType }): Tensor {
  const x = randn([n, n], o);
  return x.matmul(x.transpose());
}

/** A random orthogonal matrix. */
export const orthogonal = (n: number, o: { rng: Generator; dtype?: DType }): Tensor => {
  const { vectors } = eigh(semidefinite(n, o).astype('float64').ndarray());
  return tensor(vectors as never).astype(o.dtype ?? 'float32');
};

/** A packed basis of a side; null where nothing turns. */
export const basisOf = (side: Side, o: { rng: Generator; dtype?: DType }): Tensor | null =>
  side.turns ? side.pack(side.orders.map(n => orthogonal(n, o))) : null;

/** Of rows x [R, n] the packed mean. */
export const factorOf = (side: Side, x: Tensor): Tensor => side.gram(x).mul(1 / (x.size / side.n));

/**
 * The matrix [n, n] that a packed basis or rotation stands for, U ⊗ V on each segment, element by element. Of a factor the V is
 * over the mean of its diagonal.
 */
export function dense(side: Side, M: Tensor | null, o: { factor?: boolean } = {}): Tensor {
  const { n } = side;
  if (M === null || !side.turns) {
    const out = zeros([n, n], { dtype: M?.dtype ?? 'float64' });
    for (let i = 0; i < n; i++)
      out
        .narrow(0, i, 1)
        .narrow(1, i, 1)
        .copy_(full([1, 1], M === null ? 1 : Number(M.dataSync()[side.isIdentity ? 0 : i]), { dtype: out.dtype }));
    return out;
  }
  const values = new Float64Array(n * n);
  const parts = side.parts(M);
  for (const [i, { start, size, taps }] of side.segments.entries()) {
    const { U, V } = parts[i]!;
    const [u, v] = [U.dataSync(), V?.dataSync() ?? null];
    let mean = 1;
    if (o.factor && v !== null)
      mean = Array.from({ length: taps }, (_, t) => Number(v[t * taps + t])).reduce((a, b) => a + b) / taps;
    for (let c = 0; c < size; c++)
      for (let d = 0; d < size; d++)
        for (let s = 0; s < taps; s++)
          for (let t = 0; t < taps; t++) {
            const tap = v === null ? Number(s === t) : Number(v[s * taps + t]) / mean;
            values[(start + c * taps + s) * n + start + d * taps + t] = Number(u[c * size + d]) * tap;
          }
  }
  return tensor(values, { shape: [n, n], dtype: M.dtype });
}

/** Σ_r x_r x_rᵀ / R, all of it. */
export const fullFactor = (x: Tensor): Tensor =>
  x
    .transpose()
    .matmul(x)
    .mul(1 / x.shape[0]!);

export const isTensor = (x: unknown): x is Tensor => x instanceof Tensor;
