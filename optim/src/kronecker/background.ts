/** A block's factors on their way through `eighInBackground`, while training goes on in the old basis. */

import { type Tensor, tensor, zeros } from '@otimes/core';
import { type Eigen, eighInBackground } from '@otimes/linalg';
import { type Decomposition, decomposeMean, Kfe } from './kfe.ts';
import type { RefreshJob } from './state.ts';

/** One of the two factors. */
type Side = {
  /** A copy of it as it was. */
  factor(): Tensor;
  /** Null while it is not there. */
  take(wait: boolean): (() => Decomposition) | null;
  release(): void;
};

/**
 * @param sizes [dOut, dIn], as in `Kfe.of`, which finds the same to the last bit
 * @returns a job whose A and G can be read until it was taken
 */
export function startDecomposition(A: Tensor, G: Tensor, sizes: readonly [number, number], step: number): RefreshJob {
  const [dOut, dIn] = sizes;
  const [left, right] = [start(A, dIn), start(G, dOut)];
  let kfe: Kfe | null = null;
  return {
    get A() {
      return left.factor();
    },
    get G() {
      return right.factor();
    },
    step,
    take(wait) {
      if (kfe !== null) return kfe;
      const [a, g] = [left.take(wait), right.take(wait)];
      if (a === null || g === null) return null;
      kfe = new Kfe(a(), g());
      left.release();
      right.release();
      return kfe;
    },
  };
}

function start(factor: Tensor, size: number): Side {
  if (factor.rank === 0) {
    const mean = factor.clone().keep();
    return { factor: () => mean, take: () => () => decomposeMean(mean, size), release() {} };
  }
  const { dtype, device } = factor;
  // NOTE: what the job gives out lies in memory that it uses again, and is copied here.
  const upload = (x: Eigen['vectors']) => {
    const out = zeros(x.shape, { dtype });
    out.storage.array.set(x.data);
    return out.to(device);
  };
  const job = eighInBackground(factor.to('cpu').ndarray());
  return {
    factor: () => upload(job.matrix),
    take(wait) {
      const found = job.take(wait);
      return found && (() => ({ U: upload(found.vectors), s: tensor(found.values).astype(dtype).to(device).clamp(0) }));
    },
    release: () => job.release(),
  };
}
