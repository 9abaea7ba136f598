/** What metrics of classes check, and how they read scores. */

import { checkIndex, DTypeError, describe, ShapeError, sameShape, type Tensor, where } from '@otimes/core';
import { aNumber, anInteger, aTensor, checkArgument, type Kind } from '@otimes/core/extend';

export type ClassOptions = {
  /** Positions with this label do not count; default: all count. */
  ignoreIndex?: number;
  /** For scores of one class, of the shape of the labels: from which score on it is class 1; 0 for logits, 0.5 for probabilities. */
  threshold?: number;
};

export const CLASS_OPTIONS: { ignoreIndex: Kind; threshold: Kind } = { ignoreIndex: anInteger, threshold: aNumber };

/** Labels without those that do not count, as a vector, and which count (bool), null for all. */
export type Counted = { readonly labels: Tensor; readonly counts: Tensor | null };

/** Labels [...] as a vector; those that do not count are 0 there. */
export function countedLabels(op: string, labels: Tensor, classes: number, ignoreIndex: number | undefined): Counted {
  checkArgument(op, 'labels', labels, aTensor);
  if (labels.dtype !== 'int32')
    throw new DTypeError(`${op}: expected int32 labels, got ${describe(labels)}; y.astype('int32') converts them`);
  const flat = labels.reshape(-1);
  if (ignoreIndex === undefined) {
    checkIndex(op, flat, classes, 'label');
    return { labels: flat, counts: null };
  }
  const counts = flat.ne(ignoreIndex);
  const kept = where(counts, flat, 0).astype('int32');
  checkIndex(op, kept, classes, 'label');
  return { labels: kept, counts };
}

/** Scores [N, C, …] for labels [N, …], as [positions, C]. */
export function scoreRows(op: string, scores: Tensor, labels: Tensor): Tensor {
  const shape = scores.shape.filter((_, i) => i !== 1);
  if (scores.rank < 2 || !scores.dtype.startsWith('float') || !sameShape(shape, labels.shape))
    throw new ShapeError(
      `${op}: expected scores [N, classes, …], the classes on axis 1, for labels ${describe(labels)}, got ${describe(scores)}`,
    );
  return scores.permute([0, ...shape.slice(1).map((_, i) => i + 2), 1]).reshape(-1, scores.shape[1]!);
}

/** Predicted classes [positions] of scores [N, C, …], of scores of one class, or of classes themselves. */
export function predictedClasses(op: string, predictions: Tensor, labels: Tensor, { threshold }: ClassOptions): Tensor {
  checkArgument(op, 'predictions', predictions, aTensor);
  checkArgument(op, 'labels', labels, aTensor);
  if (!sameShape(predictions.shape, labels.shape)) return scoreRows(op, predictions, labels).argmax(1);
  if (predictions.dtype === 'int32') return predictions.reshape(-1);
  if (threshold === undefined || !predictions.dtype.startsWith('float'))
    throw new DTypeError(
      `${op}: expected int32 classes or scores [N, classes, …] for labels ${describe(labels)}, got ${describe(predictions)}` +
        '; for scores of one class say the threshold: 0 for logits, 0.5 for probabilities',
    );
  return predictions.reshape(-1).ge(threshold).astype('int32');
}
