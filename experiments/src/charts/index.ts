/** otimes-experiments/charts: what reports and examples draw with. */

export { AXIS, baseline, CURVE, heading, logScale } from './marks.ts';
export { GROUND, type Ground, ground, HUES, hue, ORDERED, ordered, properties } from './palette.ts';
export { content, escapeXml, FONT, type Panel, picture, type SheetOptions, sheet, standalone } from './svg.ts';
