/** A block's factors on their way through `eighInBackground`, while training goes on in the old basis. */

import { type Tensor, tensor } from '@otimes/core';
import { held, lendNdarray, peekData, readsLater } from '@otimes/core/extend';
import { eighInBackground, type RealNdArray } from '@otimes/linalg';
import { type Decomposition, decomposeOne, decomposeStill, decomposition, isSolved, joined, Kfe } from '../basis.ts';
import type { RefreshJob } from '../refresh.ts';
import type { Side } from '../side.ts';

/** A factor's decomposition, and the rotation from the old basis to the new one; null for the identity. */
type Turned = Decomposition & { readonly R: Tensor | null };

/** One of the two factors, or a matrix of one. */
type SideJob = {
  /** A copy of it as it was. */
  factor(): Tensor;
  /** As in `Pending`. */
  ready(wait: boolean): boolean;
  now(): Turned;
  /** Ends what `factor` and `now` can be asked for. */
  release(): void;
};

/**
 * What `Kfe.of` finds, to the last bit; and so does `from.rotationTo`.
 *
 * @param from the basis that training goes on in
 */
export function startDecomposition(A: Tensor, G: Tensor, from: Kfe, step: number): RefreshJob {
  return (readsLater(A) ? startWhenRead : startNow)(A, G, from, step);
}

type Start = (...of: Parameters<typeof startDecomposition>) => RefreshJob;

/** For factors that are read with await: the reads are entered now, and the job begins when both have arrived. */
const startWhenRead: Start = (A, G, from, step) => {
  const { device } = A;
  // What is saved meanwhile.
  const copies = [A, G].map(x => held(x.clone()));
  let begun: RefreshJob | null = null;
  let failed: { readonly error: unknown } | null = null;
  // A check that failed is for a read of the program to tell, not for these.
  const peek = async (x: Tensor) => tensor(await peekData(x), { shape: x.shape, dtype: x.dtype, device: 'cpu' });
  const arrived = Promise.all([peek(A), peek(G)]).then(
    ([a, g]) => {
      begun = startNow(a, g, from.host, step);
      for (const x of copies) x.storage.release();
    },
    (error: unknown) => {
      failed = { error };
    },
  );
  return {
    get A() {
      return begun === null ? copies[0]! : begun.A.to(device);
    },
    get G() {
      return begun === null ? copies[1]! : begun.G.to(device);
    },
    step,
    from,
    arrived,
    ready: wait => failed !== null || (begun?.ready(wait) ?? false),
    now() {
      if (failed !== null) throw failed.error;
      if (begun === null) throw new Error('the factors have not arrived yet');
      const { kfe, rotation } = begun.now();
      return {
        kfe: kfe.on(device),
        rotation: { ...rotation, RA: rotation.RA?.to(device) ?? null, RG: rotation.RG?.to(device) ?? null },
      };
    },
  };
};

const startNow: Start = (A, G, from, step) => {
  const [left, right] = [startSide(A, from.UA, from.sides.A), startSide(G, from.UG, from.sides.G)];
  return {
    get A() {
      return left.factor();
    },
    get G() {
      return right.factor();
    },
    step,
    from,
    arrived: null,
    ready: wait => left.ready(wait) && right.ready(wait),
    now() {
      const [a, g] = [left.now(), right.now()];
      left.release();
      right.release();
      return { kfe: new Kfe(a, g, from.sides), rotation: { RA: a.R, RG: g.R, sides: from.sides } };
    },
  };
};

/** All matrices of a side, each a job of its own. */
function startSide(factor: Tensor, U: Tensor | null, side: Side): SideJob {
  if (U === null) {
    const still = factor.clone().keep();
    const now = () => ({ ...decomposeStill(side, still), R: null });
    return { factor: () => still, ready: () => true, now, release() {} };
  }
  const bases = side.matrices(U);
  const jobs = side.matrices(factor).map((F, i) => (isSolved(side, F.shape[0]!) ? start(F, bases[i]!) : trivial(F)));
  if (side.isExact) return jobs[0]!;
  return {
    factor: () => side.pack(jobs.map(job => job.factor())),
    ready: wait => jobs.every(job => job.ready(wait)),
    now() {
      const all = jobs.map(job => job.now());
      return { ...joined(side, all), R: side.pack(all.map(({ R }) => R!)) };
    },
    release() {
      for (const job of jobs) job.release();
    },
  };
}

/** A matrix [1, 1]. */
function trivial(F: Tensor): SideJob {
  const one = F.clone().keep();
  const now = () => {
    const found = decomposeOne(one);
    return { ...found, R: found.U };
  };
  return { factor: () => one, ready: () => true, now, release() {} };
}

function start(factor: Tensor, U: Tensor): SideJob {
  const { dtype, device } = factor;
  // NOTE: what the job gives out lies in memory that it uses again, and is copied here.
  const upload = ({ data, shape }: RealNdArray) => tensor(data, { shape, dtype, device });
  const job = eighInBackground(lendNdarray(factor.to('cpu')), { from: lendNdarray(U.to('cpu')) });
  return {
    factor: () => upload(job.matrix),
    ready(wait) {
      try {
        return job.take(wait) !== null;
      } catch {
        return true; // `now` throws it again
      }
    },
    now() {
      const { values, vectors, rotation } = job.take(true)!;
      const there = (x: Tensor) => x.astype(dtype).to(device);
      const n = job.matrix.shape[0]!;
      const diagonal = tensor(Float64Array.from({ length: n }, (_, i) => job.matrix.get(i, i)));
      return { ...decomposition(upload(vectors), there(tensor(values)), there(diagonal)), R: upload(rotation!) };
    },
    release: () => job.release(),
  };
}
