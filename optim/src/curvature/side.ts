/**
 * A side of a Kronecker block, A (inputs) or G (outputs), and what is assumed of its factor: nothing, or a structure that is cheaper
 * to keep, to decompose and to turn by.
 *
 * A side is a list of segments. On each the factor is F_U ⊗ F_V over channels (or plain coordinates) and the taps of a convolution's
 * kernel, with the identity in the place of F_V where taps do not turn; the basis is U ⊗ V alike. Between segments there is nothing.
 * All parts lie one after the other in one tensor, so that whoever adds, averages, saves or sends a factor, a basis or a rotation
 * does not have to know of any structure.
 */

import { concat, gram, ShapeError, type Tensor } from '@otimes/core';
import { aBoolean, aCount, checkArgument, checkOptions, type OptionKinds } from '@otimes/core/extend';
import { alike, product, type Spectrum, together } from './spectrum.ts';

export type { Spectrum };

/**
 * What is assumed of a factor [n, n].
 *
 * - exact: nothing.
 * - taps: A ≈ A_c ⊗ A_t, a factor over the input channels of a convolution and one over the taps of its kernel; the bias by itself.
 * - channels: A ≈ A_c ⊗ 1, taps are uncorrelated and alike (Grosse & Martens 2016, §3.3, "spatially uncorrelated activations").
 * - blocks: block-diagonal over coordinates in their order, of a convolution whole channels.
 * - diagonal: coordinates are uncorrelated; of one-hot inputs that is exact.
 * - identity: a multiple of the identity.
 */
export type Structure = 'exact' | 'taps' | 'channels' | 'blocks' | 'diagonal' | 'identity';

/**
 * size · taps coordinates from `start` on, in the order channel, tap. U [size, size] turns the channels, V [taps, taps] the taps,
 * which stay as they are unless `turnsTaps`.
 */
export type Segment = {
  readonly start: number;
  readonly size: number;
  readonly taps: number;
  readonly turnsTaps: boolean;
};

/** The matrices of a segment: U [size, size], and V [taps, taps] where taps turn. */
export type Part = { readonly U: Tensor; readonly V: Tensor | null };

/** Of a convolution's inputs: how many taps a channel has, and whether a homogeneous 1 is the last coordinate. */
export type SideSizes = { readonly taps?: number; readonly bias?: boolean };

const SIZES: OptionKinds<SideSizes> = { taps: aCount, bias: aBoolean };
const TURNS = { bias: aBoolean, turnsTaps: aBoolean };

/** `count` segments of the same size that follow each other; with more than one taps is 1. */
type Run = Segment & { readonly count: number };

export class Side {
  /** Coordinates. */
  readonly n: number;
  readonly structure: Structure;
  /** They cover 0 … n − 1 in order. Where nothing turns there is none. */
  readonly segments: readonly Segment[];
  /**
   * Shape of a factor, and of a basis or rotation where something turns: [] of an identity, whose factor is its mean eigenvalue, [n] of
   * a diagonal, [n, n] of an exact one, else [length].
   */
  readonly shape: readonly number[];
  readonly #runs: readonly Run[];

  private constructor(n: number, structure: Structure, segments: readonly Segment[]) {
    this.n = n;
    this.structure = structure;
    this.segments = segments;
    this.#runs = runsOf(segments);
    const length = segments.reduce((sum, one) => sum + lengthOf(one), 0);
    const shapes: { readonly [S in Structure]?: readonly number[] } = { exact: [n, n], diagonal: [n], identity: [] };
    this.shape = shapes[structure] ?? [length];
  }

  static exact(n: number): Side {
    checkArgument('Side.exact', 'n', n, aCount);
    return new Side(n, 'exact', [{ start: 0, size: n, taps: 1, turnsTaps: false }]);
  }

  static identity(n: number): Side {
    checkArgument('Side.identity', 'n', n, aCount);
    return new Side(n, 'identity', []);
  }

  static diagonal(n: number): Side {
    checkArgument('Side.diagonal', 'n', n, aCount);
    return new Side(n, 'diagonal', []);
  }

