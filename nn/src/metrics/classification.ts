/** Metrics of classes: accuracy, the confusion matrix, precision, recall, F1, perplexity. */

import { arange, checkIndex, oneHot, type Tensor, where } from '@otimes/core';
import { aCount, anInteger, checkArgument, checkOptions, type Kind, oneOf } from '@otimes/core/extend';
import { requiredOptions } from '../check.ts';
import { CLASS_OPTIONS, type ClassOptions, countedLabels, predictedClasses, scoreRows } from './check.ts';
import { MeanMetric, Metric } from './metric.ts';

const countOf = (labels: Tensor, counts: Tensor | null): Tensor => (counts ?? labels.eq(labels)).sum();

/**
 * The fraction of positions whose label is among the `topK` classes of the largest scores. Of equal scores the class of the lower index
 * comes first, as in `argmax`; a label whose score is NaN counts as wrong. NaN where nothing was counted.
 */
export class Accuracy extends MeanMetric {
  static readonly builtIn: string = 'Accuracy';
  readonly #o: ClassOptions;
  readonly #topK: number;

  /** @param o topK: default 1; ignoreIndex, threshold: see `ClassOptions` */
  constructor(o: ClassOptions & { topK?: number } = {}) {
    super();
    checkOptions('Accuracy', o, { ...CLASS_OPTIONS, topK: aCount });
    this.#o = o;
    this.#topK = o.topK ?? 1;
  }

