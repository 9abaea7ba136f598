/**
 * Writes the register blocks of the matrix product: for each number of rows r ≤ MR one function that holds an r × NR
 * block of C, two vectors a row, in r · 2 local variables. MR is 6 with fused multiply-add and 5 without, so that
 * accumulators, one row of B, one element of A (and a product) fit the 15 vector registers of x86-64 without a spill.
 * NOTE: k is not unrolled: with 4 steps TurboFan spills and runs at half the speed (Node 20).
 */

const range = n => Array.from({ length: n }, (_, i) => i);

/** `packed`: A lies as columns of `r` elements, side by side. Else its rows start at a, a + ar, … and step by ac. */
function block(rows, packed) {
  const name = packed ? 'panel' : 'rows';
  const each = (f, glue = '\n') => range(rows).map(f).join(glue);
  // Offsets in loads must be literal.
  const element = i =>
    packed ? `sizeof<T>() == 4 ? v128.load32_splat(a, ${4 * i}) : v128.load64_splat(a, ${8 * i})` : `splatAt<T>(a${i})`;
  const strides = packed ? '' : 'ar: usize, ac: usize, ';
  return `
export function ${name}${rows}<T>(k: i32, a: usize, ${strides}b: usize, br: usize, c: usize, cr: usize, from: usize, fr: usize): void {
${each(i => `  let s${i} = zero<T>(), t${i} = zero<T>();`)}
${packed ? '' : each(i => `  let a${i} = a + ${i} * ar;`)}
  while (k > 0) {
    const u = v128.load(b), v = v128.load(b, 16);
${each(i => `    const x${i} = ${element(i)};\n    s${i} = madd<T>(x${i}, u, s${i});\n    t${i} = madd<T>(x${i}, v, t${i});`)}
    ${packed ? `a += ${rows} * sizeof<T>();` : each(i => `a${i} += ac;`, ' ')}
    b += br;
    k--;
  }
  if (from) {
${each(i => `    v128.store(c, v128.add<T>(v128.load(from), s${i})); v128.store(c, v128.add<T>(v128.load(from, 16), t${i}), 16);`, '\n    c += cr; from += fr;\n')}
  } else {
${each(i => `    v128.store(c, s${i}); v128.store(c, t${i}, 16);`, '\n    c += cr;\n')}
  }
}`;
}

/**
 * `rows` × 2 dot products along the whole vectors of k: two vectors a row to `to`, whose lanes are yet to be added up.
 */
function dotBlock(rows) {
  const each = (f, glue = '\n') => range(rows).map(f).join(glue);
  return `
export function dots${rows}<T>(k: i32, a: usize, ar: usize, b: usize, bc: usize, to: usize): void {
${each(i => `  let s${i} = zero<T>(), t${i} = zero<T>();`)}
  for (; k >= lanes<T>(); k -= lanes<T>()) {
    const u = v128.load(b), v = v128.load(b + bc);
    let p = a;
${each(i => `    const x${i} = v128.load(p);\n    s${i} = madd<T>(x${i}, u, s${i});\n    t${i} = madd<T>(x${i}, v, t${i});`, '\n    p += ar;\n')}
    a += 16;
    b += 16;
  }
${each(i => `  v128.store(to, s${i}, ${32 * i}); v128.store(to, t${i}, ${32 * i + 16});`)}
}`;
}

/** Calls the block with `rows` rows. */
const choose = (name, most, addresses) => `
// @ts-ignore: decorator
@inline
export function ${name}<T>(rows: i32, k: i32, ${addresses.map(x => `${x}: usize`).join(', ')}): void {
${range(most)
  .map(i => `if (rows == ${most - i}) ${name}${most - i}<T>(k, ${addresses.join(', ')});`)
  .join('\n  else ')}
}`;

/** Twelve sums, two vectors of b and one of a fill the sixteen registers of x86-64. */
const most = 6;

export function blocks() {
  return [
    "import { lanes, madd, splatAt, zero } from '../vector';",
    `export const MR = ${most};`,
    ...['panel', 'rows'].flatMap(name => [
      ...range(most).map(i => block(i + 1, name === 'panel')),
      choose(name, most, ['a', ...(name === 'panel' ? [] : ['ar', 'ac']), 'b', 'br', 'c', 'cr', 'from', 'fr']),
    ]),
    ...range(most).map(i => dotBlock(i + 1)),
    choose('dots', most, ['a', 'ar', 'b', 'bc', 'to']),
  ].join('\n');
}
