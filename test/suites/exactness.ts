// Exact Fisher and Gauss–Newton blocks by brute force: one backward pass an example and an output, dense matrices.
import { eye, grad, noGrad, type Tensor, zeros } from '@otimes/core';
import { vec } from '@otimes/linalg';
import { crossEntropy, Module, mseLoss } from '@otimes/nn';
import { type BlockState, EKFAC, type KroneckerOptions, type KroneckerPreconditioner } from '@otimes/optim';

export type Loss = 'crossEntropy' | 'mse';

/** A model with a batch. */
export type Net = { model: Module; x: Tensor; y: Tensor; loss: Loss };

/** Averages over the positions of [batch, shared, features]. */
export class Pool extends Module {
  readonly #how: 'mean' | 'sum';
  constructor(how: 'mean' | 'sum') {
    super();
    this.#how = how;
  }
  override forward(x: Tensor): Tensor {
    return this.#how === 'mean' ? x.mean(1) : x.sum(1);
  }
}

/** The loss of a batch, the mean over its examples or the sum. */
export const lossOf = (loss: Loss, z: Tensor, y: Tensor, reduction: 'mean' | 'sum' = 'mean'): Tensor =>
  loss === 'crossEntropy' ? crossEntropy(z, y, { reduction }) : mseLoss(z, y, { reduction });

/** The states of all blocks of an optimizer. */
export const blocksOf = (optimizer: KroneckerPreconditioner): BlockState[] =>
  optimizer
    .describe()
    .filter(({ collector }) => collector !== 'rest')
    .map(({ path }) => optimizer.inspect(path));

/** The states of all blocks after one step on one batch that changes nothing. */
export function statistics({ model, x, y, loss }: Net, o: KroneckerOptions = {}): BlockState[] {
  const optimizer = new EKFAC(model, { lr: 0, factorDecay: 0, averageNull: false, ...o });
  optimizer.zeroGrad();
  lossOf(loss, model.call(x), y, o.lossReduction).backward();
  optimizer.step();
  optimizer.detach();
  return blocksOf(optimizer);
}

/** The factors of all blocks after one such step on another device, copied to 'cpu'; the model moves there. */
export async function factorsOn(
  device: string,
  { model, x, y, loss }: Net,
  o: KroneckerOptions = {},
): Promise<Factors[]> {
  model.to(device);
  const optimizer = new EKFAC(model, { lr: 0, factorDecay: 0, averageNull: false, ...o });
  optimizer.zeroGrad();
  lossOf(loss, model.call(x.to(device)), y.to(device), o.lossReduction).backward();
  await optimizer.step();
  optimizer.detach();
  return Promise.all(blocksOf(optimizer).map(async ({ A, G }) => ({ A: await A!.cpu(), G: await G!.cpu() })));
}

/** Columns of a matrix stacked, as a plain array. */
export const vectorised = (m: Tensor): number[] => Array.from(vec(m.ndarray()).data);

/** [dW | db] of a block from gradients of its parameters, for a convolution with the axes of a patch in one row. */
export function gradientMatrix(gradients: readonly Tensor[]): Tensor {
  const [weight, b] = gradients;
  const W = weight!.flatten(1);
  const [rows, columns] = W.shape as [number, number];
  const D = zeros([rows, columns + (b === undefined ? 0 : 1)], { dtype: W.dtype });
  D.narrow(1, 0, columns).copy_(W);
  if (b !== undefined) D.narrow(1, columns, 1).copy_(b.unsqueeze(1));
  return D;
}

/** The gradient matrix D_b of every example, by one backward pass each. */
export function exampleGradients(model: Module, { block }: BlockState, x: Tensor, y: Tensor, loss: Loss): Tensor[] {
  return Array.from({ length: x.shape[0]! }, (_, b) => {
    const value = lossOf(loss, model.call(x.narrow(0, b, 1)), y.narrow(0, b, 1));
    return noGrad(() => gradientMatrix(grad(value, block.parameters)));
  });
}

