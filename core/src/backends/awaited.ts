/** A device by a dozen kernels whose values come later: reads are awaited, and checks are told by the next one. */

import { widestFloat } from '../device.ts';
import { type DType, isFloat, type TypedArray } from '../dtype.ts';
import { type BadValue, int32Error, readError } from '../errors.ts';
import { type Shape, sizeOf } from '../shape.ts';
import { held, unscoped } from '../storage.ts';
import type { Operand } from './backend.ts';
import { PendingChecks } from './checks.ts';
import { type Scratch, within } from './composed/scratch.ts';
import { ComposedBackend } from './composed.ts';
import { emptyOperand, withLayout } from './operand.ts';

/** The error of a check, and whether the value that it is given is a float of any size, which int32 does not hold. */
type Check = { readonly error: BadValue; readonly ofFloat: boolean };

/** What a check looks at in `values`, all of them in one axis: where they are bad, and in which int32 the status keeps one of them. */
type Look = (scratch: Scratch, values: Operand) => { bad: Operand; code: (value: Operand) => Operand };

/**
 * Checks run on the device and end in one status, int32 [3]: the number of the first check that failed (from 1 on; 0 for
 * none), the position of its first bad value, and that value. Where the value is a float that int32 does not hold, it stands
 * beside the status. While there is a status, `assign` writes nothing once a check has failed, and so does every kernel that is composed
 * of it. A kernel of the device's own that writes in place looks at `status` itself.
 *
 * Floats that become int32, in `copy` and in `assign`, are such a check: the device's `convert` and `write` never see one out of range.
 *
 * A failure is told when the first read that was called after it rejects; `status` is null from then on, and what is called
 * later is written again. Checks between the failure and that moment are told with it. Other reads that were called before that
 * moment reject with the same error, but clear nothing: a check that failed since then keeps its status until a read tells it.
 */
export abstract class AwaitedBackend extends ComposedBackend {
  /** What checks found since the last read, or null where nothing was checked. */
  status: Operand | null = null;
  /** The float of the check that the status names, [1], if that check is of floats; null where none of them was. */
  #float: Operand | null = null;
  #skip: Operand | null = null;
  readonly #checks = new PendingChecks<Check>();

  /** The elements in row-major order, as they are after the kernels that were called before. */
  abstract fetch(x: Operand): Promise<TypedArray>;
  /** `copy` without a check: floats that become int32 are in its range. */
  abstract convert(x: Operand, out: Operand): void;
  /** `assign` without a look at the status, and without a check: floats that become int32 are in its range. */
  abstract write(y: Operand, x: Operand): void;

  read(): TypedArray {
    throw readError(this.device);
  }

  async readAsync(x: Operand, peek = false): Promise<TypedArray> {
    const { status } = this;
    const [mark, elements] = [this.#checks.mark(), this.fetch(x)];
    if (status === null) return elements;
    const float = this.#float === null ? [] : this.fetch(this.#float);
    const [data, word, [bad]] = await Promise.all([elements, this.fetch(status), float]);
    const [failed, position, value] = word as Int32Array;
    if (failed === 0) {
      this.#checks.passed(mark);
      // Unless it was checked again meanwhile; then a later read does this.
      if (this.status === status) this.#clear();
      return data;
    }
    const errorOf = ({ error, ofFloat }: Check) => error(position!, ofFloat ? bad! : value!);
    throw this.#checks.tell(mark, failed!, peek, errorOf, () => this.#clear());
  }

  onFailure(undo: () => void): void {
    this.#checks.onFailure(undo);
  }

  skipIf(found: Operand | null): void {
    this.#skip = found;
  }

  #clear(): void {
    this.status?.storage.release();
    this.#float?.storage.release();
    this.status = null;
    this.#float = null;
  }

