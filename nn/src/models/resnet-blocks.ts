/** The blocks of residual networks (He et al. 2016), with torchvision's parameter names. */

import type { Shape, Tensor } from '@otimes/core';
import { aBoolean, checkOptions, oneOf } from '@otimes/core/extend';
import { ReLU } from '../activations/basic.ts';
import { insides } from '../calls.ts';
import { checkPositive, PLACEMENT, type Placement, placed } from '../check.ts';
import { Sequential } from '../containers/sequential.ts';
import { Conv2d } from '../convolution/conv2d.ts';
import { type InitOptions, kaimingNormal } from '../init.ts';
import { Module } from '../module.ts';
import { BatchNorm2d } from '../normalization/batch.ts';
import { recomputed } from './recomputed.ts';

export type ResidualOptions = Placement & {
  /**
   * Whether backward computes the block again instead of keeping what lies inside of it: less memory, a second forward pass, the same
   * gradients. See `checkpoint` of `@otimes/core`. KFAC, EKFAC and STEVE refuse it where they draw labels (`fisher: 'sampled'`). Default false.
   */
  checkpoint?: boolean;
};

export type BasicBlockOptions = ResidualOptions & {
  /**
   * What brings x to the shape of the branch where it has another (He et al. 2016, §3.3): 'B' (default), a 1×1 convolution and batch norm; 'A',
   * the places that the stride leaves over, and channels of zeros, half of them before and half behind those of x, without parameters.
   */
  shortcut?: 'A' | 'B';
};

const RESIDUAL = { checkpoint: aBoolean, ...PLACEMENT };

const init = (shape: Shape, o: InitOptions) => kaimingNormal(shape, { ...o, mode: 'fanOut' });

/** A convolution without bias that keeps the size of the plane, except for the stride. */
export function conv(cIn: number, cOut: number, kernel: number, stride: number, o: Placement): Conv2d {
  return new Conv2d(cIn, cOut, kernel, { ...o, stride, padding: (kernel - 1) / 2, bias: false, init });
}

/** Brings x to the shape of the branch; null if it has that shape already. */
function projected(cIn: number, cOut: number, stride: number, o: Placement): Sequential | null {
  if (stride === 1 && cIn === cOut) return null;
  return new Sequential(conv(cIn, cOut, 1, stride, o), new BatchNorm2d(cOut, o));
}

/** [N, cIn, H, W] → [N, cOut, ⌈H/stride⌉, ⌈W/stride⌉] without parameters: some places, and channels of zeros around those of x. */
function padded(x: Tensor, cOut: number, stride: number): Tensor {
  const missing = cOut - x.shape[1]!;
  const before = Math.floor(missing / 2);
  const places = stride === 1 ? x : x.slice(null, null, [null, null, stride], [null, null, stride]);
  return missing === 0
    ? places
    : places.pad([
        [0, 0],
        [before, missing - before],
      ]);
}

/** Two 3×3 convolutions, [N, cIn, H, W] → [N, width, H/stride, W/stride]. */
export class BasicBlock extends Module {
  static readonly builtIn: string = 'BasicBlock';
  static readonly expansion: number = 1;
  readonly conv1: Conv2d;
  readonly bn1: BatchNorm2d;
  readonly relu = new ReLU();
  readonly conv2: Conv2d;
  readonly bn2: BatchNorm2d;
  /** Null where x is added as it is, and with shortcut 'A'. */
  readonly downsample: Sequential | null;
  readonly #checkpoint: boolean;
  /** Of a shortcut without parameters; else null. */
  readonly #padding: { readonly cOut: number; readonly stride: number } | null;

  constructor(cIn: number, width: number, stride = 1, o: BasicBlockOptions = {}) {
    super();
    checkPositive(new.target.builtIn, { cIn, width, stride });
    checkOptions(new.target.builtIn, o, { shortcut: oneOf('A', 'B'), ...RESIDUAL });
    const at = placed(o);
    const isPadded = o.shortcut === 'A';
    if (isPadded && width < cIn)
      throw new RangeError(
        `${new.target.builtIn}: expected a width of at least cIn for shortcut 'A', got ${width} for ${cIn}`,
      );
    this.#checkpoint = o.checkpoint ?? false;
    this.conv1 = conv(cIn, width, 3, stride, at);
    this.bn1 = new BatchNorm2d(width, at);
    this.conv2 = conv(width, width, 3, 1, at);
    this.bn2 = new BatchNorm2d(width, at);
    this.downsample = isPadded ? null : projected(cIn, width, stride, at);
    this.#padding = isPadded ? { cOut: width, stride } : null;
  }

  override forward(x: Tensor): Tensor {
    const run = (x: Tensor) => insides(this, () => this.#forward(x));
    return this.#checkpoint ? recomputed(this, run, x) : run(x);
  }

  #forward(x: Tensor): Tensor {
    const y = this.relu.call(this.bn1.call(this.conv1.call(x)));
    const branch = this.bn2.call(this.conv2.call(y));
    return this.relu.call(branch.add(this.#shortcut(x)));
  }

  #shortcut(x: Tensor): Tensor {
    if (this.#padding !== null) return padded(x, this.#padding.cOut, this.#padding.stride);
    return this.downsample?.call(x) ?? x;
  }
}

/** 1×1 to `width` channels, 3×3, 1×1 to four times as many: [N, cIn, H, W] → [N, 4 · width, H/stride, W/stride]. */
export class Bottleneck extends Module {
  static readonly builtIn: string = 'Bottleneck';
  static readonly expansion: number = 4;
  readonly conv1: Conv2d;
  readonly bn1: BatchNorm2d;
  readonly conv2: Conv2d;
  readonly bn2: BatchNorm2d;
  readonly conv3: Conv2d;
  readonly bn3: BatchNorm2d;
  readonly relu = new ReLU();
  readonly downsample: Sequential | null;
  readonly #checkpoint: boolean;

  constructor(cIn: number, width: number, stride = 1, o: ResidualOptions = {}) {
    super();
    checkPositive(new.target.builtIn, { cIn, width, stride });
    checkOptions(new.target.builtIn, o, RESIDUAL);
    const at = placed(o);
    const cOut = width * Bottleneck.expansion;
    this.#checkpoint = o.checkpoint ?? false;
    this.conv1 = conv(cIn, width, 1, 1, at);
    this.bn1 = new BatchNorm2d(width, at);
    this.conv2 = conv(width, width, 3, stride, at);
    this.bn2 = new BatchNorm2d(width, at);
    this.conv3 = conv(width, cOut, 1, 1, at);
    this.bn3 = new BatchNorm2d(cOut, at);
    this.downsample = projected(cIn, cOut, stride, at);
  }

  override forward(x: Tensor): Tensor {
    const run = (x: Tensor) => insides(this, () => this.#forward(x));
    return this.#checkpoint ? recomputed(this, run, x) : run(x);
  }

  #forward(x: Tensor): Tensor {
    const y = this.relu.call(this.bn1.call(this.conv1.call(x)));
    const z = this.relu.call(this.bn2.call(this.conv2.call(y)));
    const branch = this.bn3.call(this.conv3.call(z));
    return this.relu.call(branch.add(this.downsample?.call(x) ?? x));
  }
}

/** `depth` blocks, the first with a stride, the others with as many channels in as out. */
export function stage(depth: number, blockOf: (isFirst: boolean) => Module): Sequential {
  return new Sequential(...Array.from({ length: depth }, (_, i) => blockOf(i === 0)));
}
