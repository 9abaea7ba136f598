/**
 * Which tile is the fastest for which product? GFLOP/s (2·M·N·K operations) of every candidate at every shape, by the clock of the
 * host over many dispatches between two reads that are awaited. Some results of each candidate at each shape are compared
 * with plain loops. The table of `gpu/src/product-plan.ts` was chosen by it.
 *
 *   npm run bench bench/gpu/products.ts                      all candidates, within a minute on a graphics card
 *   npm run bench bench/gpu/products.ts -- --quick           small shapes, a few candidates: whether the program runs
 *   npm run bench bench/gpu/products.ts -- --seconds 100     its limit of time; shapes that are left out are named
 */

import { parseArgs } from 'node:util';
import type { Operand } from '@otimes/core';
import { openDevice } from '../../gpu/src/adapter.ts';
import { Commands } from '../../gpu/src/commands.ts';
import { ElementwiseCompiler } from '../../gpu/src/compiler.ts';
import { type Context, memoryOf, temporary } from '../../gpu/src/context.ts';
import { Pool } from '../../gpu/src/pool.ts';
import { multiply } from '../../gpu/src/product.ts';
import { type Plan, planOf, planWith } from '../../gpu/src/product-plan.ts';
import { bytesOf, nameOf, type Tile } from '../../gpu/src/product-tile.ts';

const { values: options } = parseArgs({
  options: { quick: { type: 'boolean', default: false }, seconds: { type: 'string', default: '55' } },
});
const { quick } = options;
const LIMIT = 1000 * Number(options.seconds);
const began = performance.now();
/** Milliseconds of work behind a figure, and of warm-up. */
const SAMPLE = quick ? 1 : 50;
const WARM = quick ? 0 : 15;

const { device, info } = await openDevice({});
const commands = new Commands(device);
const c: Context = {
  device: 'gpu',
  commands,
  pool: new Pool(commands, 16e9),
  compiler: new ElementwiseCompiler(commands),
  kernels: new Map(),
  mixed: false,
  unit: null,
};
const room = device.limits.maxComputeWorkgroupStorageSize;
console.log(
  `${info.name}, ${info.vendor}${info.isFallbackAdapter ? ', a fallback: the figures mean nothing for a GPU' : ''}`,
);
console.log(`workgroup memory ${room} bytes; features ${[...device.features].join(' ')}`);

const tile = (m: number, n: number, k: number, x: number, y: number, buffers: 1 | 2, unroll: number): Tile => ({
  ...{ m, n, k, x, y, buffers, unroll },
});
const LARGE = [
  tile(128, 128, 16, 16, 16, 2, 4),
  tile(128, 128, 16, 16, 16, 1, 4),
  tile(128, 128, 16, 16, 16, 2, 8),
  tile(128, 128, 16, 16, 16, 2, 16),
  tile(128, 128, 16, 16, 16, 1, 16),
  tile(128, 128, 8, 16, 16, 2, 8),
  tile(128, 128, 32, 16, 16, 1, 4),
  tile(128, 128, 16, 16, 8, 2, 4),
  tile(256, 128, 16, 16, 16, 1, 4),
  tile(128, 256, 8, 32, 8, 2, 4),
  tile(128, 64, 16, 8, 16, 2, 4),
  tile(64, 128, 16, 16, 8, 2, 4),
];
const MEDIUM = [
  tile(64, 64, 16, 8, 8, 1, 4),
  tile(64, 64, 16, 8, 8, 2, 4),
  tile(64, 64, 16, 8, 8, 2, 16),
  tile(64, 64, 16, 16, 16, 2, 4),
  tile(64, 64, 32, 16, 16, 2, 4),
  tile(64, 64, 16, 16, 8, 2, 4),
  tile(64, 32, 16, 8, 8, 2, 4),
];
const SMALL = [
  tile(32, 32, 32, 8, 8, 1, 4),
  tile(32, 32, 16, 8, 8, 2, 4),
  tile(32, 32, 32, 8, 8, 2, 4),
  tile(16, 64, 16, 16, 4, 1, 4),
  tile(16, 64, 32, 16, 4, 2, 4),
  tile(64, 16, 16, 4, 16, 1, 4),
  tile(64, 16, 32, 4, 16, 2, 4),
  tile(32, 16, 32, 4, 8, 2, 4),
];

