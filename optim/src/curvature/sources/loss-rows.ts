/** Which rows of a model's output the cross-entropy counts, and how much: what ignored labels and weights of classes are for the Fisher. */

import { backwardPass, type Tensor, tensor } from '@otimes/core';
import { lossWatchers, readsLater } from '@otimes/core/extend';
import type { LossReduction } from '../factors.ts';
import { inOwnScope } from '../own-scope.ts';
import type { FisherKind } from './fisher.ts';

type Layout = Pick<Tensor, 'shape' | 'strides' | 'offset' | 'storage'>;

/** Rows in the order of the output's axes without that of the classes. */
export type CountedRows = {
  /** r of each row: 0 where it does not count. Their mean over rows that count is 1, but of a sum loss they are the weights themselves. */
  readonly weights: Float64Array;
  /** 1 for a row that counts, 0 for one that does not. */
  readonly counts: Uint8Array;
  /** How many count. */
  readonly count: number;
  /** The output's shape. */
  readonly shape: readonly number[];
};

/** Of one loss in one pass: what it multiplied rows by. */
type Term = { readonly logits: Layout; of: (n: number) => ArrayLike<number> };

/** Looks at the losses of one output of a model. */
export class LossRows {
  readonly #output: Layout;
  readonly #reduction: LossReduction;
  #pass = 0;
  #terms: Term[] = [];
  /** Whether rows of any of them may count differently. */
  #mayDiffer = false;
  /** The largest gradient at a loss, by which a sum is scaled. */
  #scale = 0;
  #found: CountedRows | null | undefined;

  constructor(output: Tensor, fisher: FisherKind, reduction: LossReduction) {
    this.#output = layoutOf(output);
    this.#reduction = reduction;
    lossWatchers.set(output.storage, (logits, loss, o, logP) => {
      if (!loss.requiresGrad) return;
      if (readsLater(logits)) {
        if (o.ignoreIndex !== undefined || (o.weight !== undefined && fisher !== 'empirical'))
          throw unread(logits.device);
        return;
      }
      const seen = layoutOf(logits);
      const rows = logits.size / logits.shape[1]!;
      const note = (one: (gy: Tensor) => Term['of'] | null, isScale: boolean) => (gy: Tensor) => {
        const pass = backwardPass();
        if (pass === 0) return;
        this.#begins(pass);
        inOwnScope(() => {
          if (isScale) this.#scale = Math.max(this.#scale, Math.abs(gy.item()));
          const of = one(gy);
          if (of !== null) this.#terms.push({ logits: seen, of });
        });
      };
      if (o.reduction !== 'none') {
        const by = o.reduction === 'sum' ? 1 : 1 / rows;
        loss.onGrad(
          note(gy => {
            const each = gy.item() * by;
            return logP ? null : n => new Float64Array(n).fill(each);
          }, true),
          { borrows: true },
        );
      }
      logP?.onGrad(
        note(gy => {
          const each = gy.sum(1).dataSync();
          this.#mayDiffer = true;
          return () => each;
        }, false),
        { borrows: true },
      );
    });
  }

  #begins(pass: number): void {
    if (this.#pass === pass) return;
    this.#pass = pass;
    this.#terms = [];
    this.#mayDiffer = false;
    this.#scale = 0;
    this.#found = undefined;
  }

  /**
   * Null where all rows count alike, and where the losses' logits are not a view of the output.
   *
   * @param gy the gradient at the output, where it is known: a row with one of another loss counts
   */
  found(pass: number, gy: Tensor | null): CountedRows | null {
    if (this.#pass !== pass || !this.#mayDiffer) return null;
    if (this.#found === undefined) {
      this.#found = this.#find(gy);
      this.#terms = [];
    }
    return this.#found;
  }

  #find(gy: Tensor | null): CountedRows | null {
    const output = this.#output;
    const axis = classAxis(output, this.#terms[0]!.logits);
    if (axis === -1) return null;
    const places = new Map(rowOffsets(output, axis).map((offset, row) => [offset, row]));
    const weights = new Float64Array(places.size);
    for (const { logits, of } of this.#terms) {
      if (classAxis(output, logits) !== axis) return null;
      const offsets = rowOffsets(logits, 1);
      const each = of(offsets.length);
      for (const [i, offset] of offsets.entries()) {
        const row = places.get(offset);
        if (row === undefined) return null;
        weights[row]! += Math.abs(each[i]!);
      }
    }
    const sizes = gy?.abs().max(axis).dataSync();
    const counts = Uint8Array.from(weights, (w, row) => Number(w !== 0 || (sizes !== undefined && sizes[row] !== 0)));
    const [sum, count] = [total(weights), total(counts)];
    if (!Number.isFinite(sum) || weights.every(w => w !== 0 && Math.abs(w - weights[0]!) <= 1e-6 * w)) return null;
    const scale = this.#reduction === 'sum' ? this.#scale || 1 : sum / count;
    return { weights: sum === 0 ? weights : weights.map(w => w / scale), counts, count, shape: output.shape };
  }
}

const unread = (device: string): Error =>
  new Error(
    `fisher: crossEntropy's ignoreIndex and weight on '${device}', which is read with await: how many rows count has to be known at ` +
      'once. Leave rows out of the logits, z.indexSelect(0, kept), or compute on the CPU',
  );

const layoutOf = ({ shape, strides, offset, storage }: Tensor): Layout => ({ shape, strides, offset, storage });

const total = (x: Float64Array | Uint8Array): number => {
  let sum = 0;
  for (const value of x) sum += value;
  return sum;
};

/** The axis of the output along which the classes of the logits lie, which are a view of it; −1 where there is none. */
function classAxis(output: Layout, { shape, strides }: Layout): number {
  return output.shape.findIndex((n, axis) => n === shape[1] && output.strides[axis] === strides[1]);
}

/** Where the first class of each row is stored. */
function rowOffsets({ shape, strides, offset }: Layout, classes: number): number[] {
  let offsets = [offset];
  for (const [axis, n] of shape.entries())
    if (axis !== classes) offsets = offsets.flatMap(o => Array.from({ length: n }, (_, i) => o + i * strides[axis]!));
  return offsets;
}

/** Which examples and positions of a layer count, [batch, shared]; null where nothing is known, or all do. */
export function countedAt(rows: CountedRows, batch: number, shared: number): Uint8Array | null {
  const { counts } = rows;
  if (counts.length === batch * shared) return counts;
  const examples = countedExamples(rows, batch);
  return examples === null
    ? null
    : Uint8Array.from({ length: batch * shared }, (_, i) => examples[Math.floor(i / shared)]!);
}

/** Which examples of a layer's first axis have a row that counts; null where rows are not known to be theirs. */
export function countedExamples({ counts, shape }: CountedRows, batch: number): Uint8Array | null {
  const [first] = shape;
  const fits = batch === first || batch === counts.length || (shape.length === 2 && counts.length % batch === 0);
  if (!fits || batch === 0) return null;
  const each = counts.length / batch;
  return Uint8Array.from({ length: batch }, (_, b) => Math.max(0, ...counts.subarray(b * each, (b + 1) * each)));
}

/** √r by row in the shape of logits z [batch, classes, …] with one class: what columns of the loss Hessian are multiplied by. */
export function rootWeights({ weights, shape }: CountedRows, { dtype, device }: Tensor): Tensor {
  return tensor(weights.map(Math.sqrt), { shape: shape.map((n, axis) => (axis === 1 ? 1 : n)) })
    .astype(dtype)
    .to(device);
}
