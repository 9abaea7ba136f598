/** What one training run leaves behind, and where it reached a target. Tables and charts are made from these. */

/** The test accuracy (0 … 1) after so many epochs and so many seconds of training. */
export type Check = { epoch: number; seconds: number; accuracy: number };

export type Run = {
  /** The optimizer, as people call it. */
  name: string;
  /** Of its curves: a CSS colour. */
  color: string;
  /** In words, such as 'lr 0.01'. */
  settings: string;
  /** The loss of each step's minibatch, before the step; `epoch` counts the steps up to and including it. */
  losses: readonly { epoch: number; loss: number }[];
  /** In the order of time. */
  checks: readonly Check[];
  /** Spent in forward, backward and step; reading data and testing are not counted. */
  seconds: number;
};

/** The first check at the target or above it. */
export function reached(run: Run, target: number): Check | undefined {
  return run.checks.find(({ accuracy }) => accuracy >= target);
}

export function finalAccuracy(run: Run): number {
  return run.checks.at(-1)?.accuracy ?? 0;
}

export function bestAccuracy(run: Run): number {
  return run.checks.reduce((best, { accuracy }) => Math.max(best, accuracy), 0);
}

export function stepsPerSecond(run: Run): number {
  return run.losses.length / run.seconds;
}

/** 0.943 → '94.3 %', and 0.94 → '94 %'. */
export function percent(share: number, digits = 1): string {
  return `${Number((share * 100).toFixed(digits))} %`;
}

/** 'a, b and c' */
export function list(names: readonly string[]): string {
  return names.length < 2 ? names.join('') : `${names.slice(0, -1).join(', ')} and ${names.at(-1)}`;
}
