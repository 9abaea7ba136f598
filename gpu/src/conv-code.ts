/** Convolutions as products whose blocks are gathered from images by the tables of `conv-tables.ts`: the parts of their kernels. */

import { elementOf, fourAt, oneAt, UNPACKED } from './half.ts';
import { type Lie, matrixSide, placeOf } from './product.ts';
import { type Activation, epilogue, putCode } from './product-epilogue.ts';
import type { Side, Tile, TileParts } from './product-tile.ts';
import { constants, tensor, times, type Word } from './wgsl.ts';

/**
 * Those of products; `places` of an image, `padded` to whole steps; where entries of places begin; `terms` of the table; strides of
 * X, the images that are gathered from, and of Y over groups, images and planes; entries of Y from one part of a sum to the next.
 */
export const FIELDS =
  'm:u32, n:u32, k:u32, span:u32, splits:u32, groups:u32, columns:u32, inner:u32, a0:i32, a1:i32, a2:i32, ar:i32, ak:i32, ai:u32, ' +
  'y0:u32, bias:u32, c0:i32, cr:i32, cc:i32, batch:u32, z0:u32, places:u32, padded:u32, q0:u32, terms:u32, h:u32, w:u32, ' +
  'x0:i32, xz:i32, xi:i32, yi:u32, yr:u32, part:u32';
export const TYPES = `${'u'.repeat(8)}${'i'.repeat(5)}uuuiii${'u'.repeat(8)}iiiuuu`;

/** Whether what a term and a place, by the names of their entries, see together is inside. Without branches, as it stands in loops. */
export const inside = (masked: boolean, term: string, place: string) =>
  masked
    ? `(${term}.y & ${place}.y) != 0`
    : `(u32(${term}.y + ${place}.y) < p.h) & (u32(${term}.z + ${place}.z) < p.w)`;
/** The entry of what is outside of everything. */
const NOTHING = 'vec4<i32>(0, select(1073741824, 0, MASKED), 0, 0)';
const declared = (masked: boolean) => NOTHING.replace('MASKED', `${masked}`);

/** Rows are places of all images, terms (channel, tap). */
function placesSide(masked: boolean, word: Word, half: boolean): Side {
  return {
    along: 'false',
    before: (id, i) =>
      times(
        4,
        r => `let j${r}_${id} = ${i} + ${r}u; var q${r}_${id} = ${declared(masked)}; if (j${r}_${id} < own_n) { q${r}_${id} = T[own_q0 + j${r}_${id} % own_places]; }
  q${r}_${id}.x += p.x0 + i32(z) * p.xz + i32(j${r}_${id} / own_places) * p.xi;`,
      ),
    load: (id, k) =>
      times(
        4,
        j => `{ let e = T[own_t0 + ${k} + ${j}u];
        v${j} = vec4<${word}>(${[0, 1, 2, 3].map(r => `select(${word}(0), ${oneAt('X', `q${r}_${id}.x + e.x`, half)}, ${inside(masked, 'e', `q${r}_${id}`)})`).join(', ')}); }`,
      ),
  };
}

/** Rows of weights by the places that the table tells. */
function weightsSide(word: Word, half: boolean): Side {
  return {
    along: 'true',
    before: (id, i) => `let at_${id} = p.a0 + i32(z) * p.a1 + i32(${i}) * p.ar;`,
    load: (id, k) =>
      times(
        4,
        j => `v${j} = vec4<${word}>(); if (${k} + ${j}u < end) { let e = at_${id} + T[own_t0 + ${k} + ${j}u].w;
        v${j} = vec4<${word}>(${[0, 1, 2, 3].map(r => oneAt('A', `e + ${r} * p.ar`, half)).join(', ')}); }`,
      ),
  };
}

/** Steps of terms that are places: each lies within one image. */
const STEPS = (k: number) => ({
  start: 'var image = begin / p.padded; var first = begin % p.padded;',
  advance: `first += ${k}u; if (first >= p.padded) { first = 0u; image++; }`,
});

/** Rows are planes of gy, terms its places. */
function planesSide(wide: boolean, word: Word, half: boolean): Side {
  const v = `vec4<${word}>`;
  const at = (id: string) => `let q = first + 4u * k_${id}; let at = at_${id} + i32(image * p.ai + q);`;
  return {
    along: 'true',
    before: (id, i) => `let at_${id} = p.a0 + i32((z * p.m + ${i}) * p.places);`,
    load: id =>
      wide
        ? `${at(id)} let d = i32(p.places >> 2u);
        if (q < p.places) { ${times(4, r => `let e${r} = ${fourAt('A', `(at >> 2u) + ${r} * d`, half)};`)}
          ${times(4, j => `v${j} = ${v}(e0[${j}], e1[${j}], e2[${j}], e3[${j}]);`)}
        } else { ${times(4, j => `v${j} = ${v}();`)} }`
        : `${at(id)} let d = i32(p.places);
        ${times(4, j => `v${j} = ${v}(); if (q + ${j}u < p.places) { let e = at + ${j}; v${j} = ${v}(${[0, 1, 2, 3].map(r => oneAt('A', `e + ${r} * d`, half)).join(', ')}); }`)}`,
  };
}

