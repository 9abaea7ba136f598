/** Convolutions and the Gram matrix of patches as products, without the patches: the three forms of `ConvKernels` in core. */

import type { ConvGeometry, Operand, Window } from '@otimes/core';
import { sizeOf, withLayout } from '@otimes/core/extend';
import { type Context, kernelOf, memoryOf, temporary } from './context.ts';
import { placesParts, TYPES, termsParts } from './conv-code.ts';
import { direct, directWeightGrad } from './conv-direct.ts';
import { classesOf, forwardLook, inputLooks, type Look, sizesOf, type Table, tableOf } from './conv-tables.ts';
import { copied, inWords, rowMajor } from './copy.ts';
import { halfOf } from './half.ts';
import { matrixPlan } from './matrix-plan.ts';
import { matrixCode } from './matrix-tile.ts';
import type { MatrixUnit } from './matrix-unit.ts';
import { fill } from './memory.ts';
import { type Lie, lieOf, multiply, twoAxes, zRuns } from './product.ts';
import { type Activation, biasValues, sumParts } from './product-epilogue.ts';
import { type Plan, planOn, planWith, type Sizes, tilesOf } from './product-plan.ts';
import { nameOf, type TileParts, tileCode } from './product-tile.ts';
import type { Word } from './wgsl.ts';

type Four = readonly [number, number, number, number];
const four = ({ shape }: Operand) => shape as Four;

export type ConvChoice = {
  /** What is done with each result at last. */
  activation?: Activation;
  /** In the place of the plan that is chosen. */
  plan?: { tile: Plan['tile']; splits: number };
  /** Whether an input's gradient reads a copy of the weights in its own order; by default where that is worth it. */
  copy?: boolean;
};

/** Fewer rows of results a group than this are computed one by one. */
const FEWEST_ROWS = 8;

/** out (y) ← activation(x ∗ w + bias [O]) */
export function convForward(
  c: Context,
  x: Operand,
  w: Operand,
  bias: Operand | null,
  out: Operand,
  geometry: ConvGeometry,
  choice: ConvChoice = {},
): void {
  if (sizeOf(out.shape) === 0) return;
  const [n, channels, height, width] = four(x);
  const [outputs, share, kh, kw] = four(w);
  const [, , ho, wo] = four(out);
  const { groups } = geometry;
  const { activation = 'none' } = choice;
  const [images, weights] = [rowMajor(c, x), rowMajor(c, w)];
  const [rows, places, terms] = [outputs / groups, ho * wo, share * kh * kw];
  if (isPointwise(geometry) && places % 4 === 0 && places >= 64 && choice.plan === undefined)
    return multiply(
      c,
      withLayout(weights, [n, outputs, channels], [0, channels, 1]),
      withLayout(images, [n, channels, places]),
      withLayout(out, [n, outputs, places]),
      { bias, biasOf: 'rows', activation, mixed: c.mixed },
    );
  const seen: Seen = {
    look: forwardLook([height, width], share, [ho, wo], geometry),
    source: images,
    strides: [share * height * width, channels * height * width],
    weights: { of: weights, group: rows * terms, row: terms, term: 1 },
    sizes: { n, groups, rows },
  };
  overPlaces(c, seen, out, { bias, activation }, choice);
}

/** A kernel of one tap that meets each pixel once. */
const isPointwise = ({ kernel, stride, padding, groups }: ConvGeometry) =>
  groups === 1 && [...kernel, ...stride].every(v => v === 1) && padding.every(v => v === 0);

