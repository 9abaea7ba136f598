/** Products of matrices of any layout, by tiles. What they add to the results, bias and activation, is their epilogue. */

import type { Operand } from '@otimes/core';
import { sizeOf, transposed, withLayout } from '@otimes/core/extend';
import { type Context, kernelOf, memoryOf, temporary } from './context.ts';
import { copied, inWords, rowMajor } from './copy.ts';
import { elementOf, fourAt, halfOf, oneAt, UNPACKED } from './half.ts';
import { joined } from './layouts.ts';
import { matrixLie, matrixLies, matrixPlan } from './matrix-plan.ts';
import { type MatrixLie, type MatrixParts, matrixCode } from './matrix-tile.ts';
import type { MatrixUnit } from './matrix-unit.ts';
import { fill } from './memory.ts';
import { type Activation, biasValues, epilogue, putCode, sumParts } from './product-epilogue.ts';
import { type Plan, planOn, tilesOf } from './product-plan.ts';
import { nameOf, type Side, type Tile, type TileParts, tileCode } from './product-tile.ts';
import { constants, rowGroups, tensor, times, type Word } from './wgsl.ts';

/** `inner` products of the batch lie side by side, by the second of two steps. */
const FIELDS =
  'm:u32, n:u32, k:u32, span:u32, splits:u32, groups:u32, columns:u32, inner:u32, a0:i32, a1:i32, a2:i32, ar:i32, ak:i32, ' +
  'b0:i32, b1:i32, b2:i32, br:i32, bk:i32, y0:u32, bias:u32, c0:i32, cr:i32, cc:i32, batch:u32, z0:u32';
export const TYPES = `${'u'.repeat(8)}${'i'.repeat(10)}uuiiiuu`;

/** How a side lies in memory: vec4s along its terms or along its rows, else single elements. */
export type Lie = 'terms' | 'rows' | 'single';

/** Four numbers that begin at a multiple of four and are read at once. */
export function lieOf(x: Operand, [row, term]: readonly [number, number], rows: number, terms: number): Lie {
  const others = (step: number) => [x.offset, ...x.strides.slice(0, -2), step].every(s => s % 4 === 0);
  if (term === 1 && terms % 4 === 0 && others(row)) return 'terms';
  if (row === 1 && rows % 4 === 0 && others(term)) return 'rows';
  return 'single';
}

/** A side of a product of matrices; `name` A or B. With `half` its numbers are f16, two in a u32. */
export function matrixSide(name: 'A' | 'B', lie: Lie, word: Word, half = false): Side {
  const [x, v] = [name.toLowerCase(), `vec4<${word}>`];
  const quad = (at: string) => fourAt(name, at, half);
  const one = (at: string) => oneAt(name, at, half);
  const start = (i: string) =>
    `p.${x}0 + i32(z / p.inner) * p.${x}1 + i32(z % p.inner) * p.${x}2 + i32(${i}) * p.${x}r`;
  if (lie === 'terms')
    return {
      along: 'true',
      before: (id, i) => `let at_${id} = (${start(i)}) >> 2u;`,
      load: (id, k) => `let at = at_${id} + (i32(${k}) >> 2u); let d = p.${x}r >> 2u;
        if (${k} < end) { let e0 = ${quad('at')}; let e1 = ${quad('at + d')}; let e2 = ${quad('at + 2 * d')}; let e3 = ${quad('at + 3 * d')};
          ${times(4, j => `v${j} = ${v}(e0[${j}], e1[${j}], e2[${j}], e3[${j}]);`)}
        } else { ${times(4, j => `v${j} = ${v}();`)} }`,
    };
  if (lie === 'rows')
    return {
      along: 'false',
      before: (id, i) => `let at_${id} = (${start(i)}) >> 2u;`,
      load: (id, k) => `let d = p.${x}k >> 2u; let at = at_${id} + i32(${k}) * d;
        ${times(4, j => `v${j} = ${v}(); if (${k} + ${j}u < end) { v${j} = ${quad(`at + ${j} * d`)}; }`)}`,
    };
  return {
    along: `(abs(p.${x}k) <= abs(p.${x}r))`,
    before: (id, i) => `let at_${id} = ${start(i)};`,
    load: (id, k) => `let at = at_${id} + i32(${k}) * p.${x}k; let d = p.${x}r;
        ${times(
          4,
          j =>
            `v${j} = ${v}(); if (${k} + ${j}u < end) { let e = at + ${j} * p.${x}k; v${j} = ${v}(${one('e')}, ${one('e + d')}, ${one('e + 2 * d')}, ${one('e + 3 * d')}); }`,
        )}`,
  };
}

