/**
 * The factors A and G and the second moments in a basis, from statistics in canonical form. Every 1/batch and 1/shared
 * of the Kronecker optimizers stands in this file and nowhere else.
 *
 * Notation: inputs a [B, T, dIn]; g [B, T, dOut], the gradient of ONE example's loss; D_b = Σ_t g_bt a_btᵀ is the
 * gradient matrix of example b, and D = 1/B Σ_b D_b that of the batch.
 */

import type { Tensor } from '@otimes/core';
import type { Canonical, Sharing } from './block.ts';

/** Whether the user's loss is the mean over the batch or the sum. */
export type LossReduction = 'mean' | 'sum';

/**
 * One batch as the optimizer uses it. `gs` holds one output gradient per backward pass: one for the empirical and the
 * sampled Fisher, one for each column of the loss Hessian's factor for the GGN.
 */
export type Sample = { readonly a: Tensor; readonly gs: readonly Tensor[] };

/** A [dIn, dIn] and G [dOut, dOut]. */
export type Factors = {
  readonly A: Tensor;
  readonly G: Tensor;
  /** True if G of 'reduce' vanished and G of 'expand' stands in its place. */
  readonly expandedG: boolean;
};

/** The gradient of one example's loss: backward under a mean loss delivers 1/B of it. */
export function perExample({ a, g }: Canonical, reduction: LossReduction): Tensor {
  return reduction === 'mean' ? g.mul(a.shape[0]!) : g;
}

/** The gradient matrix of the mean loss, whichever loss was differentiated. */
export function meanGradient(D: Tensor, batch: number, reduction: LossReduction): Tensor {
  return reduction === 'mean' ? D : D.mul(1 / batch);
}

/** Below this ratio of traces G of 'reduce' counts as 0: Σ_t ∂L/∂k_t of an attention's key projection is, exactly. */
const VANISHED = 1e-8;

/**
 * expand: A = 1/(BT) Σ_bt a aᵀ, G = 1/B Σ_bt g gᵀ (for T = 1 Martens & Grosse 2015, eq. 1). reduce: A = 1/B Σ_b ā āᵀ with
 * ā = mean_t a, G = 1/B Σ_b s sᵀ with s = Σ_t g (Eschenhagen et al. 2023, §3). Several gradients add up in G.
 */
export function factors({ a, gs }: Sample, sharing: Sharing): Factors {
  const [batch, shared, dIn] = a.shape as [number, number, number];
  if (sharing === 'reduce' && shared > 1) {
    const G = sumOf(gs.map(g => gram(g.sum(1)))).mul(1 / batch);
    const size = gs.reduce((total, g) => total + g.square().sum().item(), 0) / batch;
    const vanished = trace(G) <= VANISHED * size;
    return {
      A: gram(a.mean(1)).mul(1 / batch),
      G: vanished ? expandedG(gs, batch) : G,
      expandedG: vanished,
    };
  }
  return {
    A: gram(a.reshape([batch * shared, dIn])).mul(1 / (batch * shared)),
    G: expandedG(gs, batch),
    expandedG: false,
  };
}

function expandedG(gs: readonly Tensor[], batch: number): Tensor {
  return sumOf(gs.map(g => gram(g.reshape([-1, g.shape[2]!])))).mul(1 / batch);
}

/**
 * The second moments of the examples' gradients in a basis: s = 1/B Σ_b (UGᵀ D_b UA)², elementwise, [dOut, dIn]
 * (George et al. 2018, eq. 11).
 */
export function exampleSquares({ a, gs }: Sample, UA: Tensor, UG: Tensor): Tensor {
  const [batch, shared] = a.shape as [number, number];
  const aTilde = a.matmul(UA);
  const squares = gs.map(g => {
    const gTilde = g.matmul(UG);
    // Without sharing D_b has rank one, and its squares are products of squares.
    if (shared === 1) return gTilde.squeeze(1).square().transpose().matmul(aTilde.squeeze(1).square());
    return gTilde.transpose(1, 2).matmul(aTilde).square().sum(0);
  });
  return sumOf(squares).mul(1 / batch);
}

/** The same from the batch's gradient D̃ alone: B D̃², as if examples were independent with mean 0. */
export function batchSquares(projected: Tensor, batch: number): Tensor {
  return projected.square().mul(batch);
}

/** xᵀ x of the rows of x. */
function gram(x: Tensor): Tensor {
  return x.transpose().matmul(x);
}

function sumOf(terms: readonly Tensor[]): Tensor {
  return terms.reduce((sum, term) => sum.add(term));
}

function trace(m: Tensor): number {
  let sum = 0;
  const { array } = m.storage;
  for (let i = 0; i < m.shape[0]!; i++) sum += array[m.offset + i * (m.strides[0]! + m.strides[1]!)]!;
  return sum;
}
