/** A line search for the strong Wolfe conditions (Nocedal & Wright 2006, Algorithms 3.5 and 3.6), with the choices of torch.optim.LBFGS. */

import type { Tensor } from '@otimes/core';

/** The function along the line at step t: value, slope, and the gradient there. */
export type Point = { readonly t: number; readonly f: number; readonly slope: number; readonly gradient: Tensor };

/** Evaluates the function at a step. */
export type Evaluate<Read> = (t: number) => Generator<Read, Point, number>;

const [SUFFICIENT, CURVATURE] = [1e-4, 0.9];

/** How the search ended: the point, and how often the function was evaluated. */
export type Found = { readonly point: Point; readonly evaluations: number };

/**
 * A step with f(t) ≤ f(0) + 10⁻⁴ t f′(0) and |f′(t)| ≤ 0.9 |f′(0)|, or the best point where there is none in 25 iterations. A value that
 * is not finite counts as too large.
 *
 * @param from the point at t = 0, with a slope below 0
 * @param first the first step that is tried
 * @param change an interval whose length times `longest`, the largest element of the direction, is below this is not divided further
 */
export function* strongWolfe<Read>(
  evaluate: Evaluate<Read>,
  from: Point,
  first: number,
  longest: number,
  change: number,
  most = 25,
): Generator<Read, Found, number> {
  let evaluations = 0;
  function* at(t: number): Generator<Read, Point, number> {
    evaluations++;
    const point = yield* evaluate(t);
    return Number.isFinite(point.f) && Number.isFinite(point.slope) ? point : { ...point, f: Infinity };
  }
  const isSteep = (p: Point) => Math.abs(p.slope) > -CURVATURE * from.slope;
  const isHigh = (p: Point) => p.f > from.f + SUFFICIENT * p.t * from.slope;

  let [before, now] = [from, yield* at(first)];
  let iteration = 0;
  let bracket: [Point, Point] | null = null;
  for (; iteration < most; iteration++) {
    if (isHigh(now) || (iteration > 1 && now.f >= before.f)) bracket = [before, now];
    else if (!isSteep(now)) return { point: now, evaluations };
    else if (now.slope >= 0) bracket = [before, now];
    if (bracket !== null) break;
    const t = cubicMinimum(before, now, [now.t + 0.01 * (now.t - before.t), now.t * 10]);
    before = now;
    now = yield* at(t);
  }
  bracket ??= [from, now];

  let [low, high] = bracket[0].f <= bracket[1].f ? bracket : [bracket[1], bracket[0]];
  // Whether the last point was near an end of the interval: a second one is moved inwards.
  let wasNear = false;
  for (; iteration < most && Math.abs(high.t - low.t) * longest >= change; iteration++) {
    const [left, right] = [Math.min(low.t, high.t), Math.max(low.t, high.t)];
    let t = Number.isFinite(high.f) ? cubicMinimum(low, high) : (left + right) / 2;
    const margin = 0.1 * (right - left);
    const isNear = Math.min(right - t, t - left) < margin;
    const moves: boolean = isNear && (wasNear || t >= right || t <= left);
    if (moves) t = Math.abs(t - right) < Math.abs(t - left) ? right - margin : left + margin;
    wasNear = isNear && !moves;
    now = yield* at(t);
    if (isHigh(now) || now.f >= low.f) {
      high = now;
      if (low.f > high.f) [low, high] = [high, low];
      continue;
    }
    if (!isSteep(now)) return { point: now, evaluations };
    if (now.slope * (high.t - low.t) >= 0) high = low;
    low = now;
  }
  return { point: low, evaluations };
}

/** Where the cubic through values and slopes of two points has its minimum, within bounds; the middle of them where it has none. */
function cubicMinimum(a: Point, b: Point, bounds?: readonly [number, number]): number {
  const [left, right] = a.t <= b.t ? [a, b] : [b, a];
  const [least, largest] = bounds ?? [left.t, right.t];
  const d1 = a.slope + b.slope - (3 * (a.f - b.f)) / (a.t - b.t);
  const square = d1 ** 2 - a.slope * b.slope;
  if (!(square >= 0)) return (least + largest) / 2;
  const d2 = Math.sqrt(square);
  const t = right.t - (right.t - left.t) * ((right.slope + d2 - d1) / (right.slope - left.slope + 2 * d2));
  return Math.min(Math.max(t, least), largest);
}