/** The tile number `group`, row by row; of a symmetric product those on and above the diagonal, column by column. */
export const placeOf = ({ m, n }: Tile, symmetric: boolean) =>
  symmetric
    ? `var column = u32((sqrt(f32(8u * group + 1u)) - 1.0) * 0.5);
  if (column * (column + 1u) / 2u > group) { column--; } else if ((column + 1u) * (column + 2u) / 2u <= group) { column++; }
  let col0 = column * ${n}u; let row0 = (group - column * (column + 1u) / 2u) * ${m}u;`
    : `let row0 = (group / p.columns) * ${m}u; let col0 = (group % p.columns) * ${n}u;`;

type Kind = {
  readonly word: Word;
  readonly plan: Plan;
  readonly lies: readonly [Lie, Lie];
  /** Results are written four at a time. */
  readonly wide: boolean;
  readonly symmetric: boolean;
  readonly activation: Activation;
  /** Both sides are in f16. */
  readonly half: boolean;
};

const put = (v: string, row: string, col: string) => `put(${v}, split * p.batch + z, ${row}, ${col});`;

/** Declarations of a kernel whose sides have such elements. */
function headOf({ word, plan, wide, symmetric, activation }: Kind, [a, b]: readonly [string, string]): string {
  const bind = (i: number, name: string, type: string, access = 'read') =>
    `@group(0) @binding(${i}) var<storage, ${access}> ${name} : array<${type}>;`;
  return `${constants(FIELDS)}
${bind(1, 'A', a)} ${bind(2, 'B', b)} ${tensor(3, 'C', 'read', word)} ${bind(4, 'Y', wide ? `vec4<${word}>` : word, 'read_write')}
${epilogue(activation, word)}
${putCode({ word, wide, mirrored: symmetric ? plan.tile.m : 0 })}`;
}

export function partsOf(kind: Kind): TileParts {
  const { word, plan, lies, symmetric, half } = kind;
  const element = (lie: Lie) => elementOf(lie !== 'single', word, half);
  return {
    tile: plan.tile,
    word,
    head: `${headOf(kind, [element(lies[0]), element(lies[1])])}\n${UNPACKED}`,
    place: placeOf(plan.tile, symmetric),
    a: matrixSide('A', lies[0], word, half),
    b: matrixSide('B', lies[1], word, half),
    put,
  };
}

/** The same by matrix units; a side that lies in eights is read in them. */
function matrixPartsOf(kind: Kind, unit: MatrixUnit, eights: readonly (MatrixLie | null)[]): MatrixParts {
  const { lies, plan } = kind;
  const parts = partsOf(kind);
  const elements = lies.map((lie, i) => (eights[i] ? 'vec4<u32>' : elementOf(lie !== 'single', 'f32', true)));
  const head = `${headOf(kind, elements as [string, string])}\n${UNPACKED}`;
  return { ...parts, tile: plan.tile, unit, head, a: eights[0] ?? parts.a, b: eights[1] ?? parts.b };
}

export function matmul(c: Context, a: Operand, b: Operand, out: Operand): void {
  multiply(c, a, b, out, { mixed: c.mixed });
}

/** Exactly symmetric: (i, j) and (j, i) add the same products in the same order, or are the same. */
export function gram(c: Context, x: Operand, out: Operand): void {
  const n = x.shape.at(-1)!;
  const count = sizeOf(x.shape.slice(0, -1));
  const rows = x.shape.length === 2 ? x : withLayout(rowMajor(c, x), [count, n]);
  multiply(c, transposed(rows), rows, out, { symmetric: true });
}

export function linear(c: Context, x: Operand, weight: Operand, bias: Operand | null, out: Operand): void {
  const k = x.shape.at(-1)!;
  const count = sizeOf(x.shape.slice(0, -1));
  const rows = x.shape.length === 2 ? x : withLayout(rowMajor(c, x), [count, k]);
  multiply(c, rows, transposed(weight), withLayout(out, [count, weight.shape[0]!]), { bias, mixed: c.mixed });
}

export type ProductOptions = {
  /** Added to each row, [N], or with `biasOf: 'rows'` to each column, [M]. */
  bias?: Operand | null;
  biasOf?: 'columns' | 'rows';
  /** What is done with each result at last. */
  activation?: Activation;
  /** b is a transposed: half of the tiles are computed. */
  symmetric?: boolean;
  /** Both sides are rounded to f16; sums and results are float32. Integers are not. */
  mixed?: boolean;
  /** In the place of the one that is chosen; where matrix units compute it, of theirs. */
  plan?: Plan;
};

/** Workgroups of the z axis. */
const MOST_GROUPS = 65535;

