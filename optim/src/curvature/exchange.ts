/**
 * What processes that train one model tell each other, beyond sums of tensors: numbers of each, and errors. All of them enter the
 * same exchanges in the same order, whatever happens in one of them, so that none waits for another in vain.
 */

import { OutOfMemoryError, type Tensor, tensor, unscoped } from '@otimes/core';
import { held, readsLater } from '@otimes/core/extend';
import type { Communicator } from './communicator.ts';
import type { Factors, Statistics } from './factors.ts';

/** A computation that may have to wait in between: it yields what for. */
export type Turns<T> = Generator<void | Promise<void>, T, void>;

/** Runs it: at once, if none of what it waits for is a promise. */
export function inTurns(turns: Turns<void>): void | Promise<void> {
  for (let turn = turns.next(); !turn.done; turn = turns.next())
    if (isPromise(turn.value)) return waiting(turns, turn.value);
}

async function waiting(turns: Turns<void>, first: Promise<void>): Promise<void> {
  let next: void | Promise<void> = first;
  for (;;) {
    let turn: IteratorResult<void | Promise<void>, void>;
    try {
      await next;
      turn = turns.next();
    } catch (error) {
      // What it waited for has failed, or the computation itself: then this throws the same error.
      turn = turns.throw(error);
    }
    if (turn.done) return;
    next = turn.value;
  }
}

const isPromise = (v: unknown): v is Promise<void> =>
  typeof v === 'object' && v !== null && 'then' in v && typeof v.then === 'function';

/** What every process has told, by its rank: a row of numbers each. */
export type Table = readonly (readonly number[])[];

/**
 * The rows of numbers that all processes tell. Where `tell` throws in one, all throw an error with the text of the first such
 * process, and of its class where that is one of a few; there it has the original as its cause.
 *
 * @param width how many numbers `tell` returns, in every process
 */
export function* told(communicator: Communicator, width: number, tell: () => readonly number[]): Turns<Table> {
  const { rank, size } = communicator;
  let row: readonly number[] = new Array<number>(width).fill(0);
  let failed: Failure | null = null;
  try {
    row = tell();
  } catch (error) {
    failed = { error };
  }
  const ownRow = [failed === null ? 0 : 1, ...row];
  const table = numbers([size, width + 1], at => ownRow[at - rank * (width + 1)] ?? 0);
  try {
    yield communicator.sum([table]);
    const rows = table.toArray() as number[][];
    const failing = rows.findIndex(([fails]) => fails !== 0);
    if (failing >= 0) return yield* raise(communicator, failing, failed);
    return rows.map(([, ...values]) => values);
  } finally {
    table.storage.release();
  }
}

type Failure = { readonly error: unknown };

/** Characters of a message that others see. */
const LONGEST = 1000;
/** Classes that an error keeps on its way; others become an `Error`. */
const CLASSES: readonly (new (message: string, options?: ErrorOptions) => Error)[] = [
  Error,
  TypeError,
  RangeError,
  OutOfMemoryError,
];

/** Throws, in all processes, the error of one of them. */
function* raise(communicator: Communicator, from: number, own: Failure | null): Turns<never> {
  const { error } = own ?? {};
  const text = error instanceof Error ? error.message : String(error);
  const kind = CLASSES.findIndex(one => error instanceof Error && error.constructor === one);
  const sent = [Math.max(kind, 0), Math.min(text.length, LONGEST), ...text.split('').map(unit => unit.charCodeAt(0))];
  const message = numbers([LONGEST + 2], i => sent[i] ?? 0);
  try {
    yield communicator.broadcast([message], from);
    const [code, length, ...units] = message.toArray() as number[];
    const told = String.fromCharCode(...units.slice(0, length));
    const all = `process ${from} of ${communicator.size}: ${told}`;
    throw new CLASSES[code!]!(all, own === null ? undefined : { cause: error });
  } finally {
    message.storage.release();
  }
}

/** A float64 tensor on the host that no scope holds. */
function numbers(shape: readonly number[], at: (i: number) => number): Tensor {
  const size = shape.reduce((product, n) => product * n, 1);
  return unscoped(() =>
    held(
      tensor(
        Float64Array.from({ length: size }, (_, i) => at(i)),
        { shape, device: 'cpu' },
      ),
    ),
  );
}

/** What the numbers of one column say, by rank. */
export const column = (table: Table, i: number): readonly number[] => table.map(row => row[i]!);

export const total = (numbers: readonly number[]): number => numbers.reduce((sum, n) => sum + n, 0);

/**
 * Whether all say so, 1, and not 0. Throws where they differ.
 *
 * @param differing makes the error, of the first process that says so and the first that does not
 */
export function agreed(flags: readonly number[], differing: (has: number, lacks: number) => Error): boolean {
  const [has, lacks] = [flags.indexOf(1), flags.indexOf(0)];
  if (has >= 0 && lacks >= 0) throw differing(has, lacks);
  return has >= 0;
}

/** Examples and rows of a layer, and whether G of 'reduce' vanished, as `countsOf` lists them for one process. */
export const COUNTS = 4;

/** `COUNTS` numbers of one process's statistics. */
export function countsOf({ ownBatch, rows, vanishing: { vanished, expands } }: Statistics): readonly number[] {
  return [ownBatch, rows, Number(vanished), Number(expands)];
}

/** What several processes know of a layer together. */
export class Whole {
  /** Examples of each, by rank. */
  readonly batches: readonly number[];
  readonly batch: number;
  readonly #rows: number;
  readonly #expands: boolean;

  /** @param first the column with which the layer's `countsOf` begin */
  constructor(table: Table, first: number) {
    this.batches = column(table, first);
    this.batch = total(this.batches);
    this.#rows = total(column(table, first + 1));
    this.#expands = column(table, first + 2).every(Boolean) && column(table, first + 3).some(Boolean);
  }

  /** What this process adds to the factors of all, which are the sums; held. `scale` is that of its gradients. */
  factors(own: Statistics, scale: number): Factors {
    const { A, G, expandedG } = own.factors(scale, this.#expands)!;
    held(A.scale_(own.rows / this.#rows));
    held(G.scale_(own.ownBatch / this.batch));
    return { A, G, expandedG };
  }
}

/** Throws where several processes would train a parameter that is read with await. `name` is who would, for messages. */
export function checkReadAtOnce(name: string, p: Tensor, { size }: Communicator): void {
  if (size > 1 && readsLater(p))
    throw new TypeError(
      `${name}: a communicator of ${size} processes needs a model on a device that is read at once, and '${p.device}' is read ` +
        'with await',
    );
}
