/**
 * A basis as a layer uses it, and what a backward pass leaves there: D̃ = UGᵀ [dW | db] UA, beside gradients of the parameters that
 * are computed from it when somebody reads them.
 */

import { concat, linear, ones, type Tensor } from '@otimes/core';
import { borrowGrad, lazyTensor, originOf, precisely } from '@otimes/core/extend';
import type { TurnableLayer } from '../block.ts';
import type { Side } from '../side.ts';

/** Both sides of a basis; null for an identity. */
export type Frame = {
  readonly sides: { readonly A: Side; readonly G: Side };
  /** Of A's shape; the homogeneous coordinate is the last one where the layer has a bias. */
  readonly UA: Tensor | null;
  /** Of G's shape. */
  readonly UG: Tensor | null;
  /** W̃ [dOut, dIn] of a resident layer, else null. */
  readonly resident: Tensor | null;
};

/** Whether two bases have the same coordinates. */
export const isSameBasis = (one: Pick<Frame, 'UA' | 'UG'>, other: Pick<Frame, 'UA' | 'UG'>): boolean =>
  one.UA === other.UA && one.UG === other.UG;

/** D̃ of one backward pass, and how to get back from it. Freed when no gradient needs it any more. */
export class BasisGradient {
  readonly D: Tensor;
  readonly frame: Frame;
  #holders = 0;

  constructor(D: Tensor, frame: Frame) {
    this.D = D;
    this.frame = frame;
  }

  /** The gradients of a weight and a bias, which may be null, that are computed when they are read. */
  gradients(weight: readonly number[], bias: readonly number[] | null): Tensor[] {
    const main = this.#lazily(weight, (D, frame) => weightPart(D, frame, weight));
    return bias === null ? [main] : [main, this.#lazily(bias, biasPart)];
  }

  #lazily(shape: readonly number[], of: (D: Tensor, frame: Frame) => Tensor): Tensor {
    this.#holders++;
    return lazyTensor(this.D, () => of(this.D, this.frame), {
      shape,
      origin: this,
      dispose: () => {
        if (--this.#holders === 0) this.D.storage.release();
      },
    });
  }
}

/**
 * D̃ of the gradients that a layer's parameters have, if they are what one backward pass left and nothing else: not
 * accumulated, not clipped, not replaced. Else null.
 */
export function basisGradient({ weight, bias }: TurnableLayer): BasisGradient | null {
  const origin = gradientOrigin(weight);
  if (!(origin instanceof BasisGradient) || (bias !== null && gradientOrigin(bias) !== origin)) return null;
  return origin;
}

function gradientOrigin(p: Tensor): unknown {
  const g = borrowGrad(p);
  return g === null ? null : originOf(g);
}

/** The columns of UG D̃ UAᵀ that belong to a weight of that shape. */
export function weightPart(D: Tensor, { sides: { A, G }, UA, UG }: Frame, shape: readonly number[]): Tensor {
  return precisely(() =>
    weightColumns(G.turnColumnsBack(D, UG), A, UA, shape.slice(1).reduce(times, 1)).reshape(shape),
  );
}

/** Its last column, that of the bias. */
export function biasPart(D: Tensor, { sides: { A, G }, UA, UG }: Frame): Tensor {
  return precisely(() => {
    const rows = !A.turns
      ? D.narrow(1, A.n - 1, 1)
      : D.narrow(1, lastOf(A).start, lastOf(A).size).matmul(lastRow(A, UA!));
    return G.turnColumnsBack(rows, UG).reshape([-1]);
  });
}

/** The first `count` columns of X UAᵀ: those of the inputs without the homogeneous 1. */
export function weightColumns(X: Tensor, A: Side, UA: Tensor | null, count: number): Tensor {
  // Of an exact side the last column need not be computed.
  if (A.isExact) return X.matmul(UA!.narrow(0, 0, count).transpose());
  return A.turnBack(X, UA).narrow(X.rank - 1, 0, count);
}

const times = (x: number, y: number): number => x * y;

/** The segment of A with the homogeneous coordinate, of one tap. */
const lastOf = (A: Side) => A.segments.at(-1)!;

/** What U of it has for that coordinate, [size, 1]. */
const lastRow = (A: Side, UA: Tensor): Tensor => {
  const { U } = A.parts(UA).at(-1)!;
  return U.narrow(0, U.shape[0]! - 1, 1).transpose();
};

/** [x, 1] UA for rows x, where the layer has a bias, without making [x, 1] of more than one segment; x itself where nothing turns. */
export function turnedRows(x: Tensor, A: Side, UA: Tensor | null): Tensor {
  const [rows, features] = x.shape as [number, number];
  const hasBias = A.n > features;
  if (!hasBias) return A.turn(x, UA);
  if (UA === null) return concat([x, ones([rows, 1], { dtype: x.dtype, device: x.device })], 1);
  const parts = A.parts(UA);
  const pieces = A.segments.map(({ start, size }, i) => {
    const { U } = parts[i]!;
    const own = Math.min(size, features - start);
    const columns = x.narrow(1, start, own);
    return own === size
      ? columns.matmul(U)
      : linear(columns, U.narrow(0, 0, own).transpose(), U.narrow(0, own, 1).reshape([-1]));
  });
  return pieces.length === 1 ? pieces[0]! : concat(pieces, 1);
}