/** out (like x) ← the gradient of Σ gy · (x ∗ w) by x */
export function convInputGrad(
  c: Context,
  gy: Operand,
  w: Operand,
  out: Operand,
  geometry: ConvGeometry,
  choice: ConvChoice = {},
): void {
  if (sizeOf(out.shape) === 0) return;
  const [n, outputs, ho, wo] = four(gy);
  const [, share, kh, kw] = four(w);
  const [, channels, height, width] = four(out);
  const { groups } = geometry;
  const [grads, weights] = [rowMajor(c, gy), rowMajor(c, w)];
  const [perGroup, taps, area] = [outputs / groups, kh * kw, height * width];
  if (isPointwise(geometry) && area % 4 === 0 && area >= 64 && choice.plan === undefined)
    return multiply(
      c,
      withLayout(weights, [n, channels, outputs], [0, 1, channels]),
      withLayout(grads, [n, outputs, area]),
      withLayout(out, [n, channels, area]),
      { mixed: c.mixed },
    );
  const looks = inputLooks([height, width], [ho, wo], perGroup, share, geometry);
  const meets = ({ taps: [a, b] }: Look) => a * b > 0;
  if (!looks.every(meets) || perGroup === 0) fill(c, 0, out);
  // What sees most comes first, as it takes longest.
  const met = looks.filter(meets).sort((a, b) => sizesOf(b)[0] - sizesOf(a)[0]);
  if (met.length === 0 || perGroup === 0) return;
  const rows = { groups, perGroup, share, taps, columns: n * area };
  const seen: Seen = {
    look: met[0]!,
    source: grads,
    strides: [perGroup * ho * wo, outputs * ho * wo],
    weights: weightsOf(c, weights, met, rows, choice),
    sizes: { n, groups, rows: share },
  };
  overPlaces(c, seen, out, { bias: null, activation: 'none' }, choice, met.length > 1 ? met : []);
}

/** Products and sums from which on a copy of the weights, in the order in which they are read, pays. */
const WORTH_A_COPY = 2 ** 28;

/** Rows of weights for an input's gradient: a row a channel of the input, terms (output, tap). */
function weightsOf(
  c: Context,
  of: Operand,
  looks: readonly Look[],
  { groups, perGroup, share, taps, columns }: Record<'groups' | 'perGroup' | 'share' | 'taps' | 'columns', number>,
  { copy }: ConvChoice,
): Seen['weights'] {
  const group = perGroup * share * taps;
  const [look] = looks as [Look];
  const own = look.taps[0] * look.taps[1];
  if (looks.length > 1) return { of, group, row: taps, term: null };
  if (own === 1) return { of: { ...of, offset: of.offset + look.weight.start }, group, row: taps, term: share * taps };
  if (own < taps || !(copy ?? groups * group * columns >= WORTH_A_COPY)) return { of, group, row: taps, term: null };
  const turned = withLayout(of, [groups, share, perGroup, taps], [group, taps, share * taps, 1]);
  return { of: copied(c, turned), group, row: perGroup * taps, term: 1 };
}

/** Results that are weighted sums of what places see. */
export type Seen = {
  readonly look: Look;
  readonly source: Operand;
  /** Of the source, over groups and images. */
  readonly strides: readonly [group: number, image: number];
  /** Steps in `of` over groups, rows and terms; null: by the table. */
  readonly weights: {
    readonly of: Operand;
    readonly group: number;
    readonly row: number;
    readonly term: number | null;
  };
  readonly sizes: { readonly n: number; readonly groups: number; readonly rows: number };
};

/** With images and weights in f16. */
const halved = (c: Context, { source, weights, ...rest }: Seen): Seen => ({
  ...rest,
  source: halfOf(c, source),
  weights: { ...weights, of: halfOf(c, weights.of) },
});

