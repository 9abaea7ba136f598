/** What charts of reports and examples share: colours that eyes can tell apart, log scales, and pictures that are whole. */

import assert from 'node:assert/strict';
import fc from 'fast-check';
import { parseHTML } from 'linkedom';
import { escapeXml, GROUND, HUES, logScale, ORDERED, picture, properties, sheet } from 'otimes-experiments/charts';
import t from 'tap';
import { law, property } from './helpers/law.ts';

// --- colours ---

type Triple = readonly [number, number, number];
type Matrix = readonly [Triple, Triple, Triple];

/** Linear light of '#rrggbb'. */
const linear = (color: string): Triple =>
  [1, 3, 5]
    .map(i => Number.parseInt(color.slice(i, i + 2), 16) / 255)
    .map(x => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4)) as [number, number, number];

const times = (m: Matrix, v: Triple): Triple =>
  m.map(row => row[0] * v[0] + row[1] * v[1] + row[2] * v[2]) as [number, number, number];

/** Relative luminance (WCAG 2.1). */
const luminance = (color: string): number => {
  const [r, g, b] = linear(color);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const contrast = (a: string, b: string): number => {
  const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y) as [number, number];
  return (high + 0.05) / (low + 0.05);
};

law(t, 'lines have a contrast of 3 with the page, text one of 4.5, light and dark', () => {
  for (const of of ['light', 'dark'] as const) {
    const { page, ink, muted } = GROUND[of];
    for (const color of [...HUES[of], ...ORDERED[of]]) assert.ok(contrast(color, page) >= 3, `${of} ${color}`);
    for (const color of [ink, muted]) assert.ok(contrast(color, page) >= 4.5, `${of} ${color}`);
  }
});

/** Machado, Oliveira & Fernandes (2009), severity 1, on linear light. */
const SIGHT: Readonly<Record<string, Matrix>> = {
  full: [
    [1, 0, 0],
    [0, 1, 0],
    [0, 0, 1],
  ],
  protanopia: [
    [0.152286, 1.052583, -0.204868],
    [0.114503, 0.786281, 0.099216],
    [-0.003882, -0.048116, 1.051998],
  ],
  deuteranopia: [
    [0.367322, 0.860646, -0.227968],
    [0.280085, 0.672501, 0.047413],
    [-0.01182, 0.04294, 0.968881],
  ],
  tritanopia: [
    [1.255528, -0.076749, -0.178779],
    [-0.078411, 0.930809, 0.147602],
    [0.004733, 0.691367, 0.3039],
  ],
};

/** Ottosson (2020): distances are about what eyes see. */
function oklab(light: Triple): Triple {
  const cones = times(
    [
      [0.4122214708, 0.5363325363, 0.0514459929],
      [0.2119034982, 0.6806995451, 0.1073969566],
      [0.0883024619, 0.2817188376, 0.6299787005],
    ],
    light,
  ).map(Math.cbrt) as [number, number, number];
  return times(
    [
      [0.2104542553, 0.793617785, -0.0040720468],
      [1.9779984951, -2.428592205, 0.4505937099],
      [0.0259040371, 0.7827717662, -0.808675766],
    ],
    cones,
  );
}

law(t, 'any two hues differ for every kind of sight', () => {
  for (const of of ['light', 'dark'] as const)
    for (const [sight, matrix] of Object.entries(SIGHT)) {
      const seen = HUES[of].map(color => {
        const light = times(matrix, linear(color)).map(x => Math.min(1, Math.max(0, x)));
        return oklab(light as [number, number, number]);
      });
      for (const [i, a] of seen.entries())
        for (const [j, b] of seen.slice(0, i).entries()) {
          const distance = Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]);
          assert.ok(
            distance >= 0.08,
            `${of}, ${sight}: ${HUES[of][i]} and ${HUES[of][j]} are ${distance.toFixed(3)} apart`,
          );
        }
    }
});

law(t, 'both grounds have the same properties', () => {
  const names = (of: 'light' | 'dark') => [...properties(of).matchAll(/--[\w-]+/g)].map(([name]) => name);
  assert.deepEqual(names('light'), names('dark'));
  assert.equal(new Set(names('light')).size, names('light').length);
});

// --- scales ---

law(t, 'a log scale has all positive values within its ends, and few ticks, between them', () =>
  property(
    fc.tuple(
      fc.array(fc.double({ min: 1e-12, max: 1e12, noNaN: true }), { maxLength: 8 }),
      fc.integer({ min: 3, max: 9 }),
    ),
    ([values, most]) => {
      const { domain, ticks } = logScale([...values, 0, -1, Number.NaN, Infinity], most);
      assert.ok(domain[0] > 0 && domain[0] < domain[1], String(domain));
      for (const value of values) assert.ok(domain[0] < value && value < domain[1], `${value} in ${domain}`);
      assert.ok(ticks.length >= 1 && ticks.length <= most, `${ticks.length} ticks`);
      for (const tick of ticks) assert.ok(domain[0] <= tick && tick <= domain[1], `${tick} in ${domain}`);
    },
  ),
);

// --- pictures ---

law(t, 'text in a picture is what it was, whatever it has in it', () =>
  property(fc.string({ maxLength: 30 }), text => {
    const { document } = parseHTML(`<p title="${escapeXml(text)}" lang='${escapeXml(text)}'>${escapeXml(text)}</p>`);
    const p = document.querySelector('p')!;
    assert.equal(p.textContent, text);
    assert.deepEqual([p.getAttribute('title'), p.getAttribute('lang')], [text, text]);
  }),
);

law(t, 'a picture stands by itself: its namespace, its title, and every panel in its place', () => {
  const panel = { width: 100, height: 50, marks: [] };
  const one = picture(panel, { title: 'a < b' });
  assert.match(
    one,
    /^<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg" role="img" width="100" height="50" viewBox="0 0 100 50"/,
  );
  assert.match(one, /<title>a &lt; b<\/title>/);
  const two = sheet(
    [
      { x: 0, y: 0, panel },
      { x: 30, y: 40, panel },
    ],
    { width: 130, height: 90, title: 't', background: '#ffffff' },
  );
  assert.match(two, /<rect width="130" height="90" fill="#ffffff"\/>/);
  assert.deepEqual(
    [...two.matchAll(/<g transform="([^"]*)">/g)].map(([, place]) => place),
    ['translate(30,40)'],
  );
  assert.equal([...two.matchAll(/<svg/g)].length, 1);
});
