/**
 * The kernel of products in f16 by matrices of subgroups, which are a GPU's matrix units: those of NVIDIA are called tensor cores. A
 * workgroup computes a tile; its subgroups multiply small matrices out of workgroup memory, and add in float32. Where blocks come from and
 * what becomes of results are the parts of all products.
 */

import type { MatrixUnit } from './matrix-unit.ts';
import { type Side, shareOf, type Tile, type TileParts } from './product-tile.ts';
import { times } from './wgsl.ts';

/** Eight f16: what is moved at once. */
export const CHUNK = 8;

/** A side whose numbers lie behind each other, along terms or along rows, in eights. */
export type MatrixLie = 'terms' | 'rows';

/** A tile has x × y subgroups. */
export type MatrixParts = Omit<TileParts, 'word' | 'a' | 'b'> & {
  readonly unit: MatrixUnit;
  /** Of a matrix in storage, whose elements are vec4<u32>; or blocks of f32 that are f16. */
  readonly a: MatrixLie | Side;
  readonly b: MatrixLie | Side;
};

/** What a program that uses such matrices begins with. */
const ENABLE = `enable f16; enable subgroups; enable chromium_experimental_subgroup_matrix;
// Places depend on the number of the subgroup, so they are the same within each; the compiler only sees that they differ.
diagnostic(off, chromium.subgroup_matrix_uniformity);`;

/** How a side comes into workgroup memory, and from there into small matrices. */
type Loader = {
  readonly declare: string;
  readonly before: string;
  /** Lines that bring what a step needs into registers. */
  readonly load: (step: string) => string;
  readonly store: string;
  /** The small matrix of that type that begins at a row and a term of the tile. */
  readonly matrix: (type: string, row: string, term: number) => string;
};

type Shape = { readonly name: 'A' | 'B'; readonly rows: number; readonly k: number; readonly threads: number };

/** Chunks as they lie. Rows of workgroup memory have one chunk more than is used, so that they begin in different banks. */
function chunks({ name, rows, k, threads }: Shape, lie: MatrixLie): Loader {
  const [long, across] = lie === 'terms' ? [rows, k / CHUNK] : [k, rows / CHUNK];
  const stride = across + 1;
  const all = long * across;
  const [x, origin, most] = name === 'A' ? ['a', 'row0', 'p.m'] : ['b', 'col0', 'p.n'];
  const each = (line: (i: number) => string) =>
    times(Math.ceil(all / threads), i => {
      const inside = (i + 1) * threads <= all ? '' : `if (t + ${i * threads}u < ${all}u) `;
      return `${inside}{ let e = t + ${i * threads}u; let i = e / ${across}u; let c = e % ${across}u; ${line(i)} }\n`;
    });
  // Rows outside are those at the edge once more: their results are not put. Terms outside are 0 on both sides.
  const term = lie === 'terms' ? `step + ${CHUNK}u * c` : 'step + i';
  const row =
    lie === 'terms' ? `min(${origin} + i, ${most} - 1u)` : `min(${origin} + ${CHUNK}u * c, ${most} - ${CHUNK}u)`;
  const majors = lie === 'terms' ? ['row_major', 'col_major'] : ['col_major', 'row_major'];
  return {
    declare: `var<workgroup> ${name}s : array<vec4<u32>, ${long * stride}>;`,
    before: `let ${x}z = p.${x}0 + i32(z / p.inner) * p.${x}1 + i32(z % p.inner) * p.${x}2;
  ${times(Math.ceil(all / threads), i => `var r${x}${i} = vec4<u32>();`)}`,
    load: step =>
      `{ let step = ${step}; ${each(
        i => `let term = ${term}; r${x}${i} = vec4<u32>();
        if (term < end) { r${x}${i} = ${name}[(${x}z + i32(${row}) * p.${x}r + i32(term) * p.${x}k) >> 3u]; }`,
      )} }`,
    store: each(i => `${name}s[i * ${stride}u + c] = r${x}${i};`),
    matrix(type, row, term) {
      const at =
        lie === 'terms' ? `(${row}) * ${stride}u + ${term / CHUNK}u` : `${term * stride}u + (${row}) / ${CHUNK}u`;
      return `subgroupMatrixLoad<${type}, ${majors[name === 'A' ? 0 : 1]}>(&${name}s, ${at}, ${stride}u)`;
    },
  };
}

