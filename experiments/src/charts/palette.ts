/**
 * Colours of lines and bars as custom properties of CSS, each with a value for light and one for dark pages. Whoever needs more lines
 * than there are hues uses dashes beside them. Against the page each has a contrast of 3 or more (WCAG 2.1, 1.4.11).
 */

export type Ground = 'light' | 'dark';

/** Ink, muted text, lines of grids, the page, and a shade for bands and boxes. */
export const GROUND: Readonly<Record<Ground, Readonly<Record<'ink' | 'muted' | 'line' | 'page' | 'shade', string>>>> = {
  light: { ink: '#1d2129', muted: '#5b6472', line: '#d5dae2', page: '#ffffff', shade: '#f4f6f9' },
  dark: { ink: '#e8eaee', muted: '#a3acba', line: '#3a414d', page: '#14171c', shade: '#1e232b' },
};

/**
 * Found by a search that keeps any two apart by .08 in Oklab (Ottosson 2020), for full sight and for the three kinds of dichromacy as
 * Machado, Oliveira & Fernandes (2009) simulate them.
 */
export const HUES: Readonly<Record<Ground, readonly string[]>> = {
  light: ['#0d375b', '#c1711e', '#136f46', '#a04985', '#b72e19', '#5c3792', '#a784a4', '#81021f'],
  dark: ['#23b4f5', '#cde238', '#91e4d3', '#ff8ba8', '#bb7675', '#aaa522', '#0389b1', '#687215'],
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
