/** Checks that are told by the next read: the first bad position and value stay in the status. */

import type { Operand } from '@otimes/core';
import type { BadValue } from '@otimes/core/extend';
import { sizeOf } from '@otimes/core/extend';
import { type Context, kernelOf, memoryOf } from './context.ts';
import { rowMajor } from './copy.ts';
import { HEAD, KEPT, PIECES } from './reads.ts';
import { constants, tensor, tree } from './wgsl.ts';

/** What is bad in i32 words x. */
const BAD = {
  'out of range': 'x < 0 || x >= p.limit',
  negative: 'x < 0',
  'not finite': '(bitcast<u32>(x) & 0x7f800000u) == 0x7f800000u',
  // |x| from 2³¹ on, ±∞ and NaN, but −2³¹ itself; truncation keeps what is nearer to 0.
  'no int32': '(bitcast<u32>(x) & 0x7fffffffu) >= 0x4f000000u && bitcast<u32>(x) != 0xcf000000u',
};

/**
 * Leaves position and value of the first bad element without gaps, one for each workgroup, and ~id in the status unless a check before
 * this one has failed: the largest wins, so the order of checks does not matter and many may run at once.
 */
const code = (bad: string) => `${constants('id:u32, x0:u32, n:u32, limit:i32')}
${tensor(1, 'X', 'read', 'i32')}
@group(0) @binding(2) var<storage, read_write> status : array<atomic<u32>>;
var<workgroup> lanes : array<u32, 64>;
@compute @workgroup_size(64) fn main(@builtin(workgroup_id) w : vec3<u32>, @builtin(num_workgroups) wn : vec3<u32>, @builtin(local_invocation_index) t : u32) {
  var acc = 0xffffffffu;
  for (var i = w.x * 64u + t; i < p.n; i += wn.x * 64u) { let x = X[p.x0 + i]; if (${bad}) { acc = min(acc, i); } }
  ${tree(64, (a, b) => `min(${a}, ${b})`)}
  if (t == 0u && atomicLoad(&status[0]) <= ~p.id) {
    let at = ${HEAD}u + 2u * ((p.id % ${KEPT}u) * ${PIECES}u + w.x);
    atomicStore(&status[at], lanes[0]);
    if (lanes[0] != 0xffffffffu) {
      atomicStore(&status[at + 1u], bitcast<u32>(X[p.x0 + lanes[0]]));
      atomicMax(&status[0], ~p.id);
    }
  }
}`;

const words = new Uint32Array(1);
const floats = new Float32Array(words.buffer);
function asFloat(bits: number): number {
  words[0] = bits;
  return floats[0]!;
}

export function checkKernel(c: Context, name: keyof typeof BAD, x: Operand, error: BadValue, limit = 0): void {
  const size = sizeOf(x.shape);
  if (size === 0) return;
  const source = rowMajor(c, x);
  const pieces = Math.min(PIECES, Math.ceil(size / 1024));
  const id = c.commands.check(error, x.dtype === 'int32' ? bits => bits | 0 : asFloat, pieces);
  const kernel = kernelOf(c, `check ${name}`, () => ({ code: code(BAD[name]), types: 'uuui' }));
  c.commands.dispatch(kernel, [memoryOf(source), c.commands.status], [id, source.offset, size, limit], [pieces]);
}
