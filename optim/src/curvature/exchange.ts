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

/** A communicator that remembers whether a call of it has failed. */
export class Line implements Communicator {
  readonly rank: number;
  readonly size: number;
  /** Whether one has not ended well. */
  isCut = false;
  readonly #communicator: Communicator;

  constructor(communicator: Communicator) {
    this.rank = communicator.rank;
    this.size = communicator.size;
    this.#communicator = communicator;
  }

  sum(tensors: readonly Tensor[]): void | Promise<void> {
    return this.#watched(() => this.#communicator.sum(tensors));
  }

  broadcast(tensors: readonly Tensor[], from: number): void | Promise<void> {
    return this.#watched(() => this.#communicator.broadcast(tensors, from));
  }

  #watched(call: () => void | Promise<void>): void | Promise<void> {
    this.isCut = true;
    const open = call();
    const done = () => {
      this.isCut = false;
    };
    if (isPromise(open)) return open.then(done);
    done();
  }
}

/**
 * Sums tensors, and whether something is in the way of this process now. Throws, in all, where that is so in one; and in this one
 * where it has become so while it waited.
 *
 * @param isDisturbed asked at once, and again at the end
 * @param disturbed makes the error, of the first such process
 */
export function* summed(
  communicator: Communicator,
  tensors: readonly Tensor[],
  isDisturbed: () => boolean,
  disturbed: (rank: number) => Error,
): Turns<void> {
  const { rank, size } = communicator;
  const own = Number(isDisturbed());
  const flags = numbers([size], at => (at === rank ? own : 0));
  try {
    yield communicator.sum([...tensors, flags]);
    const first = (flags.toArray() as number[]).findIndex(flag => flag !== 0);
    if (first >= 0) throw disturbed(first);
    if (isDisturbed()) throw disturbed(rank);
  } finally {
    flags.storage.release();
  }
}

/** What every process has told, by its rank: a row of numbers each. */
export type Table = readonly (readonly number[])[];

/**
 * The rows of numbers that all processes tell. Where `tell` throws in one, all throw an error with the text of the first such
 * process, and of its class where that is one of a few; there it has the original as its cause.
 *
 * @param name who asks, for messages
 * @param width how many numbers `tell` returns, in every process
 */
export function* told(
  name: string,
  communicator: Communicator,
  width: number,
  tell: () => readonly number[],
): Turns<Table> {
  const { rank, size } = communicator;
  let row: readonly number[] = new Array<number>(width).fill(0);
  let failed: Failure | null = null;
  try {
    row = tell();
  } catch (error) {
    failed = { error };
  }
  // The first number is 1 in all: it tells whether sums are sums.
  const ownRow = [1, failed === null ? 0 : 1, ...row];
  const length = width + 2;
  const table = numbers([size, length], at => ownRow[at - rank * length] ?? 0);
  try {
    yield communicator.sum([table]);
    const rows = table.toArray() as number[][];
    checkSum(name, rows, rank, ownRow);
    const failing = rows.findIndex(([, fails]) => fails !== 0);
    if (failing >= 0) return yield* raise(communicator, failing, failed);
    return rows.map(([, , ...values]) => values);
  } finally {
    table.storage.release();
  }
}

/** Throws where a table is not the sum of what each process has told. One that averages, or does nothing, is told so in all. */
function checkSum(name: string, rows: readonly (readonly number[])[], rank: number, ownRow: readonly number[]): void {
  const op = `${name}: sum() of the communicator must add in place, and neither average nor round`;
  for (const [from, [mark, fails]] of rows.entries()) {
    if (mark !== 1)
      throw new Error(
        `${op}: the row of process ${from} came back as ${mark} times what it told. A sum is the same tensors, written to with copy_`,
      );
    if (fails !== 0 && fails !== 1) throw new Error(`${op}: a flag of process ${from}, 0 or 1, came back as ${fails}`);
  }
  const at = ownRow.findIndex(
    (told, i) => !(told === rows[rank]![i] || (Number.isNaN(told) && Number.isNaN(rows[rank]![i]))),
  );
  if (at >= 0)
    throw new Error(
      `${op}: of the row of process ${rank}, ${ownRow[at]} came back as ${rows[rank]![at]}. Tables are float64`,
    );
}

/** Throws unless a broadcast has brought the mark 1 that its sender set, and others left at 0. */
export function checkBroadcast(mark: number, from: number): void {
  if (mark !== 1)
    throw new Error(
      `broadcast() of the communicator must replace tensors in place: a mark of process ${from}, 1, came as ${mark}`,
    );
}

/** A mark for `checkBroadcast`, of one element, held: to be sent with other tensors, and released. */
export const markOf = ({ rank }: Communicator, from: number): Tensor => numbers([1], () => Number(rank === from));

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
  const { text, kind } = own === null ? { text: '', kind: 0 } : seenOf(own.error);
  const units = text.split('').map(unit => unit.charCodeAt(0));
  const sent = own === null ? [] : [1, kind, Math.min(text.length, LONGEST), ...units];
  const message = numbers([LONGEST + 3], i => sent[i] ?? 0);
  try {
    yield communicator.broadcast([message], from);
    const [mark, code, length, ...units] = message.toArray() as number[];
    checkBroadcast(mark!, from);
    const told = String.fromCharCode(...units.slice(0, length));
    const all = `process ${from} of ${communicator.size}: ${told}`;
    throw new CLASSES[code!]!(all, own === null ? undefined : { cause: own.error });
  } finally {
    message.storage.release();
  }
}

/** The text of what was thrown, and its class. Anything can be thrown: an object that has no text, or one that throws for it. */
function seenOf(error: unknown): { readonly text: string; readonly kind: number } {
  try {
    const text = String(error instanceof Error ? error.message : error);
    const kind = CLASSES.findIndex(one => error instanceof Error && error.constructor === one);
    return { text, kind: Math.max(kind, 0) };
  } catch {
    return { text: 'it threw something that has no text', kind: 0 };
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
export const COUNTS = 5;

/** `COUNTS` numbers of one process's statistics. */
export function countsOf({ ownBatch, rows, furtherRows, vanishing }: Statistics): readonly number[] {
  return [ownBatch, rows, Number(vanishing.vanished), Number(vanishing.expands), furtherRows];
}

/** What several processes know of a layer together. */
export class Whole {
  /** Examples of each, by rank. */
  readonly batches: readonly number[];
  readonly batch: number;
  readonly #rows: number;
  readonly #furtherRows: number;
  readonly #expands: boolean;

  /** @param first the column with which the layer's `countsOf` begin */
  constructor(table: Table, first: number) {
    this.batches = column(table, first);
    this.batch = total(this.batches);
    this.#rows = total(column(table, first + 1));
    this.#furtherRows = total(column(table, first + 4));
    this.#expands = column(table, first + 2).every(Boolean) && column(table, first + 3).some(Boolean);
  }

  /** What this process adds to the factors of all, which are the sums; held. `scale` is that of its gradients. */
  factors(own: Statistics, scale: number): Factors {
    const { A, G, expandedG } = own.factors(scale, this.#expands)!;
    const share = (rows: number, all: number) => rows / Math.max(1, all);
    if (own.hasFurther) {
      const n = A.size / 2;
      A.narrow(0, 0, n).scale_(share(own.rows, this.#rows));
      A.narrow(0, n, n).scale_(share(own.furtherRows, this.#furtherRows));
    } else A.scale_(share(own.rows, this.#rows));
    held(A);
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