/** Σ_k w_k v_k v_kᵀ as a dense matrix. */
export function outerSum(vectors: readonly (readonly number[])[], weight: number): Float64Array {
  const n = vectors[0]!.length;
  const F = new Float64Array(n * n);
  for (const v of vectors)
    for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) F[i * n + j]! += weight * v[i]! * v[j]!;
  return F;
}

/** The empirical Fisher block 1/B Σ_b vec(D_b) vec(D_b)ᵀ. */
export const empiricalFisher = (Ds: readonly Tensor[]): Float64Array => outerSum(Ds.map(vectorised), 1 / Ds.length);

/**
 * The Gauss–Newton block 1/B Σ_b J_bᵀ H_b J_b of a block, from the Jacobian of every example's output. The Hessian of the
 * example's loss by its n outputs is 2/n I for the mean squared error, diag(p) − p pᵀ for softmax cross-entropy.
 */
export function gaussNewton(model: Module, { block }: BlockState, x: Tensor, loss: Loss): Float64Array {
  const batch = x.shape[0]!;
  const terms: { v: number[]; w: number; u: number[] }[] = [];
  for (let b = 0; b < batch; b++) {
    const z = model.call(x.narrow(0, b, 1)).flatten();
    const rows = Array.from({ length: z.size }, (_, i) => {
      const gy = eye(z.size, { dtype: z.dtype }).slice(i);
      return vectorised(noGrad(() => gradientMatrix(grad(z, block.parameters, { gy }))));
    });
    const p = noGrad(() => z.softmax(0)).dataSync();
    for (let i = 0; i < rows.length; i++)
      for (let j = 0; j < rows.length; j++) {
        const w = loss === 'mse' ? (i === j ? 2 / rows.length : 0) : p[i]! * ((i === j ? 1 : 0) - p[j]!);
        if (w !== 0) terms.push({ v: rows[i]!, u: rows[j]!, w: w / batch });
      }
  }
  const n = block.dIn * block.dOut;
  const F = new Float64Array(n * n);
  for (const { v, u, w } of terms)
    for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) F[i * n + j]! += w * v[i]! * u[j]!;
  return F;
}

export type Factors = Pick<BlockState, 'A' | 'G'>;

/** A ⊗ G of a block, dense. */
export function kronecker({ A, G }: Factors): Float64Array {
  const [a, g] = [A!.dataSync(), G!.dataSync()];
  const [n, m] = [A!.shape[0]!, G!.shape[0]!];
  const F = new Float64Array((n * m) ** 2);
  for (let i = 0; i < n; i++)
    for (let j = 0; j < n; j++)
      for (let k = 0; k < m; k++)
        for (let l = 0; l < m; l++) F[(i * m + k) * n * m + j * m + l] = a[i * n + j]! * g[k * m + l]!;
  return F;
}

/** U diag(s) Uᵀ for U = UA ⊗ UG and s = vec of a matrix [dOut, dIn]: a curvature that is diagonal in the eigenbasis. */
export function fromEigenbasis(UA: Tensor, UG: Tensor, s: Tensor): Float64Array {
  const columns: number[][] = [];
  const [n, m] = [UA.shape[0]!, UG.shape[0]!];
  const [ua, ug, values] = [UA.dataSync(), UG.dataSync(), s.dataSync()];
  for (let p = 0; p < n; p++)
    for (let q = 0; q < m; q++) {
      const root = Math.sqrt(values[q * n + p]!);
      const u: number[] = [];
      for (let i = 0; i < n; i++) for (let k = 0; k < m; k++) u.push(root * ua[i * n + p]! * ug[k * m + q]!);
      columns.push(u);
    }
  return outerSum(columns, 1);
}

/** ‖x − y‖ in the Frobenius norm. */
export const distance = (x: ArrayLike<number>, y: ArrayLike<number>): number => {
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += (x[i]! - y[i]!) ** 2;
  return Math.sqrt(sum);
};
