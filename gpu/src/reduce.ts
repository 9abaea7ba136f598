/** Reductions. One workgroup a result where elements lie side by side, else a thread a result, so that neighbours read neighbours. */

import type { Operand, ReduceKernel } from '@otimes/core';
import { sizeOf, withLayout } from '@otimes/core/extend';
import { type Context, kernelOf, memoryOf, temporary } from './context.ts';
import { inWords, rowMajor } from './copy.ts';

import {
  constants,
  FINITE,
  FLAT,
  flatGroups,
  GROUP,
  INDEX,
  PER_GROUP,
  rowGroups,
  tensor,
  tree,
  type Word,
} from './wgsl.ts';

type Reduction = { readonly start: string; readonly join: (a: string, b: string) => string };

const NAN = 'nan_()';
const extreme = (f: 'max' | 'min') => (a: string, b: string) =>
  `select(${f}(${a}, ${b}), ${NAN}, isnan_(${a}) || isnan_(${b}))`;
const plain = (f: string) => (a: string, b: string) => `${f}(${a}, ${b})`;
const added = (a: string, b: string) => `${a} + ${b}`;

const FLOAT: Readonly<Record<'sum' | 'max' | 'min' | 'size', Reduction>> = {
  sum: { start: '0.0', join: added },
  max: { start: '-inf_()', join: extreme('max') },
  min: { start: 'inf_()', join: extreme('min') },
  // The largest |x|.
  size: { start: '0.0', join: (a, b) => extreme('max')(a, `abs(${b})`) },
};
const INT: Readonly<Record<'sum' | 'max' | 'min', Reduction>> = {
  sum: { start: '0', join: added },
  max: { start: '-2147483648', join: plain('max') },
  min: { start: '2147483647', join: plain('min') },
};

const TYPES = 'uuuu';
const FIELDS = 'x0:u32, outer:u32, length:u32, inner:u32';

/** Y [outer] ← X [outer, length] without gaps; `term` is what an element x counts for. */
const alongRows = (word: Word, { start, join }: Reduction, term: string, finish: string) => `${constants(FIELDS)}
${tensor(1, 'X', 'read', word)} ${tensor(2, 'U', 'read', word)} ${tensor(3, 'Y', 'read_write', word)}
var<workgroup> lanes : array<${word}, 64>;
${FINITE}
@compute @workgroup_size(64) fn main(${PER_GROUP}) {
  ${GROUP}
  let at = p.x0 + row * p.length;
  var acc = ${word}(${start});
  if (row < p.outer) {
    let unit = U[row];
    for (var i = t; i < p.length; i += 64u) { let x = X[at + i]; acc = ${join('acc', term)}; }
  }
  ${tree(64, join)}
  if (t == 0u && row < p.outer) { let sum = lanes[0]; let unit = U[row]; Y[row] = ${finish}; }
}`;

/** Y [outer, inner] ← X [outer, length, inner] without gaps. */
const alongColumns = (word: Word, { start, join }: Reduction, term: string, finish: string) => `${constants(FIELDS)}
${tensor(1, 'X', 'read', word)} ${tensor(2, 'U', 'read', word)} ${tensor(3, 'Y', 'read_write', word)}
${FINITE}
@compute @workgroup_size(64) fn main(${FLAT}) {
  ${INDEX}
  if (i >= p.outer * p.inner) { return; }
  let at = p.x0 + (i / p.inner) * p.length * p.inner + i % p.inner;
  let unit = U[i];
  var acc = ${word}(${start});
  for (var k = 0u; k < p.length; k++) { let x = X[at + k * p.inner]; acc = ${join('acc', term)}; }
  let sum = acc;
  Y[i] = ${finish};
}`;

/** `unit` is a tensor like the result that term and finish may use; without it the operand itself stands in its place. */
type Pass = { name: string; word: Word; reduction: Reduction; term?: string; finish?: string; unit?: Operand };

/** Reduces one run of neighbouring axes, [outer, length, inner]. */
function pass(
  c: Context,
  { name, word, reduction, term = 'x', finish = 'sum', unit }: Pass,
  x: Operand,
  dims: number[],
  out: Operand,
): void {
  const [outer, length, inner] = dims as [number, number, number];
  if (outer * inner === 0) return;
  const rows = inner === 1;
  const make = rows ? alongRows : alongColumns;
  const kernel = kernelOf(c, `${word} ${name} along ${rows ? 'rows' : 'columns'}`, () => ({
    code: make(word, reduction, term, finish),
    types: TYPES,
  }));
  const groups = rows ? rowGroups(outer) : flatGroups(outer * inner);
  c.commands.dispatch(kernel, [x, unit ?? x, out].map(memoryOf), [x.offset, outer, length, inner], groups);
}

