/** A device by a dozen kernels whose values come later: reads are awaited, and checks are told by the next one. */

import type { TypedArray } from '../dtype.ts';
import { type BadValue, readError } from '../errors.ts';
import { sizeOf } from '../shape.ts';
import { held, unscoped } from '../storage.ts';
import type { Operand } from './backend.ts';
import { type Scratch, within } from './composed/scratch.ts';
import { ComposedBackend } from './composed.ts';
import { emptyOperand, withLayout } from './operand.ts';

/**
 * Checks run on the device and end in one status, int32 [3]: the number of the first check that failed (from 1 on; 0 for
 * none), the position of its first bad value, and that value. While there is one, `assign` writes nothing once a check has
 * failed, and so does every kernel that is composed of it. A kernel of the device's own that writes in place looks at
 * `status` itself.
 *
 * A failure is told when the first read that was called after it rejects; `status` is null from then on, and what is called
 * later is written again. Checks between the failure and that moment are told with it. Other reads that were called before that
 * moment reject with the same error, but clear nothing: a check that failed since then keeps its status until a read tells it.
 */
export abstract class AwaitedBackend extends ComposedBackend {
  /** What checks found since the last read, or null where nothing was checked. */
  status: Operand | null = null;
  /** The errors of the checks since a failure was last told: another array after each, by which reads know what is theirs. */
  #checks: BadValue[] = [];
  /** What is to be undone if one of the first `after` of these has failed. */
  #undos: { readonly after: number; readonly undo: () => void }[] = [];

  /** The elements in row-major order, as they are after the kernels that were called before. */
  abstract fetch(x: Operand): Promise<TypedArray>;
  /** `assign` without a look at the status. */
  abstract write(y: Operand, x: Operand): void;

  read(): TypedArray {
    throw readError(this.device);
  }

  async readAsync(x: Operand, peek = false): Promise<TypedArray> {
    const { status } = this;
    const [checks, elements] = [this.#checks, this.fetch(x)];
    if (status === null) return elements;
    const [data, word] = await Promise.all([elements, this.fetch(status)]);
    const [failed, position, value] = word as Int32Array;
    if (failed === 0) {
      // Unless it was checked again meanwhile; then a later read does this.
      if (this.status === status) this.#clear();
      return data;
    }
    const broken: unknown[] = [];
    // Unless another read has told it already.
    if (!peek && this.#checks === checks) {
      const undos = this.#undos.filter(({ after }) => after >= failed!);
      this.#clear();
      for (const { undo } of undos.reverse()) attempt(undo, broken);
    }
    throw withCauses(checks[failed! - 1]!(position!, value!), broken);
  }

  onFailure(undo: () => void): void {
    if (this.#checks.length > 0) this.#undos.push({ after: this.#checks.length, undo });
  }

  #clear(): void {
    this.status?.storage.release();
    this.status = null;
    this.#checks = [];
    this.#undos = [];
  }

  assign(y: Operand, x: Operand): void {
    const { status } = this;
    if (status === null) return this.write(y, x);
    within(this, scratch => {
      const failed = scratch.binary('ne', withLayout(status, []), 0);
      const kept = scratch.empty(y.dtype, y.shape);
      this.where(failed, y, scratch.as(x, y.dtype), kept);
      this.write(y, kept);
    });
  }

  checkIndex(index: Operand, length: number, error: BadValue): void {
    this.#check(index, error, (scratch, values) => ({
      bad: scratch.binary('or', scratch.binary('lt', values, 0), scratch.binary('ge', values, length)),
      // An int32 itself.
      code: value => value,
    }));
  }

  checkFinite(x: Operand, error: BadValue): void {
    const named: BadValue = (position, code) => error(position, [-Infinity, Number.NaN, Infinity][code + 1]!);
    this.#check(x, named, (scratch, values) => {
      const [finite, bad] = [scratch.empty('bool', values.shape), scratch.empty('bool', values.shape)];
      this.unary('isFinite', values, finite);
      this.unary('not', finite, bad);
      // ±1 for ±∞, and 0 for NaN.
      const code = (value: Operand) => {
        const nan = scratch.empty('bool', value.shape);
        this.unary('isNaN', value, nan);
        return scratch.where(scratch.unary('not', nan), scratch.unary('sign', value), 0);
      };
      return { bad, code };
    });
  }

  #word(): Operand {
    return unscoped(() => held(emptyOperand(this, 'int32', [3])));
  }

  #check(
    x: Operand,
    error: BadValue,
    look: (scratch: Scratch, values: Operand) => { bad: Operand; code: (value: Operand) => Operand },
  ): void {
    const size = sizeOf(x.shape);
    if (size === 0) return;
    this.#checks.push(error);
    within(this, scratch => {
      const values = withLayout(scratch.packed(x), [size]);
      const { bad, code } = look(scratch, values);
      const ones = scratch.copy(bad, 'int32');
      const first = scratch.empty('int32', [1]);
      this.argReduce('argmax', ones, 0, withLayout(first, []));
      const found = this.#word();
      const part = (i: number) => withLayout(found, [1], [1], i);
      this.write(part(0), scratch.binary('mul', scratch.reduce('max', ones, [0]), this.#checks.length));
      this.write(part(1), first);
      this.write(part(2), code(scratch.gather(values, 0, first)));
      if (this.status === null) {
        this.status = found;
        return;
      }
      const next = this.#word();
      this.where(scratch.binary('ne', withLayout(this.status, []), 0), this.status, found, next);
      this.status.storage.release();
      found.storage.release();
      this.status = next;
    });
  }
}

/** What one undo throws must not keep others from running. */
function attempt(undo: () => void, errors: unknown[]): void {
  try {
    undo();
  } catch (error) {
    errors.push(error);
  }
}

/** The error of a check is what a read tells; undos that threw are its `cause`. */
function withCauses(error: Error, causes: readonly unknown[]): Error {
  if (causes.length > 0) error.cause = new AggregateError(causes, 'undoing what the check refused has failed too');
  return error;
}
