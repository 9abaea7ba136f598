/**
 * Reductions of anything: any axes of operands in any layout, joined by a kernel of 256 threads a workgroup. Kept axes merge to two,
 * [outer, j], and reduced ones to two, [a, b]. Threads lie along whichever of j and b has neighbours in memory, so that they
 * read neighbours; several short reductions share a workgroup, and a few long ones are cut into pieces, which a second
 * dispatch joins. Sums are reproducible: their order follows from the shape.
 */

import type { Operand } from '@otimes/core';
import { mergedAxes, pathTo, sizeOf, withLayout } from '@otimes/core/extend';
import { type Context, kernelOf, memoryOf, temporary } from './context.ts';
import { copied } from './copy.ts';
import { led } from './layouts.ts';
import { constants, PER_GROUP, rowGroups, type Word } from './wgsl.ts';

/** Types that elements are joined in, and their words. */
const WORDS = { f32: 1, i32: 1, 'vec2<f32>': 2, 'vec2<u32>': 2, 'vec4<f32>': 4 };

export type Reduction = {
  /** The kernel's: reductions of one name have the same texts. */
  readonly name: string;
  readonly type: keyof typeof WORDS;
  readonly start: string;
  readonly join: (a: string, b: string) => string;
  /** What an element counts for: from the elements of operands by their names, and the index `b` along the last reduced axis. */
  readonly element: string;
  /** How a thread gathers elements `v` of f32 and ends with `acc`, where it does not join one by one. */
  readonly gather?: { readonly declare: string; readonly add: string; readonly close: string };
  /** Each result from `sum`, the number `p.count` of elements, and the given numbers. */
  readonly finish: readonly string[];
  /** Of the results; default f32. */
  readonly word?: Word;
};

const THREADS = 256;
/** Groups below which a GPU is not busy: long reductions are cut then. */
const FEW = 512;
const FIELDS =
  'outer:u32, nj:u32, na:u32, nb:u32, tiles:u32, wl:u32, bl:u32, al:u32, ca:u32, cb:u32, pieces:u32, count:f32';
const TYPES = `${'u'.repeat(11)}f`;

const wordOf = (x: Operand): Word => (x.dtype === 'int32' ? 'i32' : 'f32');

type Input = { readonly name: string; readonly type: string };

