/**
 * How a Kronecker optimizer calls an eigensolver: it says beforehand what takes long, checks what comes back, and names
 * layer and option where memory ends.
 */

import { noGrad, OutOfMemoryError, scope, type Tensor } from '@otimes/core';
import { readsLater } from '@otimes/core/extend';
import type { NdArray } from 'ndarray';
import { type BasisTracker, checkSolved, defaultEigensolver, type Eigensolver, Kfe } from '../basis.ts';
import { checkBasis } from './check-basis.ts';
import { followed } from './follow.ts';

/** Factors as `Kfe.of` takes them, and [dOut, dIn]. */
export type Task = {
  readonly A: Tensor;
  readonly G: Tensor;
  readonly sizes: readonly [number, number];
  readonly label: string;
};

/** n³ a second of `eigh` on one core of 2020, where nothing was measured yet; a tenth of it is taken for a hiccup. */
const RATE = 1.5e9;
/** What is measured: smaller or shorter ones say little about the rate, for what they spend beside the n³ operations. */
const MEASURABLE = { n: 64, seconds: 0.05 };
/** Seconds from which on a decomposition is announced. */
const LONG = 2;
/** Matrices [n, n] of float64 that are alive at a time. */
const COPIES = 4;
/** Bytes that one matrix of float64 may have. */
const LARGEST = 2 ** 32;

/** Computes bases of factors by an eigensolver. */
export class Decomposer {
  readonly #name: string;
  readonly #solve: Eigensolver;
  readonly #tracker: BasisTracker | null;
  readonly #refreshEvery: number;
  readonly #announced = new Set<string>();
  #rate = RATE;

  /**
   * @param name of the optimizer, for messages
   * @param solver by a tracker, the first basis of a block comes from `eigh`
   * @param refreshEvery after how many steps it is done again, which messages tell
   */
  constructor(name: string, solver: Eigensolver | BasisTracker, refreshEvery: number) {
    this.#name = name;
    [this.#solve, this.#tracker] = typeof solver === 'function' ? [solver, null] : [defaultEigensolver, solver];
    this.#refreshEvery = refreshEvery;
  }

  /** Seconds that a matrix [n, n] takes, by the last one that took long enough to be measured. */
  secondsOf(n: number): number {
    return n ** 3 / this.#rate;
  }

  /**
   * The basis of a block. Throws what `checkBasis` throws, and an OutOfMemoryError that names the layer. A promise where the
   * factors are read with await: then they are copied to the host, both reads are entered at once, and it rejects with the
   * error of a check that failed on the device.
   *
   * @param from the block's basis, from which a tracker goes on, as one that can begin does without: then nothing is awaited
   * @param kept is told where that was not possible and a side kept its old eigenvectors
   */
  basis(task: Task, from: Kfe | null = null, kept: (reason: string) => void = console.warn): Kfe | Promise<Kfe> {
    const tracker = this.#tracker;
    if (tracker !== null && (from !== null || tracker.begin !== undefined))
      return namingMemory(this.#name, task.label, () =>
        noGrad(() => scope(() => followed(this.#name, task, from, tracker, kept))),
      );
    return readsLater(task.A) ? this.#basisLater(task) : this.#basis(task);
  }

  async #basisLater({ A, G, sizes, label }: Task): Promise<Kfe> {
    const { device } = A;
    const [a, g] = await Promise.all([A.cpu(), G.cpu()]);
    return noGrad(() => scope(() => this.#basis({ A: a, G: g, sizes, label })).on(device));
  }

  #basis(task: Task): Kfe {
    const { label } = task;
    return namingMemory(this.#name, label, () =>
      decomposed(this.#name, task, (matrix, what) => this.#timed(matrix, what)),
    );
  }

  #timed(matrix: NdArray, what: string): ReturnType<Eigensolver> {
    const n = matrix.shape[0]!;
    this.#announce(n, what);
    const start = performance.now();
    const found = this.#solve(matrix);
    const seconds = (performance.now() - start) / 1000;
    if (n >= MEASURABLE.n && seconds >= MEASURABLE.seconds)
      this.#rate = Math.max(n ** 3 / seconds, this.#solve === defaultEigensolver ? RATE / 10 : 0);
    return found;
  }

  /** A line before a wait, once for each factor. */
  #announce(n: number, what: string): void {
    const seconds = this.secondsOf(n);
    if (seconds < LONG || this.#announced.has(what)) return;
    this.#announced.add(what);
    console.warn(
      `${this.#name}: the ${what}, ${n} × ${n}, takes about ${seconds.toPrecision(2)} s and ` +
        `${inGB(COPIES * 8 * n * n)} to decompose, again every ${this.#refreshEvery} steps (refreshEvery). The option ` +
        'maxFactorDim leaves larger sides at the identity: 2048, say',
    );
  }
}

/**
 * The basis of factors on the host, of which `solve` decomposes each matrix; `what` is that one's name. Throws a TypeError unless
 * it returns ndarrays of the right shapes, and what `checkBasis` throws. `check` sees each result before negative eigenvalues become 0.
 */
export function decomposed(
  name: string,
  { A, G, sizes, label }: Task,
  solve: (matrix: NdArray, what: string) => ReturnType<Eigensolver>,
  check: (found: ReturnType<Eigensolver>, what: string) => void = () => {},
): Kfe {
  // The order in which `Kfe.of` asks.
  const sides = [A.rank === 0 ? [] : [`factor A of ${label}`], G.rank === 0 ? [] : [`factor G of ${label}`]].flat();
  const checked: Eigensolver = matrix => {
    const n = matrix.shape[0]!;
    const what = sides.shift() ?? label;
    const found = solve(matrix, what);
    checkSolved(name, what, found, n);
    check(found, what);
    return found;
  };
  const kfe = Kfe.of(A, G, checked, sizes);
  checkBasis(name, label, kfe, sizes);
  return kfe;
}

const inGB = (bytes: number) => `${(bytes / 1e9).toPrecision(2)} GB`;

/** Throws an OutOfMemoryError for a side that no decomposition has room for. */
export function checkFactorSize(name: string, label: string, side: 'A' | 'G', n: number): void {
  if (8 * n * n > LARGEST)
    throw new OutOfMemoryError(
      `${name}: the factor ${side} of ${label} would be ${n} × ${n}, ${inGB(8 * n * n)} in float64, and nothing can ` +
        'decompose it here. The option maxFactorDim leaves larger sides at the identity (2048, say)',
    );
}

/** Runs `run`; where memory ends in it, the error says at which layer, and what helps. */
export function namingMemory<T>(name: string, label: string, run: () => T): T {
  try {
    return run();
  } catch (error) {
    if (!(error instanceof Error) || !isOutOfMemory(error)) throw error;
    throw new OutOfMemoryError(
      `${name}: no memory for the factors of ${label}; the option maxFactorDim leaves large sides at the identity ` +
        `(${error.message})`,
      { cause: error },
    );
  }
}

function isOutOfMemory(error: Error): boolean {
  if (error instanceof OutOfMemoryError || error.name === 'OutOfMemory') return true;
  return error instanceof RangeError && /allocation failed|array length|buffer length/i.test(error.message);
}
