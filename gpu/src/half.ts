/**
 * Numbers in f16, two in each u32 word: what operands of products are rounded to where the GPU was opened with `mixed`. Core WGSL
 * has what it takes, so this works on every adapter.
 */

import type { Operand } from '@otimes/core';
import { type Context, kernelOf, memoryOf, operandOver } from './context.ts';
import type { Memory } from './launch.ts';
import { GpuRegion } from './pool.ts';
import { constants, FLAT, flatGroups, INDEX, type Word } from './wgsl.ts';

/** To the nearest, ties to even; ±∞ from 65520 on. By integers: what `pack2x16float` does at the edges is left to adapters. */
const HALF = `fn half(x : f32) -> u32 {
  let bits = bitcast<u32>(x);
  let sign = (bits >> 16u) & 0x8000u;
  let size = bits & 0x7fffffffu;
  if (size >= 0x477ff000u) { return sign | select(0x7c00u, 0x7e00u, size > 0x7f800000u); }
  // Below 2⁻¹⁴ steps are of 2⁻²⁴, as those of a float32 from ½ on.
  if (size < 0x38800000u) { return sign | (bitcast<u32>(bitcast<f32>(size) + 0.5) - 0x3f000000u); }
  return sign | ((size - 0x37fff001u + ((size >> 13u) & 1u)) >> 13u);
}`;

/** With f16 among the types, conversions do the same faster. */
const code = (native: boolean) => `${native ? 'enable f16;' : ''}
${constants('n:u32')}
@group(0) @binding(1) var<storage, read> X : array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> Y : array<vec2<u32>>;
${native ? '' : HALF}
@compute @workgroup_size(64) fn main(${FLAT}) {
  ${INDEX}
  if (i < p.n) { let x = X[i]; Y[i] = ${native ? 'bitcast<vec2<u32>>(vec4<f16>(x))' : 'vec2<u32>(half(x[0]) | (half(x[1]) << 16u), half(x[2]) | (half(x[3]) << 16u))'}; }
}`;

/** The f16 of a storage, as it was when its memory had been written to so often. */
export type Half = { readonly region: GpuRegion; readonly writes: number };

/**
 * x in f16, with the layout of x. All of its storage is rounded at once and kept with it until it is written to: a weight once a step,
 * and what backward needs of forward once.
 */
export function halfOf(c: Context, x: Operand): Operand {
  const { memory: whole } = x.storage;
  const memory = memoryOf(x);
  if (!(whole instanceof GpuRegion)) throw new Error('gpu: expected memory of this device');
  let { half } = whole;
  if (half === null || half.writes !== memory.writes) {
    half?.region.release();
    half = { region: rounded(c, whole, memory), writes: memory.writes };
    whole.half = half;
  }
  return operandOver(half.region, x);
}

function rounded(c: Context, { size }: GpuRegion, memory: Memory): GpuRegion {
  // Kernels read eight at a time.
  const words = 4 * Math.ceil(size / 8);
  const region = new GpuRegion(c.pool, c.pool.allocate(4 * words), words, c.device);
  const kernel = kernelOf(c, 'to f16', () => ({ code: code(c.unit !== null), types: 'u' }));
  const quads = Math.ceil(size / 4);
  c.commands.dispatch(kernel, [memory, region.memory], [quads], flatGroups(quads));
  return region;
}

// --- Kernels that take numbers in f32, in another word, or in f16 as they lie here; `at` counts numbers, or fours of them ---

/** What an array consists of, of which fours or single numbers are read. */
export const elementOf = (four: boolean, word: Word, half = false): string =>
  half ? (four ? 'vec2<u32>' : 'u32') : four ? `vec4<${word}>` : word;

export const oneAt = (name: string, at: string, half = false): string =>
  half ? `unpack2x16float(${name}[(${at}) >> 1u])[(${at}) & 1]` : `${name}[${at}]`;

export const fourAt = (name: string, at: string, half = false): string =>
  half ? `unpacked(${name}[${at}])` : `${name}[${at}]`;

/** What `fourAt` calls. */
export const UNPACKED =
  'fn unpacked(x : vec2<u32>) -> vec4<f32> { return vec4<f32>(unpack2x16float(x[0]), unpack2x16float(x[1])); }';
