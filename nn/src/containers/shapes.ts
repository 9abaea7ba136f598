/** Modules that compute nothing: the identity, and an axis taken apart. */

import { describe, ShapeError, type Tensor } from '@otimes/core';
import { anInteger, aShape, checkArgument } from '@otimes/core/extend';
import { Module } from '../module.ts';

/** x itself: for the place of a layer that is left out. */
export class Identity extends Module {
  static readonly builtIn: string = 'Identity';

  override forward(x: Tensor): Tensor {
    return x;
  }
}

/** One axis taken apart into several, the reverse of `Flatten`: `new Unflatten(1, [3, 4])` makes [batch, 12] [batch, 3, 4]. */
export class Unflatten extends Module {
  static readonly builtIn: string = 'Unflatten';
  readonly dim: number;
  readonly sizes: readonly number[];

  /** @param sizes of the new axes; one may be −1, and is what the others leave over */
  constructor(dim: number, sizes: readonly number[]) {
    super();
    checkArgument('Unflatten', 'dim', dim, anInteger);
    checkArgument('Unflatten', 'sizes', sizes, aShape);
    this.dim = dim;
    this.sizes = [...sizes];
    for (const [i, size] of this.sizes.entries())
      if (size !== -1)
        checkArgument('Unflatten', `sizes[${i}]`, size, { expected: 'an integer ≥ 0, or −1', is: isSize });
  }

  override forward(x: Tensor): Tensor {
    const axis = this.dim < 0 ? this.dim + x.rank : this.dim;
    const length = x.shape[axis];
    if (length === undefined) throw new ShapeError(`Unflatten: there is no axis ${this.dim} in ${describe(x)}`);
    const known = this.sizes.reduce((product, n) => (n === -1 ? product : product * n), 1);
    const sizes = this.sizes.map(n => (n === -1 && known > 0 ? length / known : n));
    if (sizes.reduce((product, n) => product * n, 1) !== length || !sizes.every(isSize))
      throw new ShapeError(`Unflatten: axis ${this.dim} of ${describe(x)} does not make [${this.sizes.join(', ')}]`);
    return x.reshape([...x.shape.slice(0, axis), ...sizes, ...x.shape.slice(axis + 1)]);
  }
}

const isSize = (v: unknown): boolean => Number.isInteger(v) && Number(v) >= 0;