  /**
   * Blocks of whole channels of `taps` coordinates, as equal as may be; the bias is in the last one. They are as few as at most `blockDim`
   * coordinates allow, where each could have the bias beside its channels: of 1023 features and a bias three of 512, not two. Of one
   * block it is the exact side.
   */
  static blocks(n: number, blockDim: number, o: SideSizes = {}): Side {
    checkOptions('Side.blocks', o, SIZES);
    const { taps = 1, bias = false } = o;
    checkArgument('Side.blocks', 'blockDim', blockDim, aCount);
    const channels = channelsOf('Side.blocks', n, taps, bias);
    const ones = Number(bias);
    const count = Math.ceil(channels / Math.max(1, Math.floor((blockDim - ones) / taps)));
    if (count <= 1) return Side.exact(n);
    const segments: Segment[] = [];
    let start = 0;
    for (let i = 0; i < count; i++) {
      // Larger ones first: the last one has the bias.
      const size = Math.ceil((channels - i) / count) * taps + (i === count - 1 ? ones : 0);
      segments.push({ start, size, taps: 1, turnsTaps: false });
      start += size;
    }
    return new Side(n, 'blocks', segments);
  }

  /**
   * Channels ⊗ taps: 'taps' if the taps turn, else 'channels'. The bias is a coordinate of its own. With one tap it is the exact side,
   * the bias among the others.
   */
  static channels(n: number, taps: number, o: Omit<SideSizes, 'taps'> & { readonly turnsTaps?: boolean } = {}): Side {
    checkOptions('Side.channels', o, TURNS);
    const { bias = false, turnsTaps = true } = o;
    const size = channelsOf('Side.channels', n, taps, bias);
    if (taps === 1) return Side.exact(n);
    const main = { start: 0, size, taps, turnsTaps };
    const segments = bias ? [main, { start: n - 1, size: 1, taps: 1, turnsTaps: false }] : [main];
    return new Side(n, turnsTaps ? 'taps' : 'channels', segments);
  }

  /** Whether nothing is assumed. */
  get isExact(): boolean {
    return this.structure === 'exact';
  }

  get isIdentity(): boolean {
    return this.structure === 'identity';
  }

  /** Whether there is a basis: not of an identity or a diagonal, whose coordinates are their own eigenvectors. */
  get turns(): boolean {
    return this.segments.length > 0;
  }

  /** n³ of all matrices. */
  get decompositionCost(): number {
    return this.orders.reduce((sum, n) => sum + n ** 3, 0);
  }

  /** Multiplications that a row [n] takes to turn. */
  get turnCost(): number {
    return this.segments.reduce(
      (sum, { size, taps, turnsTaps }) => sum + size * taps * (size + (turnsTaps ? taps : 0)),
      0,
    );
  }

  /** n of the matrices [n, n], in the order of `matrices`. */
  get orders(): readonly number[] {
    return this.segments.flatMap(({ size, taps, turnsTaps }) => (turnsTaps ? [size, taps] : [size]));
  }

  /** Whether both have the same coordinates and parts. */
  equals(other: Side): boolean {
    const same = (s: Segment, i: number) => {
      const o = other.segments[i]!;
      return s.size === o.size && s.taps === o.taps && s.turnsTaps === o.turnsTaps;
    };
    const { n, structure, segments } = this;
    return (
      n === other.n &&
      structure === other.structure &&
      segments.length === other.segments.length &&
      segments.every(same)
    );
  }

  // --- one tensor and its parts ------------------------------------------------------------------------------------------

  /** The matrices of M, a factor, basis or rotation, segment by segment; views. */
  parts(M: Tensor): Part[] {
    if (this.isExact) return [{ U: M, V: null }];
    let at = 0;
    const take = (n: number) => {
      const square = M.narrow(0, at, n * n).reshape([n, n]);
      at += n * n;
      return square;
    };
    return this.segments.map(({ size, taps, turnsTaps }) => ({ U: take(size), V: turnsTaps ? take(taps) : null }));
  }

  /** The same as one list: of each segment U, and V where taps turn. */
  matrices(M: Tensor): Tensor[] {
    return this.parts(M).flatMap(({ U, V }) => (V === null ? [U] : [U, V]));
  }

  /** What `matrices` takes apart; of an exact side the matrix itself. */
  pack(matrices: readonly Tensor[]): Tensor {
    if (this.isExact) return matrices[0]!;
    return concat(
      matrices.map(one => one.reshape([-1])),
      0,
    );
  }

  // --- turning -----------------------------------------------------------------------------------------------------------

  /** X U, for the rows of X [..., n]. A null U, where nothing turns, changes nothing: the result is X itself then. */
  turn(X: Tensor, U: Tensor | null): Tensor {
    return this.#rows(X, U, false);
  }