/** [batch, M, K] · [batch, K, N]; `turned`: A, B or both lie transposed in memory. */
type Case = {
  name: string;
  m: number;
  n: number;
  k: number;
  batch?: number;
  turned?: string;
  tiles: Tile[];
  splits?: number[];
};
const square = (n: number, tiles: Tile[], more: Partial<Case> = {}): Case => ({
  name: `${n}`,
  m: n,
  n,
  k: n,
  tiles,
  ...more,
});
const SPLITS = [1, 2, 4, 8, 16];
const CASES: Case[] = quick
  ? [
      square(128, [LARGE[0]!, MEDIUM[0]!, SMALL[0]!]),
      { name: 'thin', m: 64, n: 128, k: 200, tiles: [SMALL[0]!, SMALL[3]!], splits: [1, 2] },
      { name: 'batched', m: 64, n: 64, k: 64, batch: 3, turned: 'B', tiles: [MEDIUM[0]!] },
    ]
  : [
      square(4096, [...LARGE, ...MEDIUM]),
      square(2048, [...LARGE.slice(0, 3), LARGE[10]!, LARGE[11]!, ...MEDIUM.slice(0, 4)]),
      square(1024, [LARGE[0]!, LARGE[10]!, LARGE[11]!, ...MEDIUM, SMALL[2]!]),
      square(512, [LARGE[0]!, ...MEDIUM, ...SMALL], { splits: [1, 2, 4] }),
      square(256, [MEDIUM[1]!, MEDIUM[3]!, MEDIUM[6]!, ...SMALL], { splits: [1, 2, 4, 8] }),
      square(8192, LARGE.slice(0, 2)),
      square(2048, [LARGE[0]!, MEDIUM[1]!], { name: '2048, A turned', turned: 'A' }),
      square(2048, [LARGE[0]!, MEDIUM[1]!], { name: '2048, B turned', turned: 'B' }),
      { name: '[64,784]·[784,512]', m: 64, n: 512, k: 784, tiles: SMALL, splits: SPLITS },
      { name: '[128,512]·[512,10]', m: 128, n: 10, k: 512, tiles: SMALL, splits: SPLITS },
      { name: '[1,4096]·[4096,4096]', m: 1, n: 4096, k: 4096, tiles: SMALL.slice(3, 5), splits: SPLITS },
      { name: '[784,64]·[64,512]', m: 784, n: 512, k: 64, tiles: [...SMALL.slice(0, 3), MEDIUM[1]!] },
      {
        name: '[512,8192]·[8192,512]',
        m: 512,
        n: 512,
        k: 8192,
        turned: 'A',
        tiles: [LARGE[0]!, MEDIUM[1]!],
        splits: [1, 4, 8, 16],
      },
      {
        name: '96 · [512,64]·[64,512]',
        m: 512,
        n: 512,
        k: 64,
        batch: 96,
        turned: 'B',
        tiles: [LARGE[0]!, ...MEDIUM.slice(0, 5)],
      },
      { name: '96 · [512,512]·[512,64]', m: 512, n: 64, k: 512, batch: 96, tiles: [LARGE[10]!, ...MEDIUM.slice(0, 5)] },
    ];

/** Numbers from −1 to 1, by a generator of 32 bits. */
const most = Math.max(...CASES.map(({ m, n, k, batch = 1 }) => batch * Math.max(m * k, k * n)));
const numbers = new Float32Array(most + 977);
for (let i = 0, state = 1; i < numbers.length; i++) {
  state = (Math.imul(state, 1664525) + 1013904223) | 0;
  numbers[i] = state / 2 ** 31;
}

/** A matrix [batch, rows, columns], or its transpose in memory; element i in memory is numbers[i + from]. */
function matrix(batch: number, rows: number, columns: number, from: number, turned: boolean): Operand {
  const x = temporary(c, 'float32', [batch, rows, columns]);
  commands.write(memoryOf(x), numbers.subarray(from, from + batch * rows * columns));
  return turned ? { ...x, strides: [rows * columns, 1, rows] } : x;
}
const dot = (a: Operand, b: Operand, fromB: number, z: number, i: number, j: number) => {
  let sum = 0;
  for (let k = 0; k < a.shape[2]!; k++)
    sum +=
      numbers[z * a.strides[0]! + i * a.strides[1]! + k * a.strides[2]!]! *
      numbers[fromB + z * b.strides[0]! + k * b.strides[1]! + j * b.strides[2]!]!;
  return sum;
};
const done = (y: Operand) => commands.read(memoryOf(y), 0, 4, false);

/** Compares results at `count` places with plain loops. */
async function check(a: Operand, b: Operand, fromB: number, y: Operand, count: number): Promise<string> {
  const [batch, m, n] = y.shape as [number, number, number];
  const all = batch * m * n;
  for (let q = 0; q < count; q++) {
    const at = count >= all ? q : Math.floor((q * all) / count + ((q * 37) % 11)) % all;
    if (at >= all) break;
    const [value] = new Float32Array(await commands.read(memoryOf(y), 4 * at, 4, false));
    const expected = dot(a, b, fromB, Math.floor(at / (m * n)), Math.floor(at / n) % m, at % n);
    if (!(Math.abs(value! - expected) <= 1e-5 * a.shape[2]!))
      return `WRONG: element ${at} is ${value}, expected ${expected}`;
  }
  return '';
}