/** @param classes looks of which each is about other places of the result, in the place of that of `all` */
function overPlaces(
  c: Context,
  all: Seen,
  out: Operand,
  finish: { bias: Operand | null; activation: Activation },
  choice: ConvChoice,
  classes: readonly Look[] = [],
): void {
  const half = c.mixed;
  const seen = half ? halved(c, all) : all;
  const { look, source, strides, weights, sizes } = seen;
  const { n, groups, rows } = sizes;
  if (rows < FEWEST_ROWS && choice.plan === undefined) {
    for (const one of classes.length > 0 ? classes : [look])
      direct(c, { ...seen, look: one }, tableOf(c, one), out, finish, half);
    return;
  }
  const single = classes.length === 0;
  const table = single ? tableOf(c, look) : classesOf(c, classes, n);
  const [, channels, height, width] = four(out);
  const plane = height * width;
  const looks = single ? [look] : classes;
  const columns = looks.map(one => n * sizesOf(one)[1]);
  const total = columns.reduce((sum, count) => sum + count, 0);
  const terms = looks.reduce((sum, one, i) => sum + (sizesOf(one)[0] * columns[i]!) / total, 0);
  const asked = { m: rows, n: total, k: single ? table.terms : Math.ceil(terms), batch: groups, whole: !single };
  const { plan, unit } = planFor(c, asked, half, choice);
  const { tile, splits } = plan;
  const parts = splits === 1 ? null : temporary(c, 'float32', [splits, n, channels, plane]);
  const target = parts ?? out;
  const { result } = look;
  const inRow = single && result.column === 1 && result.row === look.places[1] && result.start === 0;
  const wide = inRow && table.places % 4 === 0 && target.offset % 4 === 0;
  const lie: Lie | 'table' = weights.term === null ? 'table' : weightsLie(weights, rows, table.terms);
  const activation = parts === null ? finish.activation : 'none';
  const kind = { tile, masked: table.masked, weights: lie, classes: !single, wide, activation, half } as const;
  const key = `${unit !== null} ${nameOf(tile)} ${table.masked} ${lie} ${single} ${wide} ${activation} ${half}`;
  const kernel = kernelOf(c, `conv over places ${key}`, () => ({
    code: codeOf(placesParts(kind), unit),
    types: TYPES,
  }));
  const whole = { ...finish, biasOf: 'rows' as const };
  const tiles = columns.map(count => tilesOf(tile, { m: rows, n: count, k: 0, batch: 1 }));
  const { bias } = finish;
  const memories = [...[weights.of, source].map(memoryOf), table.memory, ...[bias ?? source, target].map(memoryOf)];
  const count = tiles.reduce((sum, one) => sum + one.count, 0);
  // With classes the terms of the largest, none of which is split.
  const most = Math.max(...looks.map(one => sizesOf(one)[0]));
  for (const [first, some] of zRuns(groups, splits)) {
    const values = [
      ...[rows, total, most, single ? plan.span : most, splits, count, tiles[0]!.columns, 1],
      ...[weights.of.offset, weights.group, 0, weights.row, weights.term ?? 0, 0],
      ...[target.offset, ...biasValues(parts === null ? whole : { ...whole, bias: null }), groups, first],
      ...[table.places, classes.length, table.q0, table.terms, look.image[0], look.image[1]],
      ...[source.offset, strides[0], strides[1], channels * plane, plane, n * channels * plane],
    ];
    const covers = parts === null && inRow && table.places === plane && some === groups;
    const flow = covers ? { stores: 4, count: sizeOf(out.shape) } : null;
    c.commands.dispatch(kernel, memories, values, [...twoAxes(count), some * splits], flow);
  }
  if (parts !== null) sumParts(c, parts, withLayout(out, [n, channels, plane]), whole);
}

const weightsLie = ({ of, group, row, term }: Seen['weights'], rows: number, terms: number): Lie =>
  lieOf({ ...of, strides: [group, row, term!] }, [row, term!], rows, terms);

/** out (like w) ← the gradient of Σ gy · (x ∗ w) by w */
export function convWeightGrad(
  c: Context,
  x: Operand,
  gy: Operand,
  out: Operand,
  geometry: ConvGeometry,
  choice: ConvChoice = {},
): void {
  if (sizeOf(out.shape) === 0) return;
  const [n, channels, height, width] = four(x);
  const [, outputs, ho, wo] = four(gy);
  const { groups } = geometry;
  if (sizeOf(gy.shape) === 0 || sizeOf(x.shape) === 0) return fill(c, 0, out);
  const share = channels / groups;
  const table = tableOf(c, forwardLook([height, width], share, [ho, wo], geometry));
  const [images, grads] = [rowMajor(c, x), rowMajor(c, gy)];
  const rows = outputs / groups;
  if (rows < FEWEST_ROWS && choice.plan === undefined)
    return directWeightGrad(c, images, grads, table, out, { n, groups, rows, share, image: [height, width] });
  overTerms(c, grads, images, table, withLayout(out, [groups, rows, table.terms]), false, choice, [height, width]);
}

