/**
 * Colours of lines and bars as custom properties of CSS, each with a value for light and one for dark pages. Eight hues in an order
 * in which neighbours differ in lightness too, for eyes that tell few hues apart; whoever needs more lines uses dashes beside them.
 * Against the page each has a contrast of 3 or more (WCAG 2.1, 1.4.11).
 */

export type Ground = 'light' | 'dark';

/** Ink, muted text, lines of grids, the page, and a shade for bands and boxes. */
export const GROUND: Readonly<Record<Ground, Readonly<Record<'ink' | 'muted' | 'line' | 'page' | 'shade', string>>>> = {
  light: { ink: '#1d2129', muted: '#5b6472', line: '#d5dae2', page: '#ffffff', shade: '#f4f6f9' },
  dark: { ink: '#e8eaee', muted: '#a3acba', line: '#3a414d', page: '#14171c', shade: '#1e232b' },
};

/** Hues after Okabe & Ito (2008), darkened for white pages and lightened for dark ones. */
export const HUES: Readonly<Record<Ground, readonly string[]>> = {
  light: ['#0b63b0', '#d1580b', '#0a8a68', '#a63d8f', '#6e4a1f', '#2b93c9', '#c2293f', '#8a7a00'],
  dark: ['#6ab0f3', '#f79a4b', '#3fcfa5', '#e58fd2', '#c9a06c', '#8fd8ff', '#ff7d88', '#e8d64a'],
};

/** From little to much, for what has an order. */
export const ORDERED: Readonly<Record<Ground, readonly string[]>> = {
  light: ['#c08400', '#c2620f', '#b23a3a', '#8c2f6b', '#5b2f86', '#2f3a8f'],
  dark: ['#ffe08a', '#ffb46b', '#ff8a80', '#f07fc0', '#c09bff', '#8fb2ff'],
};

/** What lines are drawn with: the colour as CSS names it. */
export const hue = (i: number): string => `var(--hue-${i % HUES.light.length})`;
export const ordered = (i: number): string => `var(--ordered-${i % ORDERED.light.length})`;
export const ground = (name: keyof (typeof GROUND)['light']): string => `var(--${name})`;

/** The declarations of all custom properties of a ground. */
export function properties(of: Ground): string {
  const lists = Object.entries({ hue: HUES[of], ordered: ORDERED[of] });
  return [
    ...Object.entries(GROUND[of]).map(([name, value]) => `--${name}:${value}`),
    ...lists.flatMap(([name, values]) => values.map((value, i) => `--${name}-${i}:${value}`)),
  ].join(';');
}
