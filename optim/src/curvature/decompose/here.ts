/**
 * How a Kronecker optimizer calls an eigensolver: it says beforehand what takes long, checks what comes back, and names
 * layer and option where memory ends.
 */

import { noGrad, OutOfMemoryError, scope, type Tensor } from '@otimes/core';
import { lendNdarray, readsLater } from '@otimes/core/extend';
import { type Eigen, eighAll } from '@otimes/linalg';
import type { NdArray } from 'ndarray';
import {
  type BasisTracker,
  checkSolved,
  defaultEigensolver,
  type Eigensolver,
  isSolved,
  Kfe,
  type Sides,
  sidesOf,
} from '../basis.ts';
import type { Side } from '../side.ts';
import { RATE } from '../structure.ts';
import { checkBasis } from './check-basis.ts';
import { followed } from './follow.ts';

/** Factors as `Kfe.of` takes them, and [dOut, dIn]. */
export type Task = {
  readonly A: Tensor;
  readonly G: Tensor;
  readonly sizes: readonly [number, number];
  /** How they are packed; exact, or of rank 0 the identity, where nothing is said. */
  readonly sides?: Sides | undefined;
  readonly label: string;
};

/** What is measured: smaller or shorter ones say little about the rate, for what they spend beside the n³ operations. */
const MEASURABLE = { n: 64, seconds: 0.05 };
/** Seconds from which on a decomposition is announced. */
const LONG = 2;
/** Matrices [n, n] of float64 that are alive at a time. */
const COPIES = 4;
/** Bytes that one matrix of float64 may have. */
const LARGEST = 2 ** 32;

/** Σ n³ from which on the matrices of several blocks are decomposed side by side: some 50 ms. */
const TOGETHER = 1e8;
/** Elements of the matrices that are decomposed at a time, unless one alone has more: a quarter of a gigabyte, and its vectors. */
const AT_A_TIME = 2 ** 25;

/** Computes bases of factors by an eigensolver. */
export class Decomposer {
  readonly #name: string;
  readonly #solve: Eigensolver;
  readonly #tracker: BasisTracker | null;
  readonly #refreshEvery: number;
  readonly #announced = new Set<string>();
  /** Where nothing was measured yet, the rule's; a tenth of it is taken for a hiccup. */
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