function code(
  r: Pick<Reduction, 'type' | 'start' | 'join' | 'element' | 'gather'>,
  inputs: readonly Input[],
  numbers: readonly string[],
  results: readonly { type: string; value: string }[],
): string {
  const fields = inputs.map(({ name }) => `${['0', 'o', 'j', 'a', 'b'].map(k => `${name}_${k}:i32`).join(', ')}`);
  const value = r.gather === undefined ? r.type : 'f32';
  const add = r.gather?.add ?? `acc = ${r.join('acc', 'v')};`;
  const base = inputs.map(({ name }) => `p.${name}_0 + i32(outer) * p.${name}_o + i32(j) * p.${name}_j`);
  const args = inputs.map(({ name }) => `${name}_at : i32`).join(', ');
  const bases = inputs.map(({ name }) => `${name}_at`).join(', ');
  const read = (b: string) => `element(a, ${b}, ${bases})`;
  return `${constants([FIELDS, ...fields, ...numbers.map(name => `${name}:f32`)].join(', '))}
${inputs.map(({ name, type }, i) => `@group(0) @binding(${i + 1}) var<storage, read> ${name}_all : array<${type}>;`).join('\n')}
${results.map(({ type }, i) => `@group(0) @binding(${inputs.length + 1 + i}) var<storage, read_write> Y${i} : array<${type}>;`).join('\n')}
var<workgroup> lanes : array<${r.type}, ${THREADS}>;
fn element(a : u32, b : u32, ${args}) -> ${value} {
  ${inputs.map(({ name }) => `let ${name} = ${name}_all[${name}_at + i32(a) * p.${name}_a + i32(b) * p.${name}_b];`).join(' ')}
  return ${r.element};
}
@compute @workgroup_size(${THREADS}) fn main(${PER_GROUP}) {
  // Threads: 2^wl along j, 2^bl along b, 2^al along a, and the rest one reduction each.
  let sl = p.bl + p.al;
  let lane = (t >> p.wl) & ((1u << sl) - 1u);
  let perGroup = ${THREADS}u >> (p.wl + sl);
  let item = (w.x + w.y * wn.x) * perGroup + (t >> (p.wl + sl));
  let outer = item / p.tiles;
  let j = ((item % p.tiles) << p.wl) + (t & ((1u << p.wl) - 1u));
  let is = outer < p.outer && j < p.nj;
  let a0 = (w.z / p.pieces) * p.ca; let b0 = (w.z % p.pieces) * p.cb;
  let a1 = min(a0 + p.ca, p.na); let b1 = min(b0 + p.cb, p.nb);
  let stepA = 1u << p.al; let stepB = 1u << p.bl;
  var acc = ${r.type}(${r.start});
  if (is) {
    ${inputs.map(({ name }, i) => `let ${name}_at = ${base[i]};`).join(' ')}
    ${r.gather?.declare ?? ''}
    for (var a = a0 + (lane >> p.bl); a < a1; a += stepA) {
      var b = b0 + (lane & (stepB - 1u));
      // Four reads at once are under way.
      for (; b + 3u * stepB < b1; b += 4u * stepB) {
        let v0 = ${read('b')}; let v1 = ${read('b + stepB')}; let v2 = ${read('b + 2u * stepB')}; let v3 = ${read('b + 3u * stepB')};
        ${[0, 1, 2, 3].map(k => `{ let v = v${k}; ${add} }`).join(' ')}
      }
      for (; b < b1; b += stepB) { let v = ${read('b')}; ${add} }
    }
    ${r.gather?.close ?? ''}
  }
  lanes[t] = acc;
  for (var half_ = (1u << sl) >> 1u; half_ > 0u; half_ >>= 1u) {
    workgroupBarrier();
    if (lane < half_) { let other = lanes[t + (half_ << p.wl)]; let own = lanes[t]; lanes[t] = ${r.join('own', 'other')}; }
  }
  if (lane == 0u && is) {
    let sum = lanes[t];
    let at = outer * p.nj + j;
    let part = w.z * p.outer * p.nj + at;
    ${results.map(({ value }, i) => `Y${i}[${value === 'part' ? 'part' : 'at'}] = ${value === 'part' ? 'sum' : value};`).join(' ')}
  }
}`;
}

/** The exponent of the least power of 2 from n on, and at most `most`. */
const log2Up = (n: number, most: number) => Math.min(most, Math.ceil(Math.log2(Math.max(1, n))));

/** How threads and pieces lie over [outer, j] and [a, b]. */
function plan([outer, nj]: readonly number[], [na, nb]: readonly number[], alongJ: boolean) {
  const wl = alongJ ? log2Up(nj!, 6) : 0;
  const left = 8 - wl;
  const results = outer! * nj!;
  // Many results: fewer threads for each, down to where they would not read neighbours.
  const most = log2Up(nb!, left);
  const few = results * 2 ** most <= 2 ** 16;
  const bl = few ? most : Math.max(Math.min(most, alongJ ? 2 : 5), log2Up(nb! / 8, left));
  const al = log2Up(few ? na! : na! / 8, left - bl);
  const tiles = Math.ceil(nj! / 2 ** wl);
  const groups = Math.ceil((outer! * tiles) / 2 ** (left - bl - al));
  const [roundsA, roundsB] = [Math.ceil(na! / 2 ** al), Math.ceil(nb! / 2 ** bl)];
  const rounds = roundsA * roundsB;
  const wanted = groups < FEW && rounds > 32 ? Math.min(Math.ceil((2 * FEW) / groups), Math.ceil(rounds / 16)) : 1;
  const cuts = (length: number, n: number) => {
    const each = Math.ceil(length / Math.min(length, n));
    return { each, pieces: Math.ceil(length / each) };
  };
  const a = cuts(Math.max(1, roundsA), wanted);
  const b = cuts(Math.max(1, roundsB), Math.ceil(wanted / a.pieces));
  return {
    groups: [...rowGroups(groups), a.pieces * b.pieces],
    pieces: a.pieces * b.pieces,
    values: [outer!, nj!, na!, nb!, tiles, wl, bl, al, a.each * 2 ** al, b.each * 2 ** bl, b.pieces, na! * nb!],
  };
}

