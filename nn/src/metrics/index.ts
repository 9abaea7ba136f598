/** Metrics over many batches: `new metrics.Accuracy()`, `update(scores, labels)` for each batch, `await compute()`. */

export type { ClassOptions } from './check.ts';
export {
  Accuracy,
  type Average,
  ConfusionMatrix,
  type CountOptions,
  F1Score,
  Perplexity,
  Precision,
  Recall,
} from './classification.ts';
export { Metric } from './metric.ts';
export { Mean, MeanAbsoluteError, MeanSquaredError, R2Score } from './regression.ts';
