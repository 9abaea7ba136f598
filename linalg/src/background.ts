// eigh in a worker thread while the caller goes on, by the same kernels and so to the same last bit; and the product that
// leads from an old eigenbasis to the new one.

import { Background, EighJob, type EighWorker } from '@otimes/kernels';
import { type Eigen, eigh } from './eigh.ts';
import { describe, fail } from './errors.ts';
import { matmul } from './gemm.ts';
import { eighKernel, rotationKernel } from './kernels.ts';
import {
  type AnyNdArray,
  expectArguments,
  type Real,
  type RealDtype,
  type RealNdArray,
  resultDtype,
  rowMajor,
  symmetryTolerance,
} from './ndarray.ts';
import { ndarrayOf } from './ndview.ts';
import { replaced } from './solver.ts';

export type BackgroundEighOptions = {
  /** A basis [n, n] in columns, of the matrix's dtype: then `rotation` leads from its coordinates to those of the vectors. */
  from?: AnyNdArray;
};

/** What `eigh` returns, and fromᵀ · vectors [n, n] in their dtype where `from` was given, else null. */
export type TurnedEigen = Eigen & { rotation: RealNdArray | null };

/** A decomposition that is under way. */
export type BackgroundEigh = {
  /** The matrix as it was, only to be read. */
  readonly matrix: RealNdArray;
  /**
   * The result, or null while it is not there; with `wait` it returns when it is. Throws what `eigh` throws, and an Error
   * where the worker has stopped.
   */
  take(wait: boolean): TurnedEigen | null;
  /** Lets the memory of matrix and results be used again: neither may be read after it. */
  release(): void;
};

/** Bytes of released memory that are kept for the next jobs. */
const KEEP = 256 * 2 ** 20;

/** Shared buffers of jobs by their size. */
class Buffers {
  readonly #free = new Map<number, ArrayBufferLike[]>();
  #bytes = 0;

  take(bytes: number): ArrayBufferLike {
    const buffer = this.#free.get(bytes)?.pop();
    if (buffer === undefined) return new SharedArrayBuffer(bytes);
    this.#bytes -= bytes;
    return buffer;
  }

  give(buffer: ArrayBufferLike): void {
    const bytes = buffer.byteLength;
    if (this.#bytes + bytes > KEEP) return;
    this.#bytes += bytes;
    const free = this.#free.get(bytes);
    if (free === undefined) this.#free.set(bytes, [buffer]);
    else free.push(buffer);
  }
}

let background = new Background();
let buffers = new Buffers();
let warned = false;

/** Takes the place of the process's worker; returns that. For tests. */
export function replaceBackground(by: Background): Background {
  const before = background;
  background = by;
  buffers = new Buffers();
  warned = false;
  return before;
}

/** Says once that there is no worker. */
function warn(why: string): void {
  if (!warned)
    console.warn(`otimes: decompositions do not run in the background but when their results are asked for, as ${why}`);
  warned = true;
}

/**
 * Begins to decompose a symmetric matrix [n, n] in a worker thread, which is started at the first call, serves all of the
 * process one after the other, and does not keep it alive. The matrix is copied, and so is `from`. Results are those of `eigh`
 * to the last bit, as the kernels compute them: what `setSolver` was given has no part in it. `rotation` is what core's
 * `matmul` makes of the vectors in their dtype, by the kernels too.
 *
 * `take` looks into shared memory, so that it works in a program that never awaits. Where it is to wait for what the worker
 * has not begun with, it computes that itself. A page's main thread, which may not sleep, waits by looking again and again.
 * Where there is no shared memory, no worker or no SIMD, one warning says why and `take` computes.
 */
export function eighInBackground(a: AnyNdArray, o: BackgroundEighOptions = {}): BackgroundEigh {
  expectArguments('eighInBackground', [a], o, { from: null });
  const { from } = o;
  if (from !== undefined) expectArguments('eighInBackground', [a, from]);
  const data = rowMajor('eigh', a);
  const [n = 0, cols] = a.shape;
  if (n !== cols) fail('eigh', 'expected a square matrix', describe(a));
  const dtype = resultDtype(a);
  const turns = from !== undefined;
  if (turns && (from.shape.join() !== a.shape.join() || resultDtype(from) !== dtype))
    fail('eigh', 'expected a basis of the shape and dtype of the matrix', describe(from), describe(a));
  const why = background.why();
  const bytes = EighJob.bytes(n, dtype, turns);
  const job = new EighJob(n, dtype, turns, why === null ? buffers.take(bytes) : new ArrayBuffer(bytes));
  job.matrix.set(data);
  if (turns) job.basis!.set(rowMajor('eigh', from));
  const tolerance = symmetryTolerance(a);
  return new Pending(job, why === null ? background.post(job, tolerance) : null, dtype, tolerance);
}

/** Σ n³ of what others could do, from which on it is worth to ask them: two matrices of 400 rows, of which one takes 20 ms. */
const WORTH = 6e7;

/**
 * `eigh` of symmetric matrices, side by side in worker threads on the cores that there are: the results are those of `eigh` to the
 * last bit. The caller's thread has its share of the work, and takes more where a worker has not begun. Small matrices, those that
 * `setSolver` was given a solver for, and all where there are no workers, are decomposed here one after the other. Throws what `eigh`
 * throws for a matrix that it refuses.
 */
export function eighAll(matrices: readonly AnyNdArray[], ...none: readonly never[]): Eigen[] {
  if (!Array.isArray(matrices)) fail('eighAll', 'expected a list of ndarrays', String(matrices));
  if (none.length > 0) fail('eighAll', 'expected one list of ndarrays', `${none.length + 1} arguments`);
  expectArguments('eighAll', matrices, {}, {});
  const costs = matrices.map(cost);
  const work = costs.reduce((sum, n) => sum + n, 0) - Math.max(0, ...costs);
  const here =
    matrices.some(a => replaced(a.shape[0]).eigh !== undefined) || !(work >= WORTH) || background.why() !== null;
  if (here) return matrices.map(a => eigh(a));
  const jobs = shared(costs).map((isElsewhere, i) => (isElsewhere ? eighInBackground(matrices[i]!) : null));
  try {
    const found = jobs.map((job, i) => (job === null ? eigh(matrices[i]!) : null));
    // The caller takes the next that nobody has begun, from the end, where workers come last.
    for (const [i, job] of [...jobs.entries()].reverse()) if (job !== null) found[i] = copied(job.take(true)!);
    return found as Eigen[];
  } finally {
    for (const job of jobs) job?.release();
  }
}

const cost = ({ shape }: AnyNdArray): number => (shape[0] ?? 0) ** 3;

/** Which matrices go to workers: the largest first, each to whom has the least so far (Graham 1969). */
function shared(costs: readonly number[]): boolean[] {
  const loads = new Array<number>(background.most + 1).fill(0);
  const elsewhere = new Array<boolean>(costs.length);
  const order = [...costs.keys()].sort((i, j) => costs[j]! - costs[i]!);
  for (const i of order) {
    const least = loads.indexOf(Math.min(...loads));
    loads[least]! += costs[i]!;
    elsewhere[i] = least > 0;
  }
  return elsewhere;
}

/** Out of memory that is used again. */
const copied = ({ values, vectors }: TurnedEigen): Eigen => ({
  values: ndarrayOf(values.data.slice(), [...values.shape]),
  vectors: ndarrayOf(vectors.data.slice(), [...vectors.shape]),
});

class Pending implements BackgroundEigh {
  readonly matrix: RealNdArray;
  readonly #job: EighJob;
  readonly #dtype: RealDtype;
  readonly #tolerance: number;
  #worker: EighWorker | null;
  #result: TurnedEigen | null = null;
  #released = false;