/** Rows are (channel, tap), with `ones` one more that is 1; terms are places. */
function patchesSide(masked: boolean, ones: boolean, word: Word, half: boolean): Side {
  const element = (r: number, id: string, j: number) => {
    const seen = `select(${word}(0), ${oneAt('X', `base + e${r}_${id}.x`, half)}, ${inside(masked, `e${r}_${id}`, 'q')})`;
    return ones ? `select(${seen}, ${word}(1), last${r}_${id} & (first + 4u * k_${id} + ${j}u < p.places))` : seen;
  };
  return {
    along: 'true',
    before: (id, i) =>
      times(4, r => `let last${r}_${id} = ${i} + ${r}u == p.terms; let e${r}_${id} = T[min(${i} + ${r}u, p.terms)];`),
    load: id =>
      times(
        4,
        j => `{ let q = T[p.q0 + first + 4u * k_${id} + ${j}u]; let base = p.x0 + i32(z) * p.xz + i32(image) * p.xi + q.x;
        v${j} = vec4<${word}>(${[0, 1, 2, 3].map(r => element(r, id, j)).join(', ')}); }`,
      ),
  };
}

const bind = (i: number, name: string, type: string, access = 'read') =>
  `@group(0) @binding(${i}) var<storage, ${access}> ${name} : array<${type}>;`;

export type PlacesKind = {
  readonly tile: Tile;
  readonly masked: boolean;
  /** How the weights lie; 'table': anyhow. */
  readonly weights: Lie | 'table';
  /** Several classes of places, each with terms of its own. */
  readonly classes: boolean;
  /** Results are written four at a time. */
  readonly wide: boolean;
  readonly activation: Activation;
  /** Images and weights are in f16. */
  readonly half: boolean;
};

/** What a workgroup's tile is about. */
const OWN = 'let own_n = p.n; let own_k = p.k; let own_places = p.places; let own_t0 = 0u; let own_q0 = p.q0;';
/** The same where the table begins with `p.padded` classes, whose tiles follow each other. */
const classPlaceOf = ({ m, n }: Tile) => `
  let tall = (p.m + ${m - 1}u) / ${m}u;
  var at = group; var kind = 0u;
  for (; kind + 1u < p.padded; kind++) {
    let count = tall * ((u32(T[2u * kind].x) + ${n - 1}u) / ${n}u);
    if (at < count) { break; }
    at -= count;
  }
  let own_n = u32(T[2u * kind].x); let own_k = u32(T[2u * kind].y); let own_places = u32(T[2u * kind].z);
  let own_t0 = u32(T[2u * kind + 1u].x); let own_q0 = u32(T[2u * kind + 1u].y);
  let wide_ = (own_n + ${n - 1}u) / ${n}u;
  let row0 = (at / wide_) * ${m}u; let col0 = (at % wide_) * ${n}u;`;

/** Y [images, channels, places] ← weights · what its places see. */
export function placesParts({ tile, masked, weights, classes, wide, activation, half }: PlacesKind): TileParts {
  const word: Word = 'f32';
  const element = elementOf(weights === 'terms' || weights === 'rows', word, half);
  return {
    tile,
    word,
    head: `${constants(FIELDS)}
${bind(1, 'A', element)} ${bind(2, 'X', elementOf(false, word, half))} ${bind(3, 'T', 'vec4<i32>')} ${tensor(4, 'C')} ${bind(5, 'Y', wide ? 'vec4<f32>' : 'f32', 'read_write')}
${epilogue(activation, word)}
${UNPACKED}`,
    place: classes ? classPlaceOf(tile) : `${OWN} ${placeOf(tile, false)}`,
    terms: 'own_k',
    a: weights === 'table' ? weightsSide(word, half) : matrixSide('A', weights, word, half),
    b: placesSide(masked, word, half),
    columns: (id, col) =>
      times(
        wide ? 1 : 4,
        r =>
          `let j${r}_${id} = ${col} + ${r}u; let o${r}_${id} = p.y0 + split * p.part + (j${r}_${id} / own_places) * p.yi + u32(T[own_q0 + j${r}_${id} % own_places].w);`,
      ),
    put: (
      v,
      row,
      _,
      id,
    ) => `{ let row = ${row}; if (row < p.m && j0_${id} < own_n) { let line = z * p.m + row; let r = finished(${v}, line, 0u);
    ${
      wide
        ? `Y[(o0_${id} + line * p.yr) >> 2u] = r;`
        : times(4, r => `${r > 0 ? `if (j${r}_${id} < own_n) ` : ''}{ Y[o${r}_${id} + line * p.yr] = r[${r}]; }`)
    } } }`,
  };
}

export type TermsKind = {
  readonly tile: Tile;
  readonly masked: boolean;
  /** A are planes of gy, read four at a time or singly; or patches, as B. */
  readonly a: 'wide' | 'single' | 'patches';
  readonly ones: boolean;
  readonly wide: boolean;
  readonly word: Word;
  /** gy and images are in f16. */
  readonly half: boolean;
};

/** Y [groups, M, N] ← the sum over images and places of gy times patches, or of patches times patches. */
export function termsParts({ tile, masked, a, ones, wide, word, half }: TermsKind): TileParts {
  const symmetric = a === 'patches';
  const patches = patchesSide(masked, ones, word, half);
  return {
    tile,
    word,
    head: `${constants(FIELDS)}
${bind(1, 'A', elementOf(a === 'wide', word, half))} ${bind(2, 'X', elementOf(false, word, half))} ${bind(3, 'T', 'vec4<i32>')} ${tensor(4, 'C', 'read', word)} ${bind(5, 'Y', wide ? `vec4<${word}>` : word, 'read_write')}
${epilogue('none', word)}
${UNPACKED}
${putCode({ word, wide, mirrored: symmetric ? tile.m : 0 })}`,
    place: placeOf(tile, symmetric),
    a: symmetric ? patches : planesSide(a === 'wide', word, half),
    b: patches,
    ...STEPS(tile.k),
    put: (v, row, col) => `put(${v}, split * p.batch + z, ${row}, ${col});`,
  };
}