/**
 * outs ← the reduction of `operands`, broadcast to `shape`, over `axes`. Each out is contiguous, with the elements of the other
 * axes in order.
 */
export function reduceBy(
  c: Context,
  r: Reduction,
  operands: Readonly<Record<string, Operand>>,
  shape: readonly number[],
  axes: readonly number[],
  outs: readonly Operand[],
  numbers: Readonly<Record<string, number>> = {},
): void {
  const results = sizeOf(outs[0]!.shape);
  if (results === 0) return;
  let all = Object.values(operands).map(x => withLayout(x, shape, pathTo(x, shape).strides));
  const kept = shape.map((_, i) => i).filter(i => !axes.includes(i));
  const merged = (of: readonly number[]) =>
    mergedAxes(
      of.map(i => shape[i]!),
      all.map(x => ({ strides: of.map(i => x.strides[i]!), offset: x.offset })),
    );
  let [keeping, reducing] = [merged(kept), merged(axes.toSorted((p, q) => p - q))];
  if (keeping.lengths.length > 2 || reducing.lengths.length > 2) {
    // More axes than the kernel has: copies with the kept ones in front have two.
    const order = [...kept, ...axes.toSorted((p, q) => p - q)];
    const turned = order.map(i => shape[i]!);
    all = all.map(x =>
      copied(
        c,
        withLayout(
          x,
          turned,
          order.map(i => x.strides[i]!),
        ),
      ),
    );
    const [rows, length] = [results, sizeOf(axes.map(i => shape[i]!))];
    keeping = { lengths: [rows], strides: all.map(() => [length]) };
    reducing = { lengths: [length], strides: all.map(() => [1]) };
  }
  const steps = all.map((_, k) => [...led(keeping.strides[k]!, 2, 0), ...led(reducing.strides[k]!, 2, 0)]);
  const [first] = steps;
  const near = (step: number) => (step === 0 ? Infinity : Math.abs(step));
  const ways = plan(led(keeping.lengths, 2, 1), led(reducing.lengths, 2, 1), near(first![1]!) < near(first![3]!));
  const inputs = Object.keys(operands).map((name, k) => ({ name, type: wordOf(all[k]!) }));
  const word = r.word ?? 'f32';
  const names = Object.keys(numbers);
  const types = `${TYPES}${'i'.repeat(5 * inputs.length)}${'f'.repeat(names.length)}`;
  const given = [...ways.values, ...all.flatMap((x, k) => [x.offset, ...steps[k]!]), ...Object.values(numbers)];
  const text = inputs.map(({ name, type }) => `${name} ${type}`);
  const finish = r.finish.map(value => ({ type: word as string, value }));
  if (ways.pieces === 1) {
    const kernel = kernelOf(c, `${r.name} of ${text}`, () => ({ code: code(r, inputs, names, finish), types }));
    return c.commands.dispatch(kernel, [...all, ...outs].map(memoryOf), given, ways.groups);
  }
  const parts = temporary(c, 'float32', [ways.pieces * results * WORDS[r.type]]);
  const kernel = kernelOf(c, `pieces of ${r.name} of ${text}`, () => ({
    code: code(r, inputs, names, [{ type: r.type, value: 'part' }]),
    types,
  }));
  c.commands.dispatch(kernel, [...all, parts].map(memoryOf), given, ways.groups);
  const rest = plan([1, results], [1, ways.pieces], results > 1);
  const joining = kernelOf(c, `joined ${r.name}`, () => ({
    code: code(
      { type: r.type, start: r.start, join: r.join, element: 'x' },
      [{ name: 'x', type: r.type }],
      names,
      finish,
    ),
    types: `${TYPES}iiiii${'f'.repeat(names.length)}`,
  }));
  const count = ways.values.at(-1)!;
  const values = [...rest.values.slice(0, -1), count, 0, 0, 1, 0, results, ...Object.values(numbers)];
  c.commands.dispatch(joining, [parts, ...outs].map(memoryOf), values, rest.groups);
}
