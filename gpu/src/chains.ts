/**
 * Adding rows to those that an index names, in the order of the index. WebGPU adds no floats atomically, and sums are to be
 * reproducible; and a table of many rows, as of an embedding, cannot have each row look through the whole index. So a first
 * kernel links each place of the index with the next that names the same row, and a second one follows each chain from its start.
 */

import type { Operand } from '@otimes/core';
import { sizeOf } from '@otimes/core/extend';
import { type Context, kernelOf, memoryOf, temporary } from './context.ts';
import { rowMajor } from './copy.ts';
import { fill } from './memory.ts';
import { constants, FLAT, flatGroups, INDEX, tensor, type Word } from './wgsl.ts';

/** Places of the index that a workgroup compares at a time. */
const TILE = 256;

/** For place i: twice the next place that names the same row, + 1 if there is none before it; 0 and 1 where none follows. */
const LINKS = `${constants('n:u32, i0:i32, step:i32')}
${tensor(1, 'I', 'read', 'i32')} ${tensor(2, 'L', 'read_write', 'u32')}
var<workgroup> names : array<i32, ${TILE}>;
@compute @workgroup_size(${TILE}) fn main(@builtin(workgroup_id) w : vec3<u32>, @builtin(local_invocation_index) t : u32) {
  let i = w.x * ${TILE}u + t;
  let own = select(-1, I[p.i0 + i32(min(i, p.n - 1u)) * p.step], i < p.n);
  var first = 1u; var next = 0u;
  for (var start = 0u; start < p.n; start += ${TILE}u) {
    workgroupBarrier();
    names[t] = I[p.i0 + i32(min(start + t, p.n - 1u)) * p.step];
    workgroupBarrier();
    let count = min(${TILE}u, p.n - start);
    for (var k = 0u; k < count; k++) {
      if (names[k] == own) {
        let j = start + k;
        if (j < i) { first = 0u; }
        if (j > i && next == 0u) { next = j; }
      }
    }
  }
  if (i < p.n) { L[i] = 2u * next + first; }
}`;

/** Y [outer, length, inner] += X [outer, n, inner]: a thread for each element of X, of which the first of each chain work. */
const FOLLOW = (
  word: Word,
) => `${constants('size:u32, n:u32, inner:u32, outer:u32, length:i32, x0:u32, i0:i32, step:i32')}
${tensor(1, 'X', 'read', word)} ${tensor(2, 'I', 'read', 'i32')} ${tensor(3, 'L', 'read', 'u32')} ${tensor(4, 'Y', 'read_write', word)}
@compute @workgroup_size(64) fn main(${FLAT}) {
  ${INDEX}
  if (i >= p.size) { return; }
  let columns = p.outer * p.inner;
  var place = i / columns;
  let column = i % columns;
  let row = I[p.i0 + i32(place) * p.step];
  var link = L[place];
  if ((link & 1u) == 0u || row < 0 || row >= p.length) { return; }
  let slice = column / p.inner; let e = column % p.inner;
  let at = p.x0 + slice * p.n * p.inner + e;
  var sum = X[at + place * p.inner];
  while (link > 1u) {
    place = link >> 1u;
    sum += X[at + place * p.inner];
    link = L[place];
  }
  Y[(slice * u32(p.length) + u32(row)) * p.inner + e] = sum;
}`;

/** out ← 0, then the slice index[i] of `out` along `axis` += slice i of `x`. */
export function indexAdd(c: Context, x: Operand, axis: number, index: Operand, out: Operand): void {
  if (sizeOf(out.shape) === 0) return;
  fill(c, 0, out);
  const size = sizeOf(x.shape);
  if (size === 0) return;
  const n = x.shape[axis]!;
  const links = temporary(c, 'int32', [n]);
  const [start, step] = [index.offset, index.strides[0]!];
  const link = kernelOf(c, 'links', () => ({ code: LINKS, types: 'uii' }));
  c.commands.dispatch(link, [index, links].map(memoryOf), [n, start, step], [Math.ceil(n / TILE)]);
  const word: Word = out.dtype === 'int32' ? 'i32' : 'f32';
  const source = rowMajor(c, x);
  const kernel = kernelOf(c, `${word} indexAdd`, () => ({ code: FOLLOW(word), types: 'uuuuiuii' }));
  const [outer, inner] = [sizeOf(x.shape.slice(0, axis)), sizeOf(x.shape.slice(axis + 1))];
  const values = [size, n, inner, outer, out.shape[axis]!, source.offset, start, step];
  c.commands.dispatch(kernel, [source, index, links, out].map(memoryOf), values, flatGroups(size));
}
