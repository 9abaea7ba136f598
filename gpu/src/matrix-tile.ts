/**
 * The kernel of products in f16 by matrices of subgroups, which are a GPU's matrix units: those of NVIDIA are called tensor cores. A
 * workgroup computes a tile; its subgroups multiply small matrices out of workgroup memory, and add in float32. Constants and what
 * becomes of results are those of all products.
 */

import type { Operand } from '@otimes/core';
import type { MatrixUnit } from './matrix-unit.ts';
import { type Measured, type Plan, planOf, type Sizes } from './product-plan.ts';
import type { Tile } from './product-tile.ts';
import { times } from './wgsl.ts';

/** A tile of x × y subgroups. */
export type MatrixTile = Tile;

/** Eight f16: what is moved at once. */
const CHUNK = 8;

/** Eight numbers that lie behind each other, along terms or along rows, begin at a multiple of eight. */
export type MatrixLie = 'terms' | 'rows';

export type MatrixParts = {
  readonly tile: MatrixTile;
  readonly unit: MatrixUnit;
  readonly lies: readonly [MatrixLie, MatrixLie];
  /** Declarations; `A` and `B` are arrays of vec4<u32>. */
  readonly head: string;
  /** As in `TileParts`. */
  readonly place: string;
  readonly put: (v: string, row: string, col: string) => string;
};

/** What a program that uses such matrices begins with. */
const ENABLE = `enable f16; enable subgroups; enable chromium_experimental_subgroup_matrix;
// Places depend on the number of the subgroup, so they are the same within each; the compiler only sees that they differ.
diagnostic(off, chromium.subgroup_matrix_uniformity);`;

type Block = { name: 'A' | 'B'; lie: MatrixLie; rows: number; k: number; threads: number };

/** Rows and chunks of a row of workgroup memory, one chunk more than is used, so that rows begin in different banks. */
const shapeOf = ({ lie, rows, k }: Pick<Block, 'lie' | 'rows' | 'k'>) => {
  const [long, across] = lie === 'terms' ? [rows, k / CHUNK] : [k, rows / CHUNK];
  return { long, across, stride: across + 1 };
};

/** Bytes of workgroup memory. */
function matrixBytes({ m, n, k, x, y }: MatrixTile, unit: MatrixUnit, lies: readonly MatrixLie[]): number {
  const bytes = (rows: number, lie: MatrixLie) => {
    const { long, stride } = shapeOf({ lie, rows, k });
    return 2 * CHUNK * long * stride;
  };
  return bytes(m, lies[0]!) + bytes(n, lies[1]!) + 4 * x * y * unit.m * unit.n;
}

/** As `TILES`; x and y are subgroups. */
const TILES: readonly Measured[] = [
  { tile: { m: 128, n: 128, k: 32, x: 4, y: 2, buffers: 1, unroll: 4 }, rate: 600, alone: 2 },
  { tile: { m: 64, n: 64, k: 32, x: 2, y: 2, buffers: 1, unroll: 4 }, rate: 350, alone: 4 },
  { tile: { m: 32, n: 32, k: 32, x: 2, y: 1, buffers: 1, unroll: 4 }, rate: 150, alone: 5 },
];

/** A side: its strides along rows and terms, and its rows. */
type Placed = readonly [x: Operand, steps: readonly [row: number, term: number], rows: number];

function lieOf([x, [row, term], rows]: Placed, terms: number): MatrixLie | null {
  const others = (step: number) => [x.offset, ...x.strides.slice(0, -2), step].every(s => s % CHUNK === 0);
  if (term === 1 && terms % CHUNK === 0 && others(row)) return 'terms';
  return row === 1 && rows % CHUNK === 0 && others(term) ? 'rows' : null;
}

/** How such matrices compute a product; null where a side does not lie in eights. */
export function matrixPlan(
  unit: MatrixUnit,
  room: number,
  sizes: Sizes,
  [left, right]: readonly [Placed, Placed],
): { readonly plan: Plan; readonly lies: readonly [MatrixLie, MatrixLie] } | null {
  const [a, b] = [lieOf(left, sizes.k), lieOf(right, sizes.k)];
  if (a === null || b === null || sizes.symmetric) return null;
  const lies = [a, b] as const;
  const fits = ({ tile: { m, n, k, x, y } }: Measured) =>
    (m / y) % unit.m === 0 && (n / x) % unit.n === 0 && k % unit.k === 0;
  const tiles = TILES.filter(one => fits(one) && matrixBytes(one.tile, unit, lies) <= room);
  return tiles.length === 0 ? null : { plan: planOf(sizes, Infinity, tiles), lies };
}

