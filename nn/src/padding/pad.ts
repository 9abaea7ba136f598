/** Padding layers for x [N, C, …], as PyTorch's: what stands around the rows or planes of each channel. */

import { describe, type PadMode, pad, ShapeError, type Tensor } from '@otimes/core';
import { aNumber, checkArgument, type Kind } from '@otimes/core/extend';
import { Module } from '../module.ts';

/** Elements before and after a row. */
export type Padding1d = number | readonly [left: number, right: number];
/** Elements around a plane. */
export type Padding2d = number | readonly [left: number, right: number, top: number, bottom: number];

const isCount = (v: unknown) => Number.isInteger(v) && Number(v) >= 0;
const NAMES = ['', '[left, right]', '[left, right, top, bottom]'];
const aPadding = (axes: number): Kind => ({
  expected: `an integer ≥ 0 or ${NAMES[axes]}`,
  is: v => isCount(v) || (Array.isArray(v) && v.length === 2 * axes && v.every(isCount)),
  error: RangeError,
});

abstract class Pad extends Module {
  /** Elements before and after each axis, the last one first, as in PyTorch. */
  readonly padding: readonly number[];
  readonly #name: string;
  readonly #mode: PadMode;

  constructor(name: string, axes: number, padding: number | readonly number[], mode: PadMode) {
    super();
    checkArgument(name, 'padding', padding, aPadding(axes));
    this.padding = typeof padding === 'number' ? new Array<number>(2 * axes).fill(padding) : [...padding];
    this.#name = name;
    this.#mode = mode;
  }

  override forward(x: Tensor): Tensor {
    const axes = this.padding.length / 2;
    if (x.rank !== axes + 2)
      throw new ShapeError(`${this.#name}: expected an input [N, C, ${axes === 1 ? 'L' : 'H, W'}], got ${describe(x)}`);
    const ends = Array.from({ length: axes }, (_, i) => [this.padding[2 * i]!, this.padding[2 * i + 1]!] as const);
    const value = this.filling;
    return pad(x, [[0, 0], [0, 0], ...ends.reverse()], { mode: this.#mode, ...(value !== undefined && { value }) });
  }

  protected get filling(): number | undefined {
    return undefined;
  }
}

abstract class ConstantPad extends Pad {
  readonly value: number;

  constructor(name: string, axes: number, padding: number | readonly number[], value: number) {
    super(name, axes, padding, 'constant');
    checkArgument(name, 'value', value, aNumber);
    this.value = value;
  }

  protected override get filling(): number {
    return this.value;
  }
}

/** A constant before and after each row of x [N, C, L]. */
export class ConstantPad1d extends ConstantPad {
  static readonly builtIn: string = 'ConstantPad1d';

  constructor(padding: Padding1d, value: number) {
    super('ConstantPad1d', 1, padding, value);
  }
}

/** A constant around each plane of x [N, C, H, W]. */
export class ConstantPad2d extends ConstantPad {
  static readonly builtIn: string = 'ConstantPad2d';

  constructor(padding: Padding2d, value: number) {
    super('ConstantPad2d', 2, padding, value);
  }
}

/** Zeros before and after each row of x [N, C, L]. */
export class ZeroPad1d extends Pad {
  static readonly builtIn: string = 'ZeroPad1d';

  constructor(padding: Padding1d) {
    super('ZeroPad1d', 1, padding, 'constant');
  }
}

/** Zeros around each plane of x [N, C, H, W]. */
export class ZeroPad2d extends Pad {
  static readonly builtIn: string = 'ZeroPad2d';

  constructor(padding: Padding2d) {
    super('ZeroPad2d', 2, padding, 'constant');
  }
}

/** What lies inside, mirrored at the ends, before and after each row of x [N, C, L]. */
export class ReflectionPad1d extends Pad {
  static readonly builtIn: string = 'ReflectionPad1d';

  constructor(padding: Padding1d) {
    super('ReflectionPad1d', 1, padding, 'reflect');
  }
}

/** What lies inside, mirrored at the ends, around each plane of x [N, C, H, W]. */
export class ReflectionPad2d extends Pad {
  static readonly builtIn: string = 'ReflectionPad2d';

  constructor(padding: Padding2d) {
    super('ReflectionPad2d', 2, padding, 'reflect');
  }
}

/** The first and last elements before and after each row of x [N, C, L]. */
export class ReplicationPad1d extends Pad {
  static readonly builtIn: string = 'ReplicationPad1d';

  constructor(padding: Padding1d) {
    super('ReplicationPad1d', 1, padding, 'replicate');
  }
}

/** The first and last elements around each plane of x [N, C, H, W]. */
export class ReplicationPad2d extends Pad {
  static readonly builtIn: string = 'ReplicationPad2d';

  constructor(padding: Padding2d) {
    super('ReplicationPad2d', 2, padding, 'replicate');
  }
}

/** What lies at the other end before and after each row of x [N, C, L]. */
export class CircularPad1d extends Pad {
  static readonly builtIn: string = 'CircularPad1d';

  constructor(padding: Padding1d) {
    super('CircularPad1d', 1, padding, 'circular');
  }
}

/** What lies at the other end around each plane of x [N, C, H, W]. */
export class CircularPad2d extends Pad {
  static readonly builtIn: string = 'CircularPad2d';

  constructor(padding: Padding2d) {
    super('CircularPad2d', 2, padding, 'circular');
  }
}
