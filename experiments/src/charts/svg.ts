/** SVG without a browser: Observable Plot on linkedom's document, and what a picture needs to stand in a page or in a file. */

import * as Plot from '@observablehq/plot';
import { parseHTML } from 'linkedom';
import { ground, properties } from './palette.ts';

/** System fonts, as attributes in double quotes may have them. */
export const FONT = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', 'DejaVu Sans', Arial, sans-serif";

const { document } = parseHTML('<!doctype html><html><body></body></html>');

/** The picture of these marks, its content alone: without svg element and style sheet. */
export function content(options: Plot.PlotOptions): string {
  const plot = Plot.plot({ ...options, document: document as NonNullable<Plot.PlotOptions['document']> });
  for (const style of plot.querySelectorAll('style')) style.remove();
  for (const axis of plot.querySelectorAll('[aria-label="x-axis tick label"]'))
    thin([...axis.querySelectorAll('text')]);
  return plot.innerHTML;
}

/** Of a character of an axis's label, in pixels, rather too much; and what must lie between two labels. */
const CHARACTER = 7;
const BETWEEN = 4;

/** What this needs of an element: Node's types have none. */
type Label = {
  readonly textContent: string | null;
  getAttribute(name: string): string | null;
  remove(): void;
};

/** Leaves every second, third, … label out, so that no two touch: Plot takes a number of ticks for a hint. */
function thin(labels: readonly Label[]): void {
  const ends = labels.map(label => {
    const x = Number(/translate\(([-\d.]+)/.exec(label.getAttribute('transform') ?? '')?.[1] ?? 0);
    const half = (CHARACTER * (label.textContent ?? '').length) / 2;
    return { low: x - half, high: x + half + BETWEEN };
  });
  const fits = (every: number) =>
    ends.every((end, i) => i % every !== 0 || i < every || ends[i - every]!.high <= end.low);
  let every = 1;
  while (!fits(every)) every++;
  for (const [i, label] of labels.entries()) if (i % every !== 0) label.remove();
}

/** For text and attributes of XML and HTML. */
export function escapeXml(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
    .replaceAll("'", '&#39;');
}

export type Panel = Plot.PlotOptions & { readonly width: number; readonly height: number };

export type SheetOptions = {
  readonly width: number;
  readonly height: number;
  /** What it shows, for who cannot see it, and as a tooltip. */
  readonly title: string;
  /** Of the text; defaults to the text colour around it. */
  readonly ink?: string;
  /** Defaults to none. */
  readonly background?: string;
  /** In pixels; defaults to 12. */
  readonly fontSize?: number;
};

/** One SVG of panels, each with the place of its top left corner. */
export function sheet(
  panels: readonly { readonly x: number; readonly y: number; readonly panel: Panel }[],
  o: SheetOptions,
): string {
  const { width, height, title, ink = 'currentColor', background, fontSize = 12 } = o;
  const ground = background === undefined ? '' : `<rect width="${width}" height="${height}" fill="${background}"/>`;
  const groups = panels.map(({ x, y, panel }) =>
    x === 0 && y === 0 ? content(panel) : `<g transform="translate(${x},${y})">${content(panel)}</g>`,
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" role="img" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="${FONT}" font-size="${fontSize}" fill="${ink}" text-anchor="middle"><title>${escapeXml(title)}</title>${ground}
${groups.join('\n')}
</svg>`;
}

/** A picture of `sheet` as a file of its own, with the colours of a light and of a dark page, and that page behind it. */
export const standalone = (svg: string): string =>
  svg.replace(
    /(<title>.*?<\/title>)/s,
    `$1<style>:root{color:var(--ink);${properties('light')}}@media (prefers-color-scheme:dark){:root{${properties('dark')}}}</style><rect width="100%" height="100%" fill="${ground('page')}"/>`,
  );

/** One panel as an SVG. */
export const picture = (panel: Panel, o: Omit<SheetOptions, 'width' | 'height'>): string =>
  sheet([{ x: 0, y: 0, panel }], { ...o, width: panel.width, height: panel.height });