  copy(x: Operand, out: Operand): void {
    if (!narrows(x, out.dtype)) return this.convert(x, out);
    within(this, scratch => {
      // A float of either dtype is above −2³¹ − 1 or not; the next float32 below −2³¹ is −2³¹ − 256.
      const least =
        x.dtype === 'float64' ? scratch.binary('gt', x, -(2 ** 31) - 1) : scratch.binary('ge', x, -(2 ** 31));
      const fits = scratch.binary('and', least, scratch.binary('lt', x, 2 ** 31));
      const look: Look = inside => ({
        bad: inside.unary('not', withLayout(fits, [sizeOf(x.shape)])),
        code: () => inside.constant(0, 'int32'),
      });
      this.#check(x, { error: (_, value) => int32Error(value), ofFloat: true }, look);
      this.convert(scratch.where(fits, x, 0), out);
    });
  }

  assign(y: Operand, x: Operand): void {
    if (narrows(x, y.dtype)) {
      within(this, scratch => this.assign(y, scratch.copy(x, y.dtype)));
      return;
    }
    const words = [this.status, this.#skip].filter(word => word !== null);
    if (words.length === 0) return this.write(y, x);
    within(this, scratch => {
      const failed = words
        .map(word => scratch.binary('ne', withLayout(word, []), 0))
        .reduce((one, other) => scratch.binary('or', one, other));
      const kept = scratch.empty(y.dtype, y.shape);
      this.where(failed, y, scratch.as(x, y.dtype), kept);
      this.write(y, kept);
    });
  }

  restore(y: Operand, x: Operand): void {
    this.write(y, x);
  }

  checkIndex(index: Operand, length: number, error: BadValue): void {
    this.#check(index, { error, ofFloat: false }, (scratch, values) => ({
      bad: scratch.binary('or', scratch.binary('lt', values, 0), scratch.binary('ge', values, length)),
      // An int32 itself.
      code: value => value,
    }));
  }

  checkFinite(x: Operand, error: BadValue): void {
    const named: BadValue = (position, code) => error(position, [-Infinity, Number.NaN, Infinity][code + 1]!);
    this.#check(x, { error: named, ofFloat: false }, (scratch, values) => {
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

  /** Memory that outlives the kernel, with any content. */
  #held(dtype: DType, shape: Shape): Operand {
    return unscoped(() => held(emptyOperand(this, dtype, shape)));
  }

  #check(x: Operand, check: Check, look: Look): void {
    const size = sizeOf(x.shape);
    if (size === 0) return;
    const number = this.#checks.add(check);
    within(this, scratch => {
      const values = withLayout(scratch.packed(x), [size]);
      const { bad, code } = look(scratch, values);
      const ones = scratch.copy(bad, 'int32');
      const first = scratch.empty('int32', [1]);
      this.argReduce('argmax', ones, 0, withLayout(first, []));
      const value = scratch.gather(values, 0, first);
      const found = this.#held('int32', [3]);
      const part = (i: number) => withLayout(found, [1], [1], i);
      this.write(part(0), scratch.binary('mul', scratch.reduce('max', ones, [0]), number));
      this.write(part(1), first);
      this.write(part(2), code(value));
      const float = check.ofFloat ? this.#held(widestFloat(this), [1]) : null;
      if (float !== null) this.write(float, value);
      const { status } = this;
      if (status === null) {
        this.status = found;
        this.#float = float;
        return;
      }
      const failed = scratch.binary('ne', withLayout(status, []), 0);
      const merged = (old: Operand, one: Operand) => {
        const next = this.#held(one.dtype, one.shape);
        this.where(failed, old, one, next);
        for (const { storage } of [old, one]) storage.release();
        return next;
      };
      // Where the status has failed and there is no float, it is not of one.
      if (float !== null) this.#float = this.#float === null ? float : merged(this.#float, float);
      this.status = merged(status, found);
    });
  }
}

/** Whether elements are truncated, and may be out of range. */
const narrows = (x: Operand, dtype: DType): boolean => dtype === 'int32' && isFloat(x.dtype);
