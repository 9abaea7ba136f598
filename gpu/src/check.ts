/** Checks that are told by the next read: the first bad position and value stay in the status word. */

import type { Operand } from '@otimes/core';
import type { BadValue } from '@otimes/core/extend';
import { sizeOf } from '@otimes/core/extend';
import { type Context, kernelOf, memoryOf } from './context.ts';
import { rowMajor } from './copy.ts';
import { constants, tensor, tree } from './wgsl.ts';

/** What is bad in i32 words x. */
const BAD = {
  'out of range': 'x < 0 || x >= p.limit',
  negative: 'x < 0',
  'not finite': '(bitcast<u32>(x) & 0x7f800000u) == 0x7f800000u',
  // |x| from 2³¹ on, ±∞ and NaN, but −2³¹ itself; truncation keeps what is nearer to 0.
  'no int32': '(bitcast<u32>(x) & 0x7fffffffu) >= 0x4f000000u && bitcast<u32>(x) != 0xcf000000u',
};

/** Leaves `id`, position and value of the first bad element without gaps, unless a check failed before. One workgroup. */
const code = (bad: string) => `${constants('id:u32, x0:u32, n:u32, limit:i32')}
${tensor(1, 'X', 'read', 'i32')} ${tensor(2, 'status', 'read_write', 'u32')}
var<workgroup> lanes : array<u32, 256>;
@compute @workgroup_size(256) fn main(@builtin(local_invocation_index) t : u32) {
  var acc = 0xffffffffu;
  for (var i = t; i < p.n; i += 256u) { let x = X[p.x0 + i]; if (${bad}) { acc = i; break; } }
  ${tree(256, (a, b) => `min(${a}, ${b})`)}
  if (t == 0u && lanes[0] != 0xffffffffu && status[0] == 0u) {
    status[0] = p.id; status[1] = lanes[0]; status[2] = bitcast<u32>(X[p.x0 + lanes[0]]);
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
  const id = c.commands.check(error, x.dtype === 'int32' ? bits => bits | 0 : asFloat);
  const kernel = kernelOf(c, `check ${name}`, () => ({ code: code(BAD[name]), types: 'uuui' }));
  c.commands.dispatch(kernel, [memoryOf(source), c.commands.status], [id, source.offset, size, limit], [1]);
}