/** Chunks of a step that each thread brings. */
function loader(block: Block) {
  const { name, lie, threads } = block;
  const { long, across, stride } = shapeOf(block);
  const count = Math.ceil((long * across) / threads);
  const [x, origin, most] = name === 'A' ? ['a', 'row0', 'p.m'] : ['b', 'col0', 'p.n'];
  const all = (long * across) % threads === 0;
  const each = (line: (i: number) => string) =>
    times(count, i => {
      const inside = all || (i + 1) * threads <= long * across ? '' : `if (t + ${i * threads}u < ${long * across}u) `;
      return `${inside}{ let e = t + ${i * threads}u; let i = e / ${across}u; let c = e % ${across}u; ${line(i)} }\n`;
    });
  // Rows outside are those at the edge once more: their results are not put. Terms outside are 0 on both sides.
  const term = lie === 'terms' ? `step + ${CHUNK}u * c` : 'step + i';
  const row =
    lie === 'terms' ? `min(${origin} + i, ${most} - 1u)` : `min(${origin} + ${CHUNK}u * c, ${most} - ${CHUNK}u)`;
  return {
    before: `let ${x}z = p.${x}0 + i32(z / p.inner) * p.${x}1 + i32(z % p.inner) * p.${x}2;`,
    registers: times(count, i => `var r${x}${i} = vec4<u32>();`),
    load: (step: string) =>
      `{ let step = ${step}; ${each(
        i =>
          `let term = ${term}; r${x}${i} = vec4<u32>();
        if (term < end) { r${x}${i} = ${name}[(${x}z + i32(${row}) * p.${x}r + i32(term) * p.${x}k) >> 3u]; }`,
      )} }`,
    store: each(i => `${name}s[i * ${stride}u + c] = r${x}${i};`),
    declare: `var<workgroup> ${name}s : array<vec4<u32>, ${long * stride}>;`,
    /** The small matrix that begins at a row and a term of the tile. */
    matrix: (type: string, row: string, term: number) =>
      lie === 'terms'
        ? `subgroupMatrixLoad<${type}, ${name === 'A' ? 'row_major' : 'col_major'}>(&${name}s, (${row}) * ${stride}u + ${term / CHUNK}u, ${stride}u)`
        : `subgroupMatrixLoad<${type}, ${name === 'A' ? 'col_major' : 'row_major'}>(&${name}s, ${term * stride}u + (${row}) / ${CHUNK}u, ${stride}u)`,
  };
}

export function matrixCode({ tile, unit, lies, head, place, put }: MatrixParts): string {
  const { m, n, k, x, y } = tile;
  const threads = x * y * unit.threads;
  const a = loader({ name: 'A', lie: lies[0], rows: m, k, threads });
  const b = loader({ name: 'B', lie: lies[1], rows: n, k, threads });
  const [wm, wn] = [m / y, n / x];
  const [rows, cols] = [wm / unit.m, wn / unit.n];
  const grid = (line: (i: number, j: number) => string) =>
    times(rows * cols, e => line(Math.floor(e / cols), e % cols));
  const cells = unit.m * unit.n;
  return `${ENABLE}
${head}
${a.declare}
${b.declare}
var<workgroup> Ys : array<f32, ${x * y * cells}>;
@compute @workgroup_size(${threads}) fn main(@builtin(workgroup_id) w : vec3<u32>, @builtin(num_workgroups) wn : vec3<u32>,
    @builtin(local_invocation_index) t : u32, @builtin(subgroup_id) sg : u32, @builtin(subgroup_invocation_id) lane : u32) {
  let group = w.x + w.y * wn.x;
  if (group >= p.groups) { return; }
  let split = w.z % p.splits; let z = p.z0 + w.z / p.splits;
  ${place}
  let begin = split * p.span; let end = min(p.k, begin + p.span);
  let wr = (sg / ${x}u) * ${wm}u; let wc = (sg % ${x}u) * ${wn}u;
  ${a.before} ${b.before}
  ${a.registers} ${b.registers}
  ${grid((i, j) => `var y${i}_${j} = subgroup_matrix_result<f32, ${unit.n}, ${unit.m}>();`)}
  ${a.load('begin')} ${b.load('begin')}
  for (var at = begin; at < end; at += ${k}u) {
    ${a.store} ${b.store}
    workgroupBarrier();
    if (at + ${k}u < end) { ${a.load(`at + ${k}u`)} ${b.load(`at + ${k}u`)} }
    ${times(
      k / unit.k,
      s => `{
      ${times(rows, i => `let l${i} = ${a.matrix(`subgroup_matrix_left<f16, ${unit.k}, ${unit.m}>`, `wr + ${i * unit.m}u`, s * unit.k)};`)}
      ${times(cols, j => `let r${j} = ${b.matrix(`subgroup_matrix_right<f16, ${unit.n}, ${unit.k}>`, `wc + ${j * unit.n}u`, s * unit.k)};`)}
      ${grid((i, j) => `y${i}_${j} = subgroupMatrixMultiplyAccumulate(l${i}, r${j}, y${i}_${j});`)}
    }`,
    )}
    workgroupBarrier();
  }
  let own = sg * ${cells}u;
  ${grid(
    (i, j) => `subgroupMatrixStore<row_major>(&Ys, own, y${i}_${j}, ${unit.n}u);
  workgroupBarrier();
  for (var e = lane; e < ${cells / 4}u; e += ${unit.threads}u) {
    let v = vec4<f32>(Ys[own + 4u * e], Ys[own + 4u * e + 1u], Ys[own + 4u * e + 2u], Ys[own + 4u * e + 3u]);
    ${put('v', `row0 + wr + ${i * unit.m}u + e / ${unit.n / 4}u`, `col0 + wc + ${j * unit.n}u + 4u * (e % ${unit.n / 4}u)`)}
  }
  workgroupBarrier();
  `,
  )}
}`;
}