  /**
   * @param predictions scores [N, C, …] with the classes on axis 1; or for topK 1 classes, int32 like the labels, or scores of class 1,
   * floating like the labels, with a `threshold`
   * @param labels int32 [N, …]
   */
  update(predictions: Tensor, labels: Tensor): void {
    this.add(() => {
      if (this.#topK === 1 && predictions?.rank === labels?.rank) {
        const predicted = predictedClasses('Accuracy', predictions, labels, this.#o);
        const known = countedLabels('Accuracy', labels, 2 ** 31 - 1, this.#o.ignoreIndex);
        return [counted(predicted.eq(known.labels), known.counts), countOf(known.labels, known.counts)];
      }
      predictedClasses('Accuracy', predictions, labels, this.#o);
      const rows = scoreRows('Accuracy', predictions, labels);
      const { labels: wanted, counts } = countedLabels('Accuracy', labels, rows.shape[1]!, this.#o.ignoreIndex);
      const column = wanted.unsqueeze(1);
      const own = rows.gather(1, column);
      const isBefore = rows.eq(own).logicalAnd(indices(rows).lt(column));
      const rank = rows.le(own).logicalNot().logicalOr(isBefore).sum(1);
      return [counted(rank.lt(this.#topK), counts), countOf(wanted, counts)];
    });
  }
}

const counted = (hits: Tensor, counts: Tensor | null): Tensor =>
  (counts === null ? hits : hits.logicalAnd(counts)).sum();

/** 0 … C−1 for rows [N, C], int32 [C]. */
const indices = (rows: Tensor): Tensor => arange(0, rows.shape[1]!, 1, { dtype: 'int32', device: rows.device });

/** `classes`: how many there are, 2 with a `threshold`. */
export type CountOptions = ClassOptions & { classes: number };

const countOptions: Kind = {
  ...requiredOptions,
  hint: v => (typeof v === 'number' ? `write { classes: ${v} }` : ''),
};
const COUNT_OPTIONS = { ...CLASS_OPTIONS, classes: aCount };

/** Predictions and labels as one-hot rows [positions, classes] of `dtype`; zeros where a position does not count. */
function oneHots(op: string, o: CountOptions, predictions: Tensor, labels: Tensor, dtype: 'float32' | 'int32') {
  const predicted = predictedClasses(op, predictions, labels, o);
  checkIndex(op, predicted, o.classes, 'prediction');
  const known = countedLabels(op, labels, o.classes, o.ignoreIndex);
  const rows = (x: Tensor) => oneHot(x, o.classes, { dtype });
  const actual = rows(known.labels);
  const counts = known.counts?.unsqueeze(1).astype(dtype);
  return { predicted: rows(predicted), actual: counts === undefined ? actual : actual.mul(counts), counts };
}

function checkCountOptions(name: string, o: CountOptions): void {
  checkArgument(name, 'options', o, countOptions);
  checkOptions(name, o, COUNT_OPTIONS);
  checkArgument(name, 'classes', o.classes, aCount);
  if (o.threshold !== undefined && o.classes !== 2)
    throw new RangeError(
      `${name}: expected classes 2 with a threshold, which tells class 1 from class 0, got ${o.classes}; of several labels take one metric each`,
    );
}

/** How often each class was predicted for each: `matrix[label][prediction]`. */
export class ConfusionMatrix extends Metric<number[][]> {
  static readonly builtIn: string = 'ConfusionMatrix';
  protected readonly terms = 1;
  readonly #o: CountOptions;

  /** @param o classes, required; ignoreIndex, threshold: see `ClassOptions` */
  constructor(o: CountOptions) {
    super();
    checkCountOptions('ConfusionMatrix', o);
    this.#o = o;
  }

  /** @param predictions as for `Accuracy`; @param labels int32 [N, …] */
  update(predictions: Tensor, labels: Tensor): void {
    this.add(() => {
      const { predicted, actual } = oneHots('ConfusionMatrix', this.#o, predictions, labels, 'float32');
      return [actual.transpose().matmul(predicted).astype('int32')];
    });
  }

  protected override finish(sums: readonly ArrayLike<number>[] | null): number[][] {
    const { classes } = this.#o;
    const rows = Array.from({ length: classes }, () => new Array<number>(classes).fill(0));
    return sums === null ? rows : rows.map((row, i) => row.map((_, j) => sums[0]![i * classes + j]!));
  }
}

/**
 * `average` 'macro' (default): the mean over the classes that were a label or a prediction; 'weighted': that weighted by how often each
 * was the label; 'micro': of the counts of all classes together; 'binary': of class 1; 'none': of each class, as a list.
 */
export type Average = 'macro' | 'weighted' | 'micro' | 'binary' | 'none';

type Averaged<A> = A extends 'none' ? number[] : number;

/** Counts of one class, or of all: hits, and how often it was the prediction and the label. */
type Counts = { readonly hits: number; readonly predicted: number; readonly actual: number };

/** What precision, recall and F1 share. A ratio 0 / 0 is 0; without any position the value is NaN. */
abstract class ClassRatio<A extends Average> extends Metric<Averaged<A>> {
  protected readonly terms = 3;
  readonly #name: string;
  readonly #o: CountOptions;
  readonly #average: Average;

  constructor(name: string, o: CountOptions & { average?: A }) {
    super();
    checkArgument(name, 'options', o, countOptions);
    const { average = 'macro', ...rest } = o;
    checkArgument(name, 'average', average, oneOf('macro', 'weighted', 'micro', 'binary', 'none'));
    checkCountOptions(name, rest);
    if (average === 'binary' && rest.classes !== 2)
      throw new RangeError(`${name}: expected classes 2 for average 'binary', got ${rest.classes}`);
    this.#name = name;
    this.#o = rest;
    this.#average = average;
  }

  protected abstract ratio(counts: Counts): number;

  /** @param predictions as for `Accuracy`; @param labels int32 [N, …] */
  update(predictions: Tensor, labels: Tensor): void {
    this.add(() => {
      const { predicted, actual, counts } = oneHots(this.#name, this.#o, predictions, labels, 'int32');
      const shown = counts === undefined ? predicted : predicted.mul(counts);
      return [predicted.mul(actual).sum(0), shown.sum(0), actual.sum(0)];
    });
  }

  protected override finish(sums: readonly ArrayLike<number>[] | null): Averaged<A> {
    const [hits, predicted, actual] = sums ?? [[], [], []];
    const each = Array.from({ length: this.#o.classes }, (_, c) => {
      return { hits: hits![c] ?? 0, predicted: predicted![c] ?? 0, actual: actual![c] ?? 0 };
    });
    return this.#averaged(each) as Averaged<A>;
  }

  #averaged(each: readonly Counts[]): number | number[] {
    const total = (pick: (c: Counts) => number) => each.reduce((sum, c) => sum + pick(c), 0);
    const positions = total(c => c.actual);
    const ratio = (c: Counts) => (positions === 0 ? Number.NaN : this.ratio(c));
    if (this.#average === 'none') return each.map(ratio);
    if (this.#average === 'binary') return ratio(each[1]!);
    if (this.#average === 'micro')
      return ratio({ hits: total(c => c.hits), predicted: total(c => c.predicted), actual: positions });
    if (this.#average === 'weighted') return total(c => ratio(c) * c.actual) / positions;
    const present = each.filter(c => c.predicted + c.actual > 0);
    return present.reduce((sum, c) => sum + ratio(c), 0) / present.length;
  }
}

const quotient = (a: number, b: number): number => (b === 0 ? 0 : a / b);

/** Of the positions at which a class was predicted, the fraction whose label it is; see `Average`. */
export class Precision<A extends Average = 'macro'> extends ClassRatio<A> {
  static readonly builtIn: string = 'Precision';

  /** @param o classes, required; average: default 'macro'; ignoreIndex, threshold: see `ClassOptions` */
  constructor(o: CountOptions & { average?: A }) {
    super('Precision', o);
  }

  protected override ratio({ hits, predicted }: Counts): number {
    return quotient(hits, predicted);
  }
}

/** Of the positions whose label is a class, the fraction at which it was predicted; see `Average`. */
export class Recall<A extends Average = 'macro'> extends ClassRatio<A> {
  static readonly builtIn: string = 'Recall';

  /** @param o as for `Precision` */
  constructor(o: CountOptions & { average?: A }) {
    super('Recall', o);
  }

  protected override ratio({ hits, actual }: Counts): number {
    return quotient(hits, actual);
  }
}

/** The harmonic mean of precision and recall, 2 · hits / (predicted + labels); see `Average`. */
export class F1Score<A extends Average = 'macro'> extends ClassRatio<A> {
  static readonly builtIn: string = 'F1Score';

  /** @param o as for `Precision` */
  constructor(o: CountOptions & { average?: A }) {
    super('F1Score', o);
  }

  protected override ratio({ hits, predicted, actual }: Counts): number {
    return quotient(2 * hits, predicted + actual);
  }
}

/** exp of the mean cross-entropy (natural logarithm) of all positions that count. NaN where there was none. */
export class Perplexity extends MeanMetric {
  static readonly builtIn: string = 'Perplexity';
  readonly #ignoreIndex: number | undefined;

  /** @param o ignoreIndex: positions with this label do not count; default: all count */
  constructor(o: { ignoreIndex?: number } = {}) {
    super();
    checkOptions('Perplexity', o, { ignoreIndex: anInteger });
    this.#ignoreIndex = o.ignoreIndex;
  }

  /** @param logits [N, C, …], the classes on axis 1; @param labels int32 [N, …] */
  update(logits: Tensor, labels: Tensor): void {
    this.add(() => {
      predictedClasses('Perplexity', logits, labels, {});
      const rows = scoreRows('Perplexity', logits, labels);
      const { labels: wanted, counts } = countedLabels('Perplexity', labels, rows.shape[1]!, this.#ignoreIndex);
      const losses = rows.logSoftmax(1).gather(1, wanted.unsqueeze(1)).squeeze(1).neg();
      return [(counts === null ? losses : where(counts, losses, 0)).sum(), countOf(wanted, counts)];
    });
  }

  protected override finish(sums: readonly ArrayLike<number>[] | null): number {
    return Math.exp(super.finish(sums));
  }
}
