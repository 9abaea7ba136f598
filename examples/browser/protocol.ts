/** What page and worker know of each other. The page has no tensors. */

export const OPTIMIZERS = ['Adam', 'STEVE'] as const;
export const DATASETS = ['spirals', 'smile', '⊗'] as const;
export type Dataset = (typeof DATASETS)[number];

export const DEVICES = ['CPU', 'GPU'] as const;
export type DeviceName = (typeof DEVICES)[number];

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

/** What the page asks for. */
export type Wish = { readonly dataset: Dataset; readonly device: DeviceName };

/** What computes: each by its words for the page. */
export type Machines = {
  readonly CPU: string;
  /** Of the adapter; or why there is none. */
  readonly GPU: { readonly name: string; readonly isFallbackAdapter: boolean } | { readonly why: string };
};

/** What the worker tells. */
export type Message =
  | { readonly kind: 'ready'; readonly machines: Machines }
  | { readonly kind: 'failed'; readonly why: string }
  | { readonly kind: 'data'; readonly points: Points; readonly device: DeviceName }
  | { readonly kind: 'step'; readonly step: number; readonly runs: readonly Progress[] };
