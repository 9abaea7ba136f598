/** What follows a product: bias and activation, results put into place, and the sum of the parts that its terms were split into. */

import type { Operand } from '@otimes/core';
import { sizeOf } from '@otimes/core/extend';
import { type Context, kernelOf, memoryOf } from './context.ts';
import { withLibrary } from './math.ts';
import { constants, FLAT, flatGroups, GROUP, INDEX, PER_GROUP, rowGroups, tensor, times, type Word } from './wgsl.ts';

export type Activation = 'none' | 'relu' | 'gelu' | 'geluTanh' | 'tanh' | 'sigmoid' | 'silu';

/** The same functions as those of elementwise kernels (math.ts), so that fusing changes no bit. */
const EXPRESSIONS: Readonly<Record<Activation, string>> = {
  none: 'x',
  relu: 'relu_(x)',
  gelu: 'gelu_(x)',
  geluTanh: 'gelutanh_(x)',
  tanh: 'tanh_(x)',
  sigmoid: 'sigmoid_(x)',
  silu: 'x * sigmoid_(x)',
};

/** WGSL: `finished(v, row, column)`, four results of a row with bias `C` and activation; constants bias, c0, cr and cc. */
export const epilogue = (activation: Activation, word: Word) => `
${word === 'f32' && activation !== 'none' ? withLibrary(`fn activation(x : f32) -> f32 { return ${EXPRESSIONS[activation]}; }`) : ''}
fn finished(v : vec4<${word}>, row : u32, column : u32) -> vec4<${word}> {
  var r = v;
  if (p.bias == 1u) { let at = p.c0 + i32(row) * p.cr + i32(column) * p.cc; r += vec4<${word}>(C[at], C[at + p.cc], C[at + 2 * p.cc], C[at + 3 * p.cc]); }
  return ${word === 'f32' && activation !== 'none' ? `vec4<f32>(${[0, 1, 2, 3].map(i => `activation(r[${i}])`)})` : 'r'};
}`;

/** WGSL: `put(v, z, row, column)`, four results to Y [batch, m, n] without gaps; a mirror image as well below the diagonal. */
export const putCode = ({ word, wide, mirrored }: { word: Word; wide: boolean; mirrored: number }) => `
fn put(v : vec4<${word}>, z : u32, row : u32, col : u32) {
  if (row >= p.m || col >= p.n) { return; }
  let r = finished(v, row, col);
  let at = p.y0 + (z * p.m + row) * p.n + col;
  ${
    wide
      ? 'Y[at >> 2u] = r;'
      : `Y[at] = r[0]; ${[1, 2, 3].map(i => `if (col + ${i}u < p.n) { Y[at + ${i}u] = r[${i}]; }`).join(' ')}`
  }
  ${
    mirrored === 0
      ? ''
      : `if (row / ${mirrored}u < col / ${mirrored}u) { let other = p.y0 + (z * p.m + col) * p.n + row;
    ${times(4, i => `if (col + ${i}u < p.n) { Y[other + ${i}u * p.n] = r[${i}]; }`)} }`
  }
}`;

export type Finish = { bias: Operand | null; biasOf: 'columns' | 'rows'; activation: Activation };

/** The bias as constants bias, c0, cr and cc. */
export function biasValues({ bias, biasOf }: Finish): number[] {
  if (bias === null) return [0, 0, 0, 0];
  const step = bias.strides[0]!;
  return [1, bias.offset, biasOf === 'rows' ? step : 0, biasOf === 'columns' ? step : 0];
}

const sumCode = (activation: Activation, word: Word) => `
${constants('size:u32, parts:u32, m:u32, n:u32, y0:u32, bias:u32, c0:i32, cr:i32, cc:i32')}
${tensor(1, 'X', 'read', word)} ${tensor(2, 'C', 'read', word)} ${tensor(3, 'Y', 'read_write', word)}
${epilogue(activation, word)}
@compute @workgroup_size(64) fn main(${FLAT}) {
  ${INDEX}
  if (i >= p.size) { return; }
  var sum = X[i];
  for (var part = 1u; part < p.parts; part++) { sum += X[part * p.size + i]; }
  Y[p.y0 + i] = finished(vec4<${word}>(sum), (i / p.n) % p.m, i % p.n)[0];
}`;

/** Parts from which on eight threads share each sum. */
const MANY = 16;

/** The same with eight threads a result: of many parts there are few results, and a thread would wait for each. */
const sharedSumCode = (activation: Activation, word: Word) => `
${constants('size:u32, parts:u32, m:u32, n:u32, y0:u32, bias:u32, c0:i32, cr:i32, cc:i32')}
${tensor(1, 'X', 'read', word)} ${tensor(2, 'C', 'read', word)} ${tensor(3, 'Y', 'read_write', word)}
${epilogue(activation, word)}
var<workgroup> lanes : array<${word}, 256>;
@compute @workgroup_size(256) fn main(${PER_GROUP}) {
  ${GROUP}
  let i = row * 32u + t % 32u; let lane = t / 32u;
  var sum = ${word}(0);
  if (i < p.size) { for (var part = lane; part < p.parts; part += 8u) { sum += X[part * p.size + i]; } }
  lanes[t] = sum;
  workgroupBarrier();
  for (var others = 4u; others > 0u; others >>= 1u) {
    if (lane < others) { lanes[t] += lanes[t + 32u * others]; }
    workgroupBarrier();
  }
  if (lane == 0u && i < p.size) { Y[p.y0 + i] = finished(vec4<${word}>(lanes[t]), (i / p.n) % p.m, i % p.n)[0]; }
}`;

/** out [batch, M, N] ← the sum of `parts` [parts, batch, M, N], in an order of its own that is always the same, with bias and activation. */
export function sumParts(c: Context, parts: Operand, out: Operand, finish: Finish): void {
  const word: Word = out.dtype === 'int32' ? 'i32' : 'f32';
  const size = sizeOf(out.shape);
  const [count, , m, n] = parts.shape;
  const shared = count! >= MANY;
  const kernel = kernelOf(c, `${word} sum of ${shared ? 'many ' : ''}parts ${finish.activation}`, () => ({
    code: (shared ? sharedSumCode : sumCode)(finish.activation, word),
    types: 'uuuuuuiii',
  }));
  const values = [size, count!, m!, n!, out.offset, ...biasValues(finish)];
  const flow = out.offset === 0 && !shared ? { stores: 2, count: size } : null;
  const groups = shared ? rowGroups(Math.ceil(size / 32)) : flatGroups(size);
  c.commands.dispatch(kernel, [parts, finish.bias ?? parts, out].map(memoryOf), values, groups, flow);
}
