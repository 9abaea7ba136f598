/**
 * Kernels of rows: a row belongs to 1 … 256 threads of a workgroup, which has several where they are short. Rows are those of
 * [outer, length, inner] along the middle. Threads beside each other read neighbours: of a row where inner is 1, else of
 * neighbouring rows.
 */

import { PER_GROUP, rowGroups } from './wgsl.ts';

const THREADS = 256;

/** Constants that every kernel of rows begins with, and their types. */
export const ROW_FIELDS = 'rows:u32, length:u32, inner:u32, width:u32, step:u32';
export const ROW_TYPES = 'uuuuu';

/** Values of those constants, and workgroups. */
export function rowPlan(rows: number, length: number, inner: number): { values: number[]; groups: number[] } {
  const most = 2 ** Math.min(8, Math.ceil(Math.log2(Math.max(1, length))));
  // Many rows: fewer threads for each, down to where they would not read neighbours.
  const fewer = Math.max(Math.min(most, inner === 1 ? 32 : 1), 2 ** Math.floor(Math.log2(Math.max(1, length / 8))));
  const lanes = rows * most <= 2 ** 16 ? most : Math.min(most, fewer);
  const perGroup = THREADS / lanes;
  return {
    values: [rows, length, inner, lanes, inner === 1 ? 1 : perGroup],
    groups: rowGroups(Math.ceil(rows / perGroup)),
  };
}

/** The main function: `row`, whether it `is` one, and the place `at` of its first element. Lines call `each` and `joined`. */
export const rowMain = (body: string, type = 'f32') => `
var<workgroup> lanes : array<${type}, ${THREADS}>;
@compute @workgroup_size(${THREADS}) fn main(${PER_GROUP}) {
  let lane = (t / p.step) % p.width;
  let row = (w.x + w.y * wn.x) * (${THREADS}u / p.width) + t % p.step + p.step * (t / (p.step * p.width));
  let is = row < p.rows;
  let at = (row / p.inner) * p.length * p.inner + row % p.inner;
  ${body}
}`;

/** For each element of the row: its index `i` in the row and its place `k`. */
export const each = (body: string) => `
  if (is) { for (var i = lane; i < p.length; i += p.width) { let k = at + i * p.inner; ${body} } }`;

/** The same for what only adds to `acc`: four elements at once, so that their reads are under way together. */
export const gathered = (body: string) => `
  if (is) {
    var i0 = lane;
    for (; i0 + 3u * p.width < p.length; i0 += 4u * p.width) {
      ${[0, 1, 2, 3].map(n => `{ let i = i0 + ${n}u * p.width; let k = at + i * p.inner; ${body} }`).join(' ')}
    }
    for (var i = i0; i < p.length; i += p.width) { let k = at + i * p.inner; ${body} }
  }`;

/** The threads of each row join their `acc`; all of them get the result as `name`. */
export const joined = (name: string, join: (a: string, b: string) => string) => `
  lanes[t] = acc;
  for (var half_ = p.width >> 1u; half_ > 0u; half_ >>= 1u) {
    workgroupBarrier();
    if (lane < half_) { let other = lanes[t + half_ * p.step]; let own = lanes[t]; lanes[t] = ${join('own', 'other')}; }
  }
  workgroupBarrier();
  let ${name} = lanes[t - lane * p.step];
  workgroupBarrier();`;

export const added = (a: string, b: string) => `${a} + ${b}`;