/** As many of `count` at a time as the z axis has room for, each with `splits` workgroups: the first of them, and how many. */
export function* zRuns(count: number, splits: number): Generator<[first: number, some: number]> {
  const most = Math.floor(MOST_GROUPS / splits);
  for (let first = 0; first < count; first += most) yield [first, Math.min(most, count - first)];
}

/** out [batch, M, N] ← activation(a · b + bias); a [batch, M, K] and b [batch, K, N] of any layout, broadcast to the batch. */
export function multiply(c: Context, left: Operand, right: Operand, out: Operand, o: ProductOptions = {}): void {
  if (sizeOf(out.shape) === 0) return;
  const { bias = null, biasOf = 'columns', activation = 'none', symmetric = false, mixed = false } = o;
  const [m, n, k] = [out.shape.at(-2)!, out.shape.at(-1)!, left.shape.at(-1)!];
  if (k === 0 && bias === null && activation === 'none') return fill(c, 0, out);
  const word: Word = out.dtype === 'int32' ? 'i32' : 'f32';
  let [a, b] = [left, right].map(x => inWords(c, x, word)) as [Operand, Operand];
  const batch = out.shape.slice(0, -2);
  const lead = (x: Operand) => ({ shape: x.shape.slice(0, -2), strides: x.strides.slice(0, -2), offset: 0 });
  if (joined(batch, [lead(a), lead(b)]).lengths.length > 2)
    [a, b] = [a, b].map(x => copied(c, x, [...batch, ...x.shape.slice(-2)])) as [Operand, Operand];
  const half = mixed && word === 'f32';
  if (half) [a, b] = [halfOf(c, a), halfOf(c, b)];
  const { lengths, strides } = joined(batch, [lead(a), lead(b)]);
  const [outer, inner] = [lengths.length > 1 ? lengths[0]! : 1, lengths.at(-1) ?? 1];
  const count = outer * inner;
  const sizes = { m, n, k, batch: count, symmetric };
  const steps = strides.map(step => [step.length > 1 ? step[0]! : 0, step.at(-1) ?? 0]);
  const [ar, ak] = [a.strides.at(-2)!, a.strides.at(-1)!];
  const [bk, br] = [b.strides.at(-2)!, b.strides.at(-1)!];
  const room = c.commands.device.limits.maxComputeWorkgroupStorageSize;
  const lies = [lieOf(a, [ar, ak], m, k), lieOf(b, [br, bk], n, k)] as const;
  const unit = half ? c.unit : null;
  const eights = unit && matrixLies(matrixLie(a, [ar, ak], m, k), matrixLie(b, [br, bk], n, k));
  const matrices = eights && (o.plan ?? matrixPlan(unit!, room, sizes, eights));
  const plan = matrices ?? o.plan ?? planOn(c.commands.device, sizes);
  const { tile, splits, span } = plan;
  const parts = splits === 1 ? null : temporary(c, out.dtype, [splits, count, m, n]);
  const target = parts ?? out;
  const wide = !symmetric && n % 4 === 0 && target.offset % 4 === 0;
  const own = parts === null ? activation : 'none';
  const kind: Kind = { word, plan, lies, wide, symmetric, activation: own, half };
  const by = matrices ? `matrix units, ${eights}` : word;
  const kernel = kernelOf(c, `product by ${by} ${nameOf(tile)} ${lies} ${wide} ${symmetric} ${own} ${half}`, () => ({
    code: matrices ? matrixCode(matrixPartsOf(kind, unit!, eights!)) : tileCode(partsOf(kind)),
    types: TYPES,
  }));
  const tiles = tilesOf(tile, sizes);
  const finish = { bias, biasOf, activation };
  const memories = [a, b, bias ?? a, target].map(memoryOf);
  for (const [first, part] of zRuns(count, splits)) {
    const values = [
      ...[m, n, k, span, splits, tiles.count, tiles.columns, inner],
      ...[a.offset, ...steps[0]!, ar, ak],
      ...[b.offset, ...steps[1]!, br, bk],
      ...[target.offset, ...(parts === null ? biasValues(finish) : [0, 0, 0, 0]), count, first],
    ];
    const flow = part === count && target.offset === 0 ? { stores: 3, count: sizeOf(target.shape) } : null;
    c.commands.dispatch(kernel, memories, values, [...twoAxes(tiles.count), part * splits], flow);
  }
  if (parts !== null) sumParts(c, parts, out, finish);
}

/** Workgroups over x and y for a flat number of them. */
export function twoAxes(count: number): [number, number] {
  const [x, y = 1] = rowGroups(count);
  return [x!, y];
}