  constructor(job: EighJob, worker: EighWorker | null, dtype: RealDtype, tolerance: number) {
    this.#job = job;
    this.#worker = worker;
    this.#dtype = dtype;
    this.#tolerance = tolerance;
    this.matrix = this.#square(job.matrix);
  }

  #square(data: Real): RealNdArray {
    return ndarrayOf(data, [this.#job.n, this.#job.n]);
  }

  take(wait: boolean): TurnedEigen | null {
    if (this.#released) throw new Error('eighInBackground: take() after release()');
    const job = this.#job;
    while (this.#result === null) {
      const { status } = job;
      if (status === 'done')
        this.#result = {
          values: ndarrayOf(job.values, [job.n]),
          vectors: this.#square(job.vectors),
          rotation: job.basis && this.#square(job.basis),
        };
      else if (status === 'taken') this.#result = this.#here();
      else if (status === 'waiting' && this.#mayTake(wait) && job.claim()) continue;
      else if (status === 'waiting' || status === 'running') {
        const worker = this.#worker!;
        worker.check();
        const { ended } = worker;
        // The worker may have come to it since, and stopped after that.
        if (ended !== null && job.status !== status) continue;
        if (ended !== null && status === 'running') throw new Error(`eigh: the worker in the background ${ended}`);
        if (ended !== null) {
          this.#worker = background.post(job, this.#tolerance);
          continue;
        }
        if (!wait) return null;
        job.sleep(status);
      } else this.#fail(status);
    }
    return this.#result;
  }

  /** Whether nobody else will do it, or waiting would be idle. */
  #mayTake(wait: boolean): boolean {
    const missing = this.#worker === null ? background.why() : this.#worker.missing;
    if (missing !== null) warn(missing);
    return wait || this.#worker === null || missing !== null;
  }

  #here(): TurnedEigen {
    const { n, basis } = this.#job;
    const found = eighKernel(this.matrix, 'float64');
    if (found === null) {
      const { values, vectors } = eigh(this.matrix); // which throws, or does without kernels
      return { values, vectors, rotation: basis && matmul(this.#square(basis), vectors, { transposeA: true }) };
    }
    const { values, vectors } = found;
    // There is room for it where there was for the decomposition.
    const rotation = basis && this.#square(rotationKernel(n, basis, vectors)!);
    return { values: ndarrayOf(values, [n]), vectors: this.#square(vectors), rotation };
  }

  #fail(status: 'refused' | 'diverged' | 'failed'): never {
    if (status === 'failed') throw new Error(`eigh: the worker in the background failed: ${this.#job.reason}`);
    if (status === 'refused') eigh(this.matrix); // throws, and says what is wrong with it
    throw new Error(`eigh: divide and conquer did not converge: ${this.#dtype}[${this.matrix.shape}]`);
  }

  release(): void {
    if (this.#released) return;
    this.#released = true;
    // NOTE: where the worker has not finished with the buffer, a message with it may be under way: then it is not used again.
    if (!this.#job.claim() && this.#job.finished) buffers.give(this.#job.buffer);
  }
}
