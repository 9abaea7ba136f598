/** How contenders look in all charts of a report, and the sizes of these. */

import { hue } from '../../charts/index.ts';
import type { LegendItem } from '../document.ts';
import type { Finalist } from '../summary.ts';

export const WIDE = {
  width: 380,
  height: 270,
  marginTop: 46,
  marginLeft: 46,
  marginRight: 12,
  marginBottom: 40,
} as const;
export const SMALL = {
  width: 176,
  height: 162,
  marginTop: 28,
  marginLeft: 36,
  marginRight: 10,
  marginBottom: 40,
} as const;

export type Line = { readonly stroke: string; readonly strokeDasharray: string };

/** Dashes by family, then a second and a third for more contenders of a family than there are hues. */
const DASHES: Readonly<Record<Finalist['family'], readonly string[]>> = {
  kronecker: ['none', '9 3 2 3', '9 3 2 3 2 3'],
  'first-order': ['5 3', '7 2 2 2', '3 2 3 5'],
  'quasi-newton': ['1.5 3', '1.5 3 1.5 6', '1.5 6'],
};

export const FAMILIES = 'Solid: Kronecker-factored. Dashed: first-order. Dotted: quasi-Newton.';

/** Of each finalist, in the experiment's order, a hue and the dashes of its family; no two have both in common. */
export function lines(finalists: readonly Finalist[]): Map<Finalist, Line> {
  const seen = new Map<string, number>();
  return new Map(
    finalists.map((one, i) => {
      const stroke = hue(i);
      const before = seen.get(one.family + stroke) ?? 0;
      seen.set(one.family + stroke, before + 1);
      const dashes = DASHES[one.family];
      return [one, { stroke, strokeDasharray: dashes[before % dashes.length]! }];
    }),
  );
}

const sample = (inside: string): string =>
  `<svg xmlns="http://www.w3.org/2000/svg" width="30" height="12" viewBox="0 0 30 12" aria-hidden="true">${inside}</svg>`;

export const lineSample = ({ stroke, strokeDasharray }: Line): string =>
  sample(`<path d="M0,6H30" stroke="${stroke}" stroke-width="2.5" stroke-dasharray="${strokeDasharray}"/>`);

export const boxSample = (fill: string): string => sample(`<rect x="8" width="14" height="12" fill="${fill}"/>`);

export const legendOf = (finalists: readonly Finalist[], looks: Map<Finalist, Line>): LegendItem[] =>
  finalists.map(one => ({ label: one.label, svg: lineSample(looks.get(one)!) }));

/** At most so many characters, for axes, with what stands in brackets at the end; legends and tables have the whole. */
export function short(text: string, most: number): string {
  if (text.length <= most) return text;
  const end = /( \([^()]*\))?$/.exec(text)![0];
  const kept = end.length < most - 4 ? end : '';
  return `${text.slice(0, most - 1 - kept.length).trimEnd()}…${kept}`;
}

/** The left margin that labels of rows need, about. */
export const marginFor = (labels: readonly string[]): number =>
  14 + 6.6 * Math.max(4, ...labels.map(({ length }) => length));