  /**
   * The bases of several blocks, in their order, each as `basis` has it. `eigh` decomposes their matrices side by side on the cores that
   * there are.
   */
  bases(
    all: readonly (Task & { readonly from: Kfe | null })[],
    kept?: (reason: string) => void,
  ): (Kfe | Promise<Kfe>)[] {
    const alone = this.#tracker !== null || this.#solve !== defaultEigensolver || all.some(({ A }) => readsLater(A));
    if (alone) return all.map(task => this.basis(task, task.from, kept));
    return grouped(all).flatMap(tasks => this.#together(tasks));
  }

  #together(tasks: readonly Task[]): Kfe[] {
    const orders = tasks.flatMap(task => ordersOf(task));
    const work = orders.reduce((sum, n) => sum + n ** 3, 0);
    if (orders.length < 2 || work < TOGETHER) return tasks.map(task => this.#basis(task));
    return noGrad(() =>
      scope(() => {
        for (const task of tasks) this.#announceAll(task);
        let found: Eigen[];
        try {
          found = eighAll(tasks.flatMap(matricesOf));
        } catch {
          // One after the other: who fails then is told by name, and needs less memory.
          return tasks.map(task => this.#basis(task));
        }
        return tasks.map(task =>
          namingMemory(this.#name, task.label, () => decomposed(this.#name, task, () => found.shift()!)),
        );
      }),
    );
  }

  #announceAll(task: Task): void {
    const { A, G } = sidesOfTask(task);
    const names = [...namesOf('A', A, task.label), ...namesOf('G', G, task.label)];
    for (const [i, n] of ordersOf(task).entries()) this.#announce(n, names[i]!);
  }

  async #basisLater(task: Task): Promise<Kfe> {
    const { device } = task.A;
    const [A, G] = await Promise.all([task.A.cpu(), task.G.cpu()]);
    return noGrad(() => scope(() => this.#basis({ ...task, A, G })).on(device));
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
        `${REMEDIES}`,
    );
  }
}

const sidesOfTask = ({ A, G, sizes, sides }: Task): Sides => sides ?? sidesOf(A, G, sizes);

/** n of the matrices that an eigensolver is asked for, in the order of `Kfe.of`. */
function ordersOf(task: Task): number[] {
  const { A, G } = sidesOfTask(task);
  return [A, G].flatMap(side => side.orders.filter(n => isSolved(side, n)));
}

/** These matrices, in float64. */
function matricesOf(task: Task): NdArray[] {
  const sides = sidesOfTask(task);
  return (['A', 'G'] as const).flatMap(name =>
    sides[name]
      .matrices(task[name])
      .filter(F => isSolved(sides[name], F.shape[0]!))
      .map(F => lendNdarray(F.astype('float64'))),
  );
}

/** Runs of tasks that are decomposed at a time. */
function grouped<T extends Task>(tasks: readonly T[]): T[][] {
  const groups: T[][] = [];
  let room = 0;
  for (const task of tasks) {
    const size = ordersOf(task).reduce((sum, n) => sum + n * n, 0);
    if (size > room || groups.length === 0) {
      groups.push([]);
      room = AT_A_TIME;
    }
    groups.at(-1)!.push(task);
    room -= size;
  }
  return groups;
}

/**
 * The basis of factors on the host, of which `solve` decomposes each matrix; `what` is that one's name. Throws a TypeError unless
 * it returns ndarrays of the right shapes, and what `checkBasis` throws. `check` sees each result before negative eigenvalues become 0.
 */
export function decomposed(
  name: string,
  task: Task,
  solve: (matrix: NdArray, what: string) => ReturnType<Eigensolver>,
  check: (found: ReturnType<Eigensolver>, what: string) => void = () => {},
): Kfe {
  const { A, G, sizes, label } = task;
  const sides = sidesOfTask(task);
  // The order in which `Kfe.of` asks.
  const asked = [...namesOf('A', sides.A, label), ...namesOf('G', sides.G, label)];
  const checked: Eigensolver = matrix => {
    const n = matrix.shape[0]!;
    const what = asked.shift() ?? label;
    const found = solve(matrix, what);
    checkSolved(name, what, found, n);
    check(found, what);
    return found;
  };
  const kfe = Kfe.of(A, G, checked, sizes, sides);
  checkBasis(name, label, kfe, sides);
  return kfe;
}

/** What messages call the matrices of a factor that an eigensolver gets. */
function namesOf(name: 'A' | 'G', side: Side, label: string): string[] {
  const { orders, isExact, structure } = side;
  return orders.flatMap((n, i) => {
    if (!isSolved(side, n)) return [];
    const part = isExact
      ? ''
      : structure === 'blocks'
        ? `, block ${i + 1} of ${orders.length},`
        : `, its ${['channels', 'taps'][i]},`;
    return [`factor ${name} of ${label}${part}`];
  });
}

/** What helps where factors are too large. */
const REMEDIES =
  "structure ('taps' or 'blocks', say) assumes more of large factors, and maxFactorDim leaves larger sides at the identity: 2048, say";

const inGB = (bytes: number) => `${(bytes / 1e9).toPrecision(2)} GB`;

/** Throws an OutOfMemoryError for a side that no decomposition has room for. */
export function checkFactorSize(name: string, label: string, of: 'A' | 'G', side: Side): void {
  const n = Math.max(0, ...side.orders);
  if (8 * n * n > LARGEST)
    throw new OutOfMemoryError(
      `${name}: the factor ${of} of ${label} would be ${n} × ${n}, ${inGB(8 * n * n)} in float64, and nothing can ` +
        `decompose it here. The option ${REMEDIES}`,
    );
}

/** Runs `run`; where memory ends in it, the error says at which layer, and what helps. */
export function namingMemory<T>(name: string, label: string, run: () => T): T {
  try {
    return run();
  } catch (error) {
    if (!(error instanceof Error) || !isOutOfMemory(error)) throw error;
    throw new OutOfMemoryError(
      `${name}: no memory for the factors of ${label}; the option ${REMEDIES} (${error.message})`,
      { cause: error },
    );
  }
}

function isOutOfMemory(error: Error): boolean {
  if (error instanceof OutOfMemoryError || error.name === 'OutOfMemory') return true;
  return error instanceof RangeError && /allocation failed|array length|buffer length/i.test(error.message);
}
