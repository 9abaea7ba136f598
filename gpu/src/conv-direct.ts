/** Convolutions with few rows of results a group, depthwise ones above all: a thread or a workgroup for each result, no tiles. */

import type { Operand } from '@otimes/core';
import { sizeOf } from '@otimes/core/extend';
import { type Context, kernelOf, memoryOf } from './context.ts';
import type { Seen } from './conv.ts';
import { inside } from './conv-code.ts';
import type { Table } from './conv-tables.ts';
import { halfOf, oneAt } from './half.ts';
import { type Activation, biasValues, epilogue } from './product-epilogue.ts';
import { constants, FLAT, flatGroups, GROUP, INDEX, PER_GROUP, rowGroups, tensor, tree } from './wgsl.ts';

const FIELDS =
  'size:u32, rows:u32, lines:u32, places:u32, q0:u32, terms:u32, h:u32, w:u32, a0:i32, az:i32, ar:i32, ak:i32, ' +
  'x0:i32, xz:i32, xi:i32, y0:u32, yr:u32, bias:u32, c0:i32, cr:i32, cc:i32';
const TYPES = `${'u'.repeat(8)}${'i'.repeat(7)}uuuiii`;
const tensors = (half: boolean) =>
  `${tensor(1, 'A', 'read', half ? 'u32' : 'f32')} ${tensor(2, 'X', 'read', half ? 'u32' : 'f32')} @group(0) @binding(3) var<storage, read> T : array<vec4<i32>>;`;

/** A thread for each (image, group and row, place). */
const code = (masked: boolean, byTable: boolean, activation: Activation, half: boolean) => `${constants(FIELDS)}
${tensors(half)} ${tensor(4, 'C')} ${tensor(5, 'Y', 'read_write')}
${epilogue(activation, 'f32')}
@compute @workgroup_size(64) fn main(${FLAT}) {
  ${INDEX}
  if (i >= p.size) { return; }
  let place = i % p.places; let line = (i / p.places) % p.lines; let image = i / (p.places * p.lines);
  let z = line / p.rows; let row = line % p.rows;
  let q = T[p.q0 + place];
  let base = p.x0 + i32(z) * p.xz + i32(image) * p.xi + q.x;
  let at = p.a0 + i32(z) * p.az + i32(row) * p.ar;
  var sum = 0.0;
  for (var k = 0u; k < p.terms; k++) {
    let e = T[k];
    let x = select(0.0, ${oneAt('X', 'base + e.x', half)}, ${inside(masked, 'e', 'q')});
    sum = fma(${oneAt('A', `at + ${byTable ? 'e.w' : 'i32(k) * p.ak'}`, half)}, x, sum);
  }
  Y[p.y0 + (image * p.lines + line) * p.yr + u32(q.w)] = finished(vec4<f32>(sum), line, 0u)[0];
}`;

export function direct(
  c: Context,
  { look, source, strides, weights, sizes }: Seen,
  table: Table,
  out: Operand,
  { bias, activation }: { bias: Operand | null; activation: Activation },
  half: boolean,
): void {
  const { n, groups, rows } = sizes;
  const byTable = weights.term === null;
  const name = `conv without tiles ${table.masked} ${byTable} ${activation} ${half}`;
  const kernel = kernelOf(c, name, () => ({ code: code(table.masked, byTable, activation, half), types: TYPES }));
  const size = n * groups * rows * table.places;
  const values = [
    ...[size, rows, groups * rows, table.places, table.q0, table.terms, look.image[0], look.image[1]],
    ...[weights.of.offset, weights.group, weights.row, weights.term ?? 0],
    ...[source.offset, ...strides, out.offset, out.shape[2]! * out.shape[3]!],
    ...biasValues({ bias, biasOf: 'rows', activation }),
  ];
  const memories = [...[weights.of, source].map(memoryOf), table.memory, ...[bias ?? source, out].map(memoryOf)];
  c.commands.dispatch(kernel, memories, values, flatGroups(size));
}

/** A workgroup for each weight, over the places of all images. */
const weightCode = (masked: boolean, half: boolean) => `
${constants('count:u32, rows:u32, lines:u32, places:u32, q0:u32, terms:u32, h:u32, w:u32, n:u32, a0:u32, x0:i32, xz:i32, xi:i32, y0:u32')}
${tensors(half)} ${tensor(4, 'Y', 'read_write')}
var<workgroup> lanes : array<f32, 64>;
@compute @workgroup_size(64) fn main(${PER_GROUP}) {
  ${GROUP}
  var acc = 0.0;
  if (row < p.count) {
    let e = T[row % p.terms]; let line = row / p.terms;
    let base = p.x0 + i32(line / p.rows) * p.xz + e.x;
    for (var image = 0u; image < p.n; image++) {
      let start = p.a0 + (image * p.lines + line) * p.places;
      for (var place = t; place < p.places; place += 64u) {
        let q = T[p.q0 + place];
        acc = fma(${oneAt('A', 'start + place', half).replace('& 1]', '& 1u]')}, select(0.0, ${oneAt('X', 'base + i32(image) * p.xi + q.x', half)}, ${inside(masked, 'e', 'q')}), acc);
      }
    }
  }
  ${tree(64, (a, b) => `${a} + ${b}`)}
  if (t == 0u && row < p.count) { Y[p.y0 + row] = lanes[0]; }
}`;

export function directWeightGrad(
  c: Context,
  images: Operand,
  grads: Operand,
  table: Table,
  out: Operand,
  {
    n,
    groups,
    rows,
    share,
    image,
  }: { n: number; groups: number; rows: number; share: number; image: readonly number[] },
): void {
  const half = c.mixed;
  const kernel = kernelOf(c, `gradient of weights without tiles ${table.masked} ${half}`, () => ({
    code: weightCode(table.masked, half),
    types: `${'u'.repeat(10)}iiiu`,
  }));
  const count = sizeOf(out.shape);
  const [h, w] = image as [number, number];
  const values = [
    ...[count, rows, groups * rows, table.places, table.q0, table.terms, h, w, n, grads.offset],
    ...[images.offset, share * h * w, groups * share * h * w, out.offset],
  ];
  const sides = half ? [halfOf(c, grads), halfOf(c, images)] : [grads, images];
  const memories = [...sides.map(memoryOf), table.memory, memoryOf(out)];
  c.commands.dispatch(kernel, memories, values, rowGroups(count));
}
