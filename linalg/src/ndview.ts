/**
 * A scijs ndarray: all members that the package ndarray documents, with its rules. It is written out here because the package
 * compiles its classes from text, which costs a page 2 kB and the right to forbid `eval`.
 */

import type { NdArray } from 'ndarray';

/** What a tensor's memory may be, of any dtype. */
type TypedArray = Float32Array | Float64Array | Int32Array | Uint8Array;
type Length = number | null | undefined;
const given = (n: Length): n is number => typeof n === 'number' && n >= 0;

const rowMajor = (shape: readonly number[]): number[] =>
  shape.map((_, i) => shape.slice(i + 1).reduce((n, length) => n * length, 1));

export class NdView implements NdArray<TypedArray> {
  data: TypedArray;
  shape: number[];
  stride: number[];
  offset: number;
  dtype: NdArray<TypedArray>['dtype'];

  /** Row-major by default. */
  constructor(data: TypedArray, shape: readonly number[], stride: readonly number[] = rowMajor(shape), offset = 0) {
    this.data = data;
    this.shape = [...shape];
    this.stride = [...stride];
    this.offset = offset;
    // Float32Array → float32
    this.dtype = Object.prototype.toString.call(data).slice(8, -6).toLowerCase() as typeof this.dtype;
  }

  get dimension(): number {
    return this.shape.length;
  }

  get size(): number {
    return this.shape.reduce((n, length) => n * length, 1);
  }

  /** The axes, that of the smallest stride first. */
  get order(): number[] {
    return this.stride.map((_, i) => i).sort((a, b) => Math.abs(this.stride[a]!) - Math.abs(this.stride[b]!));
  }

  get T(): NdView {
    return this.transpose(...this.shape.map((_, i) => i).reverse());
  }

  index(...at: number[]): number {
    let index = this.offset;
    for (let i = 0; i < this.shape.length; i++) index += at[i]! * this.stride[i]!;
    return index;
  }

  get(...at: number[]): number {
    return this.data[this.index(...at)]!;
  }

  set(...at: number[]): number {
    const value = at[this.shape.length]!;
    this.data[this.index(...at)] = value;
    return value;
  }

  /** Up to these indices along each axis, which they exclude. */
  hi(...to: number[]): NdView {
    return this.#with(this.shape.map((length, i) => (given(to[i]) ? to[i] | 0 : length)));
  }

  /** From these indices on. */
  lo(...from: number[]): NdView {
    const by = this.shape.map((_, i) => (given(from[i]) ? from[i] | 0 : 0));
    return this.#with(
      this.shape.map((length, i) => length - by[i]!),
      this.stride,
      by,
    );
  }

  /** Every n-th element along each axis, from the other end for a negative n. */
  step(...every: number[]): NdView {
    const by = this.shape.map((_, i) => (typeof every[i] === 'number' ? every[i]! | 0 : 1));
    return this.#with(
      this.shape.map((length, i) => Math.ceil(length / Math.abs(by[i]!))),
      this.stride.map((stride, i) => stride * by[i]!),
      this.shape.map((length, i) => (by[i]! < 0 ? length - 1 : 0)),
    );
  }

  transpose(...axes: number[]): NdView {
    const order = this.shape.map((_, i) => (axes[i] ?? 0) | 0);
    return this.#with(
      order.map(i => this.shape[i]!),
      order.map(i => this.stride[i]!),
    );
  }

  /** Without the axes for which an index is given: what lies there. */
  pick(...at: Length[]): NdView {
    const rest = (list: readonly number[]) => list.filter((_, i) => !given(at[i]));
    return this.#with(
      rest(this.shape),
      rest(this.stride),
      at.map(i => (given(i) ? i | 0 : 0)),
    );
  }

  #with(shape: number[], stride = this.stride, from: readonly number[] = []): NdView {
    const offset = from.reduce((sum, n, i) => sum + n * (this.stride[i] ?? 0), this.offset);
    return new NdView(this.data, shape, stride, offset);
  }
}

type Real = Float32Array | Float64Array;

/** A row-major view of floats. */
export function ndarrayOf(data: Float64Array, shape: readonly number[]): NdArray<Float64Array>;
export function ndarrayOf(data: Real, shape: readonly number[]): NdArray<Real>;
export function ndarrayOf(data: Real, shape: readonly number[]): NdArray<Real> {
  return new NdView(data, shape) as NdArray<Real>;
}