const release = (...all: Operand[]) => {
  for (const { storage } of all) if ('release' in storage.memory) storage.memory.release();
};

/** Seconds of a product with that plan. */
async function secondsOf(run: () => void, y: Operand): Promise<number> {
  const time = async (count: number) => {
    const start = performance.now();
    for (let i = 0; i < count; i++) run();
    await done(y);
    return performance.now() - start;
  };
  let count = 1;
  let spent = await time(1);
  while (spent < WARM) {
    count = Math.min(4 * count, 1000);
    spent = await time(count);
  }
  const enough = Math.max(1, Math.ceil((SAMPLE * count) / spent));
  return (await time(enough)) / enough / 1000;
}

/** What the card does at most: products and sums in registers alone, half of them with a number that comes anew. */
const PEAK = `struct P { count: u32 } @group(0) @binding(0) var<uniform> p : P;
@group(0) @binding(1) var<storage, read_write> Y : array<vec4<f32>>;
@compute @workgroup_size(256) fn main(@builtin(global_invocation_id) id : vec3<u32>) {
  var a = vec4<f32>(f32(id.x)) * 1e-3; let b = vec4<f32>(0.999); let d = a * 0.5;
  var s0 = a; var s1 = a + 1.0; var s2 = a + 2.0; var s3 = a + 3.0; var s4 = a + 4.0; var s5 = a + 5.0; var s6 = a + 6.0; var s7 = a + 7.0;
  for (var i = 0u; i < p.count; i++) {
    ${Array.from({ length: 8 }, (_, q) => [0, 1, 2, 3].map(() => `s${q} = fma(s${q}, b, d);`).join(' ')).join(' ')}
  }
  Y[id.x] = s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7;
}`;
{
  const kernel = commands.kernel(PEAK, 'u', 'peak');
  const groups = quick ? 1 : 132 * 64;
  const y = temporary(c, 'float32', [groups * 256 * 4]);
  const count = quick ? 1 : 256;
  const seconds = await secondsOf(() => commands.dispatch(kernel, [memoryOf(y)], [count], [groups]), y);
  console.log(`registers alone: ${((groups * 256 * count * 32 * 4 * 2) / seconds / 1e9).toFixed(0)} GFLOP/s`);
}

const left: string[] = [];
const chosen: string[] = [];
for (const { name, m, n, k, batch = 1, turned = '', tiles, splits = [1] } of CASES) {
  if (performance.now() - began > LIMIT) {
    left.push(name);
    continue;
  }
  const a = matrix(batch, m, k, 0, turned.includes('A'));
  const b = matrix(batch, k, n, 977, turned.includes('B'));
  const y = temporary(c, 'float32', [batch, m, n]);
  const own = planOf({ m, n, k, batch }, room);
  const figures: { rate: number; what: string }[] = [];
  const measure = async (plan: Plan, what: string) => {
    const start = performance.now();
    multiply(c, a, b, y, { plan });
    await done(y);
    const first = performance.now() - start;
    const wrong = await check(a, b, 977, y, quick ? 50 : 12);
    const seconds = await secondsOf(() => multiply(c, a, b, y, { plan }), y);
    const rate = (2 * batch * m * n * k) / seconds / 1e9;
    figures.push({ rate, what });
    console.log(
      `${name.padEnd(26)} ${what.padEnd(34)} ${rate.toFixed(0).padStart(7)} GFLOP/s ${(1e6 * seconds).toFixed(1).padStart(9)} µs   first ${first.toFixed(0)} ms ${wrong}`,
    );
  };
  for (const one of tiles)
    for (const parts of splits) {
      if (bytesOf(one) > room || k / parts < one.k || performance.now() - began > LIMIT) continue;
      await measure(planWith(one, k, parts), `${nameOf(one)} / ${parts}`);
    }
  if (performance.now() - began <= LIMIT) await measure(own, `chosen: ${nameOf(own.tile)} / ${own.splits}`);
  const best = figures.reduce((x, z) => (z.rate > x.rate ? z : x), { rate: 0, what: 'none' });
  chosen.push(
    `${name.padEnd(26)} ${best.what.padEnd(34)} ${best.rate.toFixed(0).padStart(7)}   ${figures.at(-1)?.what} ${figures.at(-1)?.rate.toFixed(0)}`,
  );
  release(a, b, y);
}
console.log(`\nthe best of each, and what is chosen\n${chosen.join('\n')}`);
if (left.length > 0) console.log(`left out for time: ${left.join('; ')}`);
console.log(`${((performance.now() - began) / 1000).toFixed(1)} s`);
device.destroy();
