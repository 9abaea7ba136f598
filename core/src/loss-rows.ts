/** Where who looks at the rows of a model's output meets the losses that weigh them. */

import type { Storage } from './storage.ts';
import type { Tensor } from './tensor.ts';

/** What weighs the rows of a loss of classes. */
type Weighing = {
  readonly reduction?: 'mean' | 'sum' | 'none';
  readonly weight?: Tensor;
  readonly ignoreIndex?: number;
};

/**
 * Told in the forward pass of a loss of logits [N, classes, …] and of `loss`, what came of them. `logP`, their log-softmax, is there where rows
 * may count differently: the gradient of it, summed over the classes, is −1 times what each row counts.
 */
export type LossWatcher = (logits: Tensor, loss: Tensor, o: Weighing, logP?: Tensor) => void;

/** By the storage of an output, who wants to know of losses of it. */
export const lossWatchers: WeakMap<Storage, LossWatcher> = /* @__PURE__ */ new WeakMap();
