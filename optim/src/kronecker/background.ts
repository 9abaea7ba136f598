/** A block's factors on their way through `eighInBackground`, while training goes on in the old basis. */

import { type Tensor, tensor, zeros } from '@otimes/core';
import { eighInBackground, type RealNdArray, type TurnedEigen } from '@otimes/linalg';
import { type Decomposition, decomposeMean, Kfe } from './kfe.ts';
import type { Arrival, RefreshJob } from './state.ts';

/** A factor's decomposition, and the rotation from the old basis to the new one; null for the identity. */
type Turned = Decomposition & { readonly R: Tensor | null };

/** One of the two factors. */
type Side = {
  /** A copy of it as it was. */
  factor(): Tensor;
  /** Null while it is not there. */
  take(wait: boolean): (() => Turned) | null;
  release(): void;
};

/**
 * @param from the basis that training goes on in
 * @param sizes [dOut, dIn], as in `Kfe.of`, which finds the same to the last bit; and so does `from.rotationTo`
 * @returns a job whose A and G can be read until it was taken
 */
export function startDecomposition(
  A: Tensor,
  G: Tensor,
  from: Kfe,
  sizes: readonly [number, number],
  step: number,
): RefreshJob {
  const [dOut, dIn] = sizes;
  const [left, right] = [start(A, from.UA, dIn), start(G, from.UG, dOut)];
  let arrival: Arrival | null = null;
  return {
    get A() {
      return left.factor();
    },
    get G() {
      return right.factor();
    },
    step,
    from,
    take(wait) {
      if (arrival !== null) return arrival;
      const [makeA, makeG] = [left.take(wait), right.take(wait)];
      if (makeA === null || makeG === null) return null;
      const [a, g] = [makeA(), makeG()];
      arrival = { kfe: new Kfe(a, g), rotation: { RA: a.R, RG: g.R } };
      left.release();
      right.release();
      return arrival;
    },
  };
}

function start(factor: Tensor, U: Tensor | null, size: number): Side {
  if (U === null) {
    const mean = factor.clone().keep();
    return { factor: () => mean, take: () => () => ({ ...decomposeMean(mean, size), R: null }), release() {} };
  }
  const { dtype, device } = factor;
  // NOTE: what the job gives out lies in memory that it uses again, and is copied here.
  const upload = (x: RealNdArray) => {
    const out = zeros(x.shape, { dtype });
    out.storage.array.set(x.data);
    return out.to(device);
  };
  const job = eighInBackground(factor.to('cpu').ndarray(), { from: U.to('cpu').ndarray() });
  const made = ({ values, vectors, rotation }: TurnedEigen): Turned => ({
    U: upload(vectors),
    s: tensor(values).astype(dtype).to(device).clamp(0),
    R: rotation && upload(rotation),
  });
  return {
    factor: () => upload(job.matrix),
    take(wait) {
      const found = job.take(wait);
      return found && (() => made(found));
    },
    release: () => job.release(),
  };
}
