/** Loss scaling: gradients are divided by the scale and looked at in one kernel, and a step is skipped by the word that all its kernels look at. */

import type { Operand } from '@otimes/core';
import { sizeOf } from '@otimes/core/extend';
import { type Context, kernelOf, memoryOf } from './context.ts';
import { joined, led } from './layouts.ts';
import { AXES, constants, FLAT, flatGroups, GUARD, INDEX, SKIPS, tensor, walk, walkFields, walkTypes } from './wgsl.ts';

const SKIP = `${constants('at:u32')}
${tensor(1, 'found')} ${tensor(2, 'status', 'read_write', 'u32')}
@compute @workgroup_size(1) fn main() { status[${SKIPS}] = select(0u, 1u, found[p.at] != 0.0); }`;
const END = `${constants('pad:u32')}
${tensor(1, 'status', 'read_write', 'u32')}
@compute @workgroup_size(1) fn main() { status[${SKIPS}] = 0u; }`;

export function skipIf(c: Context, found: Operand | null): void {
  const { status } = c.commands;
  if (found === null) {
    const end = kernelOf(c, 'end of skip', () => ({ code: END, types: 'u' }));
    return c.commands.dispatch(end, [status], [0], [1]);
  }
  const kernel = kernelOf(c, 'skip', () => ({ code: SKIP, types: 'u' }));
  c.commands.dispatch(kernel, [memoryOf(found), status], [found.offset], [1]);
}

const UNSCALE = `${constants(`n:u32, y0:i32, s0:u32, f0:u32, seen:u32, pad0:u32, pad1:u32, pad2:u32, ${walkFields(['y'])}`)}
${tensor(1, 'Y', 'read_write')} ${tensor(2, 'scale')} @group(0) @binding(3) var<storage, read_write> found : array<atomic<u32>>; ${tensor(4, 'status', 'read', 'u32')}
@compute @workgroup_size(64) fn main(${FLAT}) {
  ${INDEX}
  if (i >= p.n) { return; }
  ${GUARD}
  ${walk(['y'], ['y0'])}
  let g = Y[y_at];
  if ((bitcast<u32>(g) & 0x7f800000u) == 0x7f800000u) { atomicMax(&found[p.f0], bitcast<u32>(1.0)); }
  Y[y_at] = g / scale[p.s0];
}`;

export function unscale(c: Context, g: Operand, scale: Operand, found: Operand): void {
  const size = sizeOf(g.shape);
  if (size === 0) return;
  const { lengths, strides } = joined(g.shape, [g]);
  const kernel = kernelOf(c, 'unscale', () => ({ code: UNSCALE, types: `uiuuuuuu${walkTypes(1)}` }));
  const steps = [...led(lengths, AXES, 1), ...led(strides[0]!, AXES, 0)];
  const values = [size, g.offset, scale.offset, found.offset, c.commands.seen, 0, 0, 0, ...steps];
  c.commands.dispatch(kernel, [...[g, scale, found].map(memoryOf), c.commands.status], values, flatGroups(size));
}
