/** What a tensor is: a strided view of a storage, with its place in the autograd graph. `methods.ts` adds what it can do. */

import { NdView } from '@otimes/linalg';
import type { NdArray } from 'ndarray';
import {
  aBoolean,
  aFunction,
  anInstance,
  checkArgument,
  checkNone,
  checkOptions,
  inspect,
  type Kind,
  received,
} from './check.ts';
import { type DType, isFloat, type TypedArray } from './dtype.ts';
import { DTypeError, describe, GraphError, readError, ShapeError } from './errors.ts';
import type { Node } from './graph.ts';
import type { Tensor } from './methods.ts';
import { type Json, print, toJson } from './print.ts';
import { keepGraph } from './scope.ts';
import { isContiguous, type Layout, type Shape, sameShape, sizeOf } from './shape.ts';
import { Storage } from './storage.ts';

/** Nested arrays, one level an axis. */
export type Nested = number | boolean | readonly Nested[];

/** What a registration returns: `remove()` undoes it. */
export interface Handle {
  remove(): void;
}

const UNSEEN = 'by zeroGrad() or grad = null, as a gradient that nobody had asked for';

/** What a read that was given an argument is told. */
const WHOLE = 'it reads the whole tensor; select, narrow and slice take parts';

/** Called with the complete gradient of a tensor; a tensor it returns takes the gradient's place. */
// biome-ignore lint/suspicious/noConfusingVoidType: most hooks return nothing, and `undefined` would make them say so
export type GradHook = (gy: Tensor) => Tensor | void;

export type { Tensor };

/**
 * The part of `Tensor` below the operations. They make their results with `make`, so that the class with the methods can
 * import them and not the other way round.
 */
export class TensorBase implements Layout {
  readonly storage: Storage;
  readonly shape: Shape;
  /** Elements between neighbours along each axis. */
  readonly strides: readonly number[];
  /** Index of the first element in the storage. */
  readonly offset: number;
  readonly dtype: DType;
  /** The operation that made this tensor, if it was recorded. */
  node: Node | null = null;
  #grad: Tensor | null = null;
  /** Whether someone else may hold the gradient. */
  #gradIsShared = false;
  #requiresGrad = false;
  #hooks: readonly { hook: GradHook; borrows: boolean }[] | null = null;

  constructor(storage: Storage, shape: Shape, strides: readonly number[], offset = 0) {
    this.storage = storage;
    this.shape = shape;
    this.strides = strides;
    this.offset = offset;
    this.dtype = storage?.dtype;
    if (this.dtype === undefined) checkArgument('Tensor', 'storage', storage, aStorage);
  }

  /** @internal A tensor with another layout or memory, outside of the graph. */
  make(storage: Storage, shape: Shape, strides: readonly number[], offset = 0): Tensor {
    return new TensorBase(storage, shape, strides, offset) as Tensor;
  }

  /** True if gradients flow to or through this tensor. Settable on leaves of a floating dtype. */
  get requiresGrad(): boolean {
    return this.#requiresGrad;
  }

  set requiresGrad(on: boolean) {
    if (typeof on !== 'boolean') checkArgument('requiresGrad', 'the value', on, aBoolean);
    if (on && !isFloat(this.dtype))
      throw new DTypeError(`requiresGrad: only float32 and float64 tensors have gradients, got ${describe(this)}`);
    if (!on && this.node !== null)
      throw new GraphError('requiresGrad: can be switched off on leaves only; use detach() for the value alone');
    this.#requiresGrad = on;
  }

  /** The sum of gradients that `backward` calls have left on this leaf. Yours to keep, and settable. */
  get grad(): Tensor | null {
    this.#gradIsShared = true;
    return this.#grad;
  }

  set grad(g: Tensor | null) {
    if (g !== null) this.#checkGrad(g);
    this.#setGrad(g, true);
  }

  #setGrad(g: Tensor | null, shared: boolean): void {
    const before = this.#grad;
    // A gradient that nobody has seen is the bulk of what a training step leaves behind; its memory comes back now.
    if (before !== null && before !== g && !this.#gradIsShared) before.storage.release(UNSEEN);
    this.#grad = g;
    this.#gradIsShared = shared;
  }

