/** Marks and scales that charts of this repository share. */

import * as Plot from '@observablehq/plot';

/** How lines of measured values are drawn. */
export const CURVE = { strokeWidth: 2, strokeLinejoin: 'round', strokeLinecap: 'round' } as const;

/** The x axis as a thin line, under curves. */
export const baseline = (stroke: string): Plot.Frame => Plot.frame({ anchor: 'bottom', stroke });

/** What a panel shows, above its top left corner: `left` is its left margin, `dy` above the frame, in pixels. */
export function heading(text: string, o: { left: number; ink: string; dy?: number; fontSize?: number }): Plot.Text {
  const { left, ink, dy = -24, fontSize = 13 } = o;
  return Plot.text([text], { frameAnchor: 'top-left', dx: -left + 8, dy, fontSize, fill: ink });
}

/** Labels of axes as plain words in the middle. */
export const AXIS = { tickSize: 0, labelArrow: 'none', labelAnchor: 'center' } as const;

/**
 * A log scale over positive values, from tick to tick so that no curve ends on the frame: ticks at 1 and 3 of each decade, of each
 * decade alone where these are more than `most`, or at every digit where values lie within half a decade. 0.1 to 1 without values.
 */
export function logScale(
  values: readonly number[],
  most = 7,
): { type: 'log'; domain: [number, number]; ticks: number[] } {
  const positive = values.filter(value => value > 0 && Number.isFinite(value));
  const [low, high] =
    positive.length === 0
      ? [0.1, 1]
      : positive.reduce(([a, b], value) => [Math.min(a, value), Math.max(b, value)], [Infinity, 0]);
  const [first, last] = [Math.floor(Math.log10(low)) - 1, Math.ceil(Math.log10(high)) + 1];
  const decades = Array.from({ length: last - first + 1 }, (_, i) => first + i);
  const at = (digits: readonly number[]) =>
    decades.flatMap(decade => digits.map(digit => Number(`${digit}e${decade}`)));
  const within = (ticks: readonly number[]): number[] => {
    const from = ticks.findLast(tick => tick <= low * (1 - 1e-9)) ?? ticks[0]!;
    const to = ticks.find(tick => tick >= high * (1 + 1e-9)) ?? ticks.at(-1)!;
    return ticks.filter(tick => tick >= from && tick <= to);
  };
  const choices = [[1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9], [1, 2, 5], [1, 3], [1]].map(digits => within(at(digits)));
  let ticks = choices.find(({ length }) => length <= most) ?? choices.at(-1)!;
  const domain: [number, number] = [ticks[0]!, ticks.at(-1)!];
  // Of many decades every second, third, ….
  const every = Math.ceil(ticks.length / most);
  ticks = ticks.filter((_, i) => i % every === 0);
  return { type: 'log', domain, ticks };
}