/** Blocks of 4 × 4 that a side brings. In workgroup memory those of A lie along terms, those of B along rows; see `matrixLies`. */
function blocks({ name, rows, k, threads }: Shape, side: Side): Loader {
  const [quads, terms] = [rows / 4, k / 4];
  const stride = (name === 'A' ? terms : quads) + 2;
  const rounds = Math.ceil((quads * terms) / threads);
  const id = (i: number) => `${name}${i}`;
  const each = (line: (i: number) => string) =>
    times(rounds, i => {
      const inside = (i + 1) * threads <= quads * terms ? '' : `if (n_${id(i)} < ${quads * terms}u) `;
      return `${inside}{ ${line(i)} }\n`;
    });
  const put = (i: number, j: number) => {
    const v = (part: number) => `${id(i)}v${part}`;
    return name === 'A'
      ? `As[(4u * i_${id(i)} + ${j}u) * ${stride}u + k_${id(i)}] = vec4<f16>(vec4<f32>(${[0, 1, 2, 3].map(q => `${v(q)}[${j}]`)}));`
      : `Bs[(4u * k_${id(i)} + ${j}u) * ${stride}u + i_${id(i)}] = vec4<f16>(${v(j)});`;
  };
  return {
    declare: `var<workgroup> ${name}s : array<vec4<f16>, ${(name === 'A' ? rows : k) * stride}>;`,
    before: times(
      rounds,
      i => `let n_${id(i)} = t + ${i * threads}u; let along_${id(i)} = ${side.along};
  let i_${id(i)} = select(n_${id(i)} % ${quads}u, (n_${id(i)} / ${terms}u) % ${quads}u, along_${id(i)}); let k_${id(i)} = select((n_${id(i)} / ${quads}u) % ${terms}u, n_${id(i)} % ${terms}u, along_${id(i)});
  ${side.before(id(i), `(${name === 'A' ? 'row0' : 'col0'} + 4u * i_${id(i)})`)}
  ${times(4, j => `var ${id(i)}v${j} = vec4<f32>();`)}`,
    ),
    load: step =>
      each(
        i => `let k = ${step} + 4u * k_${id(i)}; ${side.load(id(i), 'k').replaceAll(/\bv([0-3])\b/g, `${id(i)}v$1`)}`,
      ),
    store: each(i => times(4, j => put(i, j))),
    matrix(type, row, term) {
      const at = name === 'A' ? `(${row}) * ${stride}u + ${term / 4}u` : `${term * stride}u + (${row}) / 4u`;
      return `subgroupMatrixLoad<${type}, row_major>(&${name}s, ${at}, ${stride}u)`;
    },
  };
}

function loadersOf({ tile: { m, n, k, x, y }, unit, a, b }: Pick<MatrixParts, 'tile' | 'unit' | 'a' | 'b'>) {
  const threads = x * y * unit.threads;
  const loader = (name: 'A' | 'B', rows: number, side: MatrixLie | Side) =>
    typeof side === 'string' ? chunks({ name, rows, k, threads }, side) : blocks({ name, rows, k, threads }, side);
  return [loader('A', m, a), loader('B', n, b)] as const;
}

/** Bytes of workgroup memory; a side that does not lie in eights, null, comes in blocks. */
export function matrixBytes({ m, n, k, x, y }: Tile, unit: MatrixUnit, lies: readonly (MatrixLie | null)[]): number {
  const along = (rows: number) => 2 * rows * (k + CHUNK);
  const across = (rows: number) => 2 * k * (rows + CHUNK);
  const bytes = (lies[0] === 'rows' ? across : along)(m) + (lies[1] === 'terms' ? along : across)(n);
  return bytes + 4 * x * y * unit.m * unit.n;
}

export function matrixCode(parts: MatrixParts): string {
  const { tile, unit, head, advance = '', columns, put } = parts;
  const { m, n, k, x, y } = tile;
  const [a, b] = loadersOf(parts);
  const [rows, cols] = [m / y / unit.m, n / x / unit.n];
  const grid = (line: (i: number, j: number) => string) =>
    times(rows * cols, e => line(Math.floor(e / cols), e % cols));
  const cells = unit.m * unit.n;
  return `${ENABLE}
${head}
${a.declare}
${b.declare}
var<workgroup> Ys : array<f32, ${x * y * cells}>;
@compute @workgroup_size(${x * y * unit.threads}) fn main(@builtin(workgroup_id) w : vec3<u32>, @builtin(num_workgroups) wn : vec3<u32>,
    @builtin(local_invocation_index) t : u32, @builtin(subgroup_id) sg : u32, @builtin(subgroup_invocation_id) lane : u32) {
  ${shareOf(parts)}
  let wr = (sg / ${x}u) * ${m / y}u; let wc = (sg % ${x}u) * ${n / x}u;
  ${a.before}
  ${b.before}
  ${grid((i, j) => `var y${i}_${j} = subgroup_matrix_result<f32, ${unit.n}, ${unit.m}>();`)}
  ${a.load('begin')} ${b.load('begin')}
  ${advance}
  for (var at = begin; at < end; at += ${k}u) {
    ${a.store} ${b.store}
    workgroupBarrier();
    if (at + ${k}u < end) { ${a.load(`at + ${k}u`)} ${b.load(`at + ${k}u`)}
      ${advance} }
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
    let yr = row0 + wr + ${i * unit.m}u + e / ${unit.n / 4}u; let yc = col0 + wc + ${j * unit.n}u + 4u * (e % ${unit.n / 4}u);
    ${columns?.(0, 'yc') ?? ''}
    ${put('v', 'yr', 'yc', 0)}
  }
  workgroupBarrier();
  `,
  )}
}`;
}