  /** X Uᵀ. */
  turnBack(X: Tensor, U: Tensor | null): Tensor {
    return this.#rows(X, U, true);
  }

  /** Uᵀ X, for the columns of X [..., n, columns]. */
  turnColumns(X: Tensor, U: Tensor | null): Tensor {
    return this.#columns(X, U, false);
  }

  /** U X. */
  turnColumnsBack(X: Tensor, U: Tensor | null): Tensor {
    return this.#columns(X, U, true);
  }

  /** Uᵀ U': how the coordinates of one basis become those of another. Its elements squared carry squares. */
  rotation(from: Tensor, to: Tensor): Tensor {
    for (const M of [from, to])
      if (String(M.shape) !== String(this.shape))
        throw new ShapeError(`Side.rotation: expected bases [${this.shape}] of ${this.structure}, got [${M.shape}]`);
    if (this.isExact) return from.transpose().matmul(to);
    let at = 0;
    const products = this.#stacks.map(shape => {
      const [a, b] = [from, to].map(M => stackOf(M, at, shape)) as [Tensor, Tensor];
      at += a.size;
      return a.transpose(1, 2).matmul(b).reshape([-1]);
    });
    return products.length === 1 ? products[0]! : concat(products, 0);
  }

  /** Shapes [count, n, n] of the matrices of each run, in the order in which they lie. */
  get #stacks(): [number, number, number][] {
    return this.#runs.flatMap(({ count, size, taps, turnsTaps }): [number, number, number][] => {
      const own: [number, number, number] = [count, size, size];
      return turnsTaps ? [own, [1, taps, taps]] : [own];
    });
  }

  #rows(X: Tensor, M: Tensor | null, back: boolean): Tensor {
    if (M === null) return X;
    if (this.isExact) return X.matmul(back ? M.transpose() : M);
    const axis = X.rank - 1;
    this.#check(X, axis, M, `[..., ${this.n}]`);
    return this.#turned(X, axis, M, back, (rows, { count, size, taps }, U, V) => {
      if (size === 1 && taps === 1) return rows.mul(U.reshape([count]));
      const R = rows.size / (count * size * taps);
      if (count > 1)
        return rows.reshape([R, count, size]).transpose(0, 1).matmul(U).transpose(0, 1).reshape(rows.shape);
      if (taps === 1) return rows.matmul(U.squeeze(0));
      // [R, taps, size]: the channels of all rows and taps turn in one product. Taps go the same way there, or on the way.
      const images = rows.reshape([R, size, taps]).transpose(1, 2);
      const turned = V === null ? images : V.transpose().matmul(images);
      return turned
        .reshape([R * taps, size])
        .matmul(U.squeeze(0))
        .reshape([R, taps, size])
        .transpose(1, 2)
        .reshape(rows.shape);
    });
  }

  #columns(X: Tensor, M: Tensor | null, back: boolean): Tensor {
    if (M === null) return X;
    if (this.isExact) return (back ? M : M.transpose()).matmul(X);
    const axis = X.rank - 2;
    this.#check(X, axis, M, `[..., ${this.n}, columns]`);
    const lead = X.shape.slice(0, axis);
    const columns = X.shape[axis + 1]!;
    return this.#turned(X, axis, M, back, (rows, { count, size, taps }, U, V) => {
      if (size === 1 && taps === 1) return rows.mul(U.reshape([count, 1]));
      const left = U.transpose(1, 2);
      if (count > 1) return left.matmul(rows.reshape([...lead, count, size, columns])).reshape(rows.shape);
      const turned = left.squeeze(0).matmul(rows.reshape([...lead, size, taps * columns]));
      if (V === null) return turned.reshape(rows.shape);
      return V.transpose()
        .matmul(turned.reshape([...lead, size, taps, columns]))
        .reshape(rows.shape);
    });
  }

  #check(X: Tensor, axis: number, M: Tensor, expected: string): void {
    if (X.shape[axis] !== this.n || String(M.shape) !== String(this.shape))
      throw new ShapeError(
        `Side: expected X ${expected} and a packed matrix [${this.shape}] of ${this.structure}, got [${X.shape}] and [${M.shape}]`,
      );
  }

  /** Turns each run of X's axis by matrices U [count, size, size] and V that `back` has transposed already. */
  #turned(
    X: Tensor,
    axis: number,
    M: Tensor,
    back: boolean,
    turn: (part: Tensor, run: Run, U: Tensor, V: Tensor | null) => Tensor,
  ): Tensor {
    let at = 0;
    const take = (shape: readonly [number, number, number]) => {
      const stack = stackOf(M, at, shape);
      at += stack.size;
      return back ? stack.transpose(1, 2) : stack;
    };
    const pieces = this.#runs.map(run => {
      const { start, count, size, taps, turnsTaps } = run;
      const U = take([count, size, size]);
      const V = turnsTaps ? take([1, taps, taps]).squeeze(0) : null;
      return turn(X.narrow(axis, start, count * size * taps), run, U, V);
    });
    return pieces.length === 1 ? pieces[0]! : concat(pieces, axis);
  }

  // --- factors -----------------------------------------------------------------------------------------------------------

  /**
   * What rows x [..., n] add to the factor, before it is divided by their number R: Σ x xᵀ of each segment; with taps
   * A_c = 1/k Σ_t x_t x_tᵀ over the channels and A_t = 1/C Σ_c x_c x_cᵀ over the taps, k and C of them; of a diagonal Σ x∘x, of an
   * identity the mean eigenvalue. Sums, so that factors may be averaged: that A ≈ A_c ⊗ A_t · C k / tr A is for `spectrum`.
   */
  gram(x: Tensor): Tensor {
    if (x.shape.at(-1) !== this.n) throw new ShapeError(`Side.gram: expected rows [..., ${this.n}], got [${x.shape}]`);
    if (this.isIdentity)
      return x
        .square()
        .sum()
        .mul(1 / this.n);
    if (this.isExact) return gram(x);
    const R = x.size / this.n;
    const rows = x.reshape([R, this.n]);
    if (!this.turns) return rows.square().sum(0);
    return this.pack(
      this.segments.flatMap(({ start, size, taps, turnsTaps }) => {
        const own = rows.narrow(1, start, size * taps);
        if (taps === 1) return [gram(own)];
        const images = own.reshape([R, size, taps]);
        const channels = gram(images.transpose(1, 2)).mul(1 / taps);
        return turnsTaps ? [channels, gram(images).mul(1 / size)] : [channels];
      }),
    );
  }

  /** The diagonal [n] of the factor that F stands for. */
  diagonal(F: Tensor): Tensor {
    if (!this.turns) return F.reshape([-1]).expand([this.n]);
    const diagonals = this.matrices(F).map(diagonalOf);
    return this.spectrum(diagonals.map(one => ({ s: one, n: one }))).s;
  }

  /**
   * The spectrum of a factor from those of its matrices, in their order: of channels and taps the products, over the mean of the taps'.
   * There n is at least what rounding of either part lets products be known to, so that a direction is null where one of its parts is.
   */
  spectrum(of: readonly Spectrum[]): Spectrum {
    if (this.isExact) return of[0]!;
    let i = 0;
    return together(
      this.segments.map(({ taps, turnsTaps }) => {
        const own = of[i++]!;
        return turnsTaps ? product(own, of[i++]!) : alike(own, taps);
      }),
    );
  }
}

