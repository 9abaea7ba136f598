/** What page and worker know of each other. The page has no tensors. */

export const OPTIMIZERS = ['Adam', 'STEVE'] as const;
export const DATASETS = ['spirals', 'smile', '⊗'] as const;
export type Dataset = (typeof DATASETS)[number];

export const STEPS = 300;
/** Points along a side of the picture of what a network says of the square. */
export const SIDE = 72;

/** Points in the square [−1, 1]², y upwards, [x, y, x, y, …], and their class, 0 or 1. */
export type Points = { readonly xy: Float32Array; readonly labels: Int32Array };

export type Progress = {
  readonly loss: number;
  readonly accuracy: number;
  /** Milliseconds of the step. */
  readonly ms: number;
  /** Probability of class 1, [SIDE, SIDE], the highest y first. */
  readonly field: Float32Array;
};

/** The worker tells; the page sends the name of a dataset. */
export type Message =
  | { readonly kind: 'ready'; readonly kernels: string; readonly threads: number }
  | { readonly kind: 'data'; readonly points: Points }
  | { readonly kind: 'step'; readonly step: number; readonly runs: readonly Progress[] };