  #checkGrad(g: Tensor): void {
    checkArgument('grad', 'the gradient', g, aTensor);
    const fits = sameShape(g.shape, this.shape) && g.dtype === this.dtype;
    if (!fits) throw new ShapeError(`grad: expected a gradient like the tensor, ${describe(this)}, got ${describe(g)}`);
    checkSameDevice('grad', g, this.storage);
  }

  /** @internal `grad` for a look that ends before it is replaced or set to null, when its memory may be given back. */
  borrowGrad(): Tensor | null {
    return this.#grad;
  }

  /** @internal Sets a gradient that nobody else holds. */
  receiveGrad(g: Tensor): void {
    this.#setGrad(g, false);
  }

  get device(): string {
    return this.storage.backend.device;
  }

  /** Number of axes. */
  get rank(): number {
    return this.shape.length;
  }

  /** Number of elements. */
  get size(): number {
    return sizeOf(this.shape);
  }

  /** True for a tensor that no recorded operation made. */
  get isLeaf(): boolean {
    return this.node === null;
  }

  /**
   * Calls `hook` with this tensor's gradient in each backward pass, once it is complete and before it flows on.
   * What it sees is its own to keep, unless it `borrows`: then it promises to hold on to nothing.
   * Throws a GraphError on a tensor that does not require a gradient.
   */
  onGrad(hook: GradHook, o: { borrows?: boolean } = {}): Handle {
    checkArgument('onGrad', 'hook', hook, aFunction);
    checkOptions('onGrad', o, { borrows: aBoolean });
    if (!this.#requiresGrad)
      throw new GraphError(`onGrad: ${describe(this)} does not require a gradient, so none will come`);
    // One registration is one object, so that removing it leaves others of the same function.
    const registration = { hook, borrows: o.borrows ?? false };
    this.#hooks = [...(this.#hooks ?? []), registration];
    return {
      remove: () => {
        const others = this.#hooks?.filter(r => r !== registration) ?? [];
        this.#hooks = others.length === 0 ? null : others;
      },
    };
  }

  /** @internal */
  get hasGradHooks(): boolean {
    return this.#hooks !== null;
  }

  /** @internal Whether all hooks only borrow what they see. */
  get gradHooksBorrow(): boolean {
    return this.#hooks === null || this.#hooks.every(({ borrows }) => borrows);
  }

  /** @internal Runs the hooks on a complete gradient and returns what flows on. */
  runGradHooks(gy: Tensor): Tensor {
    if (this.#hooks === null) return gy;
    for (const { hook } of this.#hooks) {
      const replaced = hook(gy);
      if (replaced === undefined) continue;
      if (!isTensor(replaced) || !sameShape(replaced.shape, gy.shape) || replaced.dtype !== gy.dtype)
        throw new ShapeError(
          `onGrad: a hook must return ${describe(gy)}, like the gradient, or nothing, got ${received(replaced)}`,
        );
      checkSameDevice('onGrad', replaced, gy.storage);
      gy = replaced;
    }
    return gy;
  }

  /** Survives the end of the `scope` it was made in. */
  keep(): this {
    this.storage.keep();
    keepGraph(this);
    return this;
  }

  /** The single element as a number (booleans are 0 and 1). Throws a ShapeError unless there is exactly one. */
  item(): number {
    checkSingle('item', this);
    return this.storage.backend.read(this)[0]!;
  }

  /** A copy of the elements in row-major order. Throws on a device that is read with await: `await t.data()` works on all. */
  dataSync(): TypedArray {
    return this.storage.backend.read(this);
  }

  /**
   * As `dataSync`, on every device. Rejects with the error of a check that failed on a device that is read with await; what is
   * trained there is then as it was before the step that failed.
   */
  async data(...none: []): Promise<TypedArray> {
    checkNone('data', none, WHOLE);
    const { backend } = this.storage;
    return backend.readAsync === undefined ? backend.read(this) : backend.readAsync(this);
  }

  /** As `item`, on every device. */
  async number(...none: []): Promise<number> {
    checkNone('number', none, WHOLE);
    checkSingle('number', this);
    return (await this.data())[0]!;
  }

  /** As `toArray`, on every device. */
  async array(...none: []): Promise<Nested> {
    checkNone('array', none, WHOLE);
    return nested(this, await this.data());
  }

  /** A copy as nested arrays; a number for rank 0. */
  toArray(): Nested {
    return nested(this, this.dataSync());
  }

  /**
   * A scijs ndarray over the same memory: writing to it writes to the tensor, and the other way round. Autograd does not
   * see such writes. The first call moves the elements to an array of their own, which the ndarray and every view of its
   * `data` keep alive; kernels in WebAssembly then read the tensor through a copy. For a look alone take `dataSync()`. Throws on
   * a device that is read with await.
   */
  ndarray(): NdArray<TypedArray> {
    if (this.storage.backend.readAsync !== undefined) throw readError(this.device);
    return new NdView(this.storage.expose(), this.shape, this.strides, this.offset);
  }

  /**
   * In JavaScript's arithmetic and comparisons a tensor of one element is its number: `total += loss`, `loss < best`. A TypeError for
   * larger ones, which have methods for that; in text every tensor is as `toString` shows it.
   */
  [Symbol.toPrimitive](hint: string): number | string {
    if (hint === 'string') return this.toString();
    if (this.size !== 1)
      throw new TypeError(
        `operator: expected a tensor of one element, got ${describe(this)}; + - * / < > are methods here: x.add(y), x.lt(y), and ` +
          `text is \`\${x}\``,
      );
    return this.item();
  }

  /**
   * The values, as `console.log` shows them too: four significant digits, the edges only of more than 1000 elements; then
   * dtype, shape, and the device if it is not 'cpu'. Computes nothing: a tensor without values to see says why.
   */
  toString(): string {
    return print(this);
  }

  /** @internal For the consoles of Node, Deno and Bun. */
  [inspect](depth?: unknown): string {
    return print(this, typeof depth === 'number' && depth < 0);
  }

  /**
   * Nested arrays, a number for rank 0; NaN and infinities as text ('NaN'), since JSON has no numbers for them.
   * Throws a ShapeError for more than 2²⁴ elements.
   */
  toJSON(): Json {
    return toJson(this);
  }

  get [Symbol.toStringTag](): string {
    return `Tensor ${describe(this)}`;
  }

  /** True if the elements follow each other in row-major order. */
  get isContiguous(): boolean {
    return isContiguous(this);
  }
}

function checkSingle(op: string, x: TensorBase): void {
  if (x.size !== 1) throw new ShapeError(`${op}: expected exactly one element, got ${describe(x)}`);
}

/** Row-major `data` as nested arrays; a number for rank 0. */
function nested({ shape, dtype }: TensorBase, data: TypedArray): Nested {
  let next = 0;
  const level = (axis: number): Nested => {
    if (axis === shape.length) {
      const value = data[next++]!;
      return dtype === 'bool' ? value !== 0 : value;
    }
    return Array.from({ length: shape[axis]! }, () => level(axis + 1));
  };
  return level(0);
}

/**
 * An ndarray over the memory of a tensor, for a look that ends before anything is allocated; it must not be kept or written
 * to.
 */
export function lendNdarray(x: Tensor): NdArray<TypedArray> {
  return new NdView(x.storage.array, x.shape, x.strides, x.offset);
}

/** What only `tensor`, `zeros` and the like have at hand. */
const aStorage: Kind = {
  expected: 'a Storage',
  is: v => v instanceof Storage,
  hint: () => 'tensor(…) makes a tensor from numbers',
};

export const isTensor = (value: unknown): value is Tensor => value instanceof TensorBase;

/** Throws unless all of `xs` are tensors. */
export function checkTensors(op: string, ...xs: readonly unknown[]): void {
  for (let i = 0; i < xs.length; i++) if (!(xs[i] instanceof TensorBase)) throw noTensor(op, xs, xs[i]);
}

/** Throws unless `x` lies where `storage` does. */
export function checkSameDevice(op: string, x: Tensor, { backend }: Storage): void {
  if (x.storage.backend !== backend)
    throw new DTypeError(`${op}: expected tensors on one device, got ${backend.device} and ${x.device}`);
}

function noTensor(op: string, xs: readonly unknown[], x: unknown): TypeError {
  const meant = aTensor.hint!(x);
  return new TypeError(
    `${op}: expected ${xs.length === 1 ? 'a tensor' : 'tensors'}, got ${xs.map(one => received(one)).join(' and ')}` +
      (meant && `; ${meant}`),
  );
}

/** An argument that must be a tensor. */
export const aTensor: Kind = anInstance(TensorBase, 'a tensor', v =>
  Array.isArray(v) || typeof v === 'number' ? 'tensor(…) makes one' : '',
);

/** An argument that must be an array of tensors. */
export const someTensors: Kind = {
  expected: 'an array of tensors',
  is: v => Array.isArray(v) && v.every(isTensor),
  hint: v => (isTensor(v) ? 'put them into one array: [a, b]' : ''),
};

/** `x.grad` for a look that ends before it is replaced or set to null, when its memory may be given back. */
export const borrowGrad = (x: Tensor): Tensor | null => x.borrowGrad();