/** Throws unless n coordinates are whole channels of `taps`, and the bias. */
function channelsOf(op: string, n: number, taps: number, bias: boolean): number {
  checkArgument(op, 'n', n, aCount);
  checkArgument(op, 'taps', taps, aCount);
  const channels = (n - Number(bias)) / taps;
  if (channels >= 1 && Number.isInteger(channels)) return channels;
  const given = `${taps} taps each${bias ? ', and a bias' : ''}`;
  throw new RangeError(`${op}: expected n to count channels of ${given}, got ${n}`);
}

const lengthOf = ({ size, taps, turnsTaps }: Segment): number => size ** 2 + (turnsTaps ? taps ** 2 : 0);

/** `count` matrices [n, n] that lie one after the other from `at` on. */
const stackOf = (M: Tensor, at: number, shape: readonly [number, number, number]): Tensor =>
  M.narrow(0, at, shape[0] * shape[1] * shape[2]).reshape(shape);

function runsOf(segments: readonly Segment[]): Run[] {
  const runs: Run[] = [];
  for (const one of segments) {
    const last = runs.at(-1);
    if (last !== undefined && last.size === one.size && last.taps === 1 && one.taps === 1)
      runs[runs.length - 1] = { ...last, count: last.count + 1 };
    else runs.push({ ...one, count: 1 });
  }
  return runs;
}

const diagonalOf = (M: Tensor): Tensor => M.reshape([-1]).slice([null, null, M.shape[0]! + 1]);