/** [outer, length, inner] of x with the reduced axes last if they are no neighbours. */
function arranged(c: Context, x: Operand, axes: readonly number[]): { source: Operand; dims: number[] } {
  const sorted = [...axes].sort((a, b) => a - b);
  const [first, last] = [sorted[0] ?? x.shape.length, sorted.at(-1) ?? x.shape.length - 1];
  const lengths = (from: number, to: number) => sizeOf(x.shape.slice(from, to));
  if (last - first + 1 === sorted.length)
    return {
      source: rowMajor(c, x),
      dims: [lengths(0, first), lengths(first, last + 1), lengths(last + 1, x.shape.length)],
    };
  const kept = x.shape.map((_, i) => i).filter(i => !sorted.includes(i));
  const order = [...kept, ...sorted];
  const turned = withLayout(
    x,
    order.map(i => x.shape[i]!),
    order.map(i => x.strides[i]!),
  );
  return {
    source: rowMajor(c, turned),
    dims: [sizeOf(kept.map(i => x.shape[i]!)), sizeOf(sorted.map(i => x.shape[i]!)), 1],
  };
}

const TOTALS = {
  sum: {},
  mean: { finish: 'sum / f32(p.length)' },
  variance: { term: '((x - unit) * (x - unit))', finish: 'sum / f32(p.length)' },
};

/** Sums of float32 in one pass, for values that are far from the ends of the range: `variance` takes the means as `unit`. */
export function total(
  c: Context,
  name: keyof typeof TOTALS,
  x: Operand,
  axes: readonly number[],
  out: Operand,
  unit?: Operand,
): void {
  const { source, dims } = arranged(c, x, axes);
  pass(
    c,
    { name: `${name} in one pass`, word: 'f32', reduction: FLOAT.sum, ...TOTALS[name], ...(unit && { unit }) },
    source,
    dims,
    out,
  );
}

export function reduce(c: Context, kernel: ReduceKernel, x: Operand, axes: readonly number[], out: Operand): void {
  if (sizeOf(out.shape) === 0) return;
  const ints = x.dtype === 'int32' && kernel !== 'mean' && kernel !== 'norm';
  const given = x.dtype === 'float32' ? x : inWords(c, x, ints || out.dtype === 'int32' ? 'i32' : 'f32');
  const { source, dims } = arranged(c, given, axes);
  const word: Word = given.dtype === 'int32' ? 'i32' : 'f32';
  const table = word === 'i32' ? INT : FLOAT;
  if (kernel === 'sum' || kernel === 'max' || kernel === 'min')
    return pass(c, { name: kernel, word, reduction: table[kernel] }, source, dims, out);
  // Relative to a power of 2 near the largest element, so that neither the sum nor a square leaves the range.
  const largest = temporary(c, 'float32', out.shape);
  pass(c, { name: 'size', word, reduction: FLOAT.size }, source, dims, largest);
  const power = 'select(exp2(clamp(floor(log2(unit)), -126.0, 126.0)), 1.0, unit == 0.0 || !isfinite_(unit))';
  const term = kernel === 'norm' ? `((x / ${power}) * (x / ${power}))` : `(x / ${power})`;
  const finish = kernel === 'norm' ? `${power} * sqrt(sum)` : `${power} * (sum / f32(p.length))`;
  pass(c, { name: kernel, word, reduction: FLOAT.sum, term, finish, unit: largest }, source, dims, out);
}

/** The first extremum along an axis; NaN counts as one. A thread a result. */
const argCode = (word: Word, better: string) => `${constants(FIELDS)}
${tensor(1, 'X', 'read', word)} ${tensor(2, 'Y', 'read_write', 'i32')}
${FINITE}
@compute @workgroup_size(64) fn main(${FLAT}) {
  ${INDEX}
  if (i >= p.outer * p.inner) { return; }
  let at = p.x0 + (i / p.inner) * p.length * p.inner + i % p.inner;
  var best = X[at]; var place = 0u;
  for (var k = 1u; k < p.length; k++) {
    ${word === 'f32' ? 'if (isnan_(best)) { break; }' : ''}
    let x = X[at + k * p.inner];
    if (x ${better} best ${word === 'f32' ? '|| isnan_(x)' : ''}) { best = x; place = k; }
  }
  Y[i] = i32(place);
}`;

export function argReduce(c: Context, kernel: 'argmax' | 'argmin', x: Operand, axis: number, out: Operand): void {
  const size = sizeOf(out.shape);
  if (size === 0) return;
  const source = rowMajor(c, x);
  const word: Word = x.dtype === 'int32' ? 'i32' : 'f32';
  const code = () => ({ code: argCode(word, kernel === 'argmax' ? '>' : '<'), types: TYPES });
  const dims = [sizeOf(x.shape.slice(0, axis)), x.shape[axis]!, sizeOf(x.shape.slice(axis + 1))];
  c.commands.dispatch(
    kernelOf(c, `${word} ${kernel}`, code),
    [source, out].map(memoryOf),
    [source.offset, ...dims],
    flatGroups(size),
  );
}