/** out [I, I] ← Σ p pᵀ over the patches of x, with `ones` [I + 1, I + 1]. Exactly symmetric. */
export function patchGram(
  c: Context,
  x: Operand,
  out: Operand,
  window: Window,
  places: readonly [number, number],
  ones: boolean,
  choice: ConvChoice = {},
): void {
  if (sizeOf(out.shape) === 0) return;
  const [n, channels, height, width] = four(x);
  if (n === 0) return fill(c, 0, out);
  const images = inWords(c, rowMajor(c, x), out.dtype === 'int32' ? 'i32' : 'f32');
  const table = tableOf(c, forwardLook([height, width], channels, places, window));
  const size = out.shape[0]!;
  overTerms(c, null, images, table, withLayout(out, [1, size, size]), ones, choice, [height, width]);
}

/** out [groups, rows, columns] ← sums over images and places; `grads` [N, O, places], or null for patches times patches. */
function overTerms(
  c: Context,
  grads: Operand | null,
  images: Operand,
  table: Table,
  out: Operand,
  ones: boolean,
  choice: ConvChoice,
  [height, width]: readonly [number, number],
): void {
  const word: Word = out.dtype === 'int32' ? 'i32' : 'f32';
  const [groups, rows, columns] = out.shape as [number, number, number];
  const [n, channels] = four(images);
  const symmetric = grads === null;
  // Curvature stays float32.
  const half = c.mixed && !symmetric;
  const sizes = {
    m: rows,
    n: columns,
    k: n * 16 * Math.ceil(table.places / 16),
    batch: groups,
    symmetric,
    places: true,
  };
  const { plan: asked, unit } = planFor(c, sizes, half, choice);
  const padded = asked.tile.k * Math.ceil(table.places / asked.tile.k);
  const plan = planWith(asked.tile, n * padded, asked.splits);
  const { tile, splits, span } = plan;
  const parts = splits === 1 ? null : temporary(c, out.dtype, [splits, groups, rows, columns]);
  const target = parts ?? out;
  const wide = !symmetric && columns % 4 === 0 && target.offset % 4 === 0;
  const a = symmetric ? 'patches' : table.places % 4 === 0 && grads.offset % 4 === 0 ? 'wide' : 'single';
  const kind = { tile, masked: table.masked, a, ones, wide, word, half } as const;
  const key = `${word} conv over terms ${unit !== null} ${nameOf(tile)} ${table.masked} ${a} ${ones} ${wide} ${half}`;
  const kernel = kernelOf(c, key, () => ({ code: codeOf(termsParts(kind), unit), types: TYPES }));
  const tiles = tilesOf(tile, sizes);
  const share = channels / groups;
  const [first, seen] = [grads ?? images, images].map(x => (half ? halfOf(c, x) : x)) as [Operand, Operand];
  const memories = [...[first, seen].map(memoryOf), table.memory, ...[seen, target].map(memoryOf)];
  const values = [
    ...[rows, columns, n * padded, span, splits, tiles.count, tiles.columns, 1],
    ...[first.offset, 0, 0, 0, 0, groups * rows * table.places],
    ...[target.offset, 0, 0, 0, 0, groups, 0],
    ...[table.places, padded, table.q0, table.terms, height, width],
    ...[images.offset, share * height * width, channels * height * width, 0, 0, 0],
  ];
  for (const [z0, count] of zRuns(groups, splits)) {
    values[20] = z0;
    c.commands.dispatch(kernel, memories, values, [...twoAxes(tiles.count), count * splits]);
  }
  if (parts !== null) sumParts(c, parts, out, { bias: null, biasOf: 'columns', activation: 'none' });
}

/** By matrix units, or by the threads' own arithmetic. */
const codeOf = (parts: TileParts, unit: MatrixUnit | null): string =>
  unit === null ? tileCode(parts) : matrixCode({ ...parts, unit });

/** A plan, and the matrix units that it is for. */
function planFor(
  c: Context,
  sizes: Sizes,
  half: boolean,
  { plan }: ConvChoice,
): { plan: Plan; unit: MatrixUnit | null } {
  if (plan !== undefined) return { plan: planWith(plan.tile, sizes.k, sizes.whole ? 1 : plan.splits), unit: null };
  const room = c.commands.device.limits.maxComputeWorkgroupStorageSize;
  const units = half && c.unit !== null ? matrixPlan(c.unit, room, sizes, [null, null]) : null;
  return { plan: units ?? planOn(c.commands.device, sizes), unit: units && c.unit };
}
