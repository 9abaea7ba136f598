/**
 * Which tile is the fastest for which product and convolution? GFLOP/s of every candidate at every shape, by the card's own clock
 * where it has one, else by the host's over many dispatches between two reads that are awaited. Some results of each are compared
 * with plain loops. The table of `gpu/src/product-plan.ts` was chosen by it.
 *
 *   npm run bench bench/gpu/products.ts                      within a minute on a graphics card
 *   npm run bench bench/gpu/products.ts -- --only conv       of products and conv
 *   npm run bench bench/gpu/products.ts -- --quick           small shapes, a few candidates: whether the program runs
 *   npm run bench bench/gpu/products.ts -- --seconds 100     its limit of time; shapes that are left out are named
 */

import { parseArgs } from 'node:util';
import type { Operand } from '@otimes/core';
import { create, globals } from 'webgpu';
import { openDevice } from '../../gpu/src/adapter.ts';
import { Commands } from '../../gpu/src/commands.ts';
import { memoryOf, newContext, temporary } from '../../gpu/src/context.ts';
import { TOGGLES } from '../../gpu/src/node.ts';
import { bytesOf, nameOf, type Tile } from '../../gpu/src/product-tile.ts';
import { PassClock } from './parts/gpu.ts';
import { type Case, type Choice, type Conv, convolution, type Opened, product } from './parts/tiles.ts';

const { values: options } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    only: { type: 'string', default: '' },
    seconds: { type: 'string', default: '55' },
  },
});
const { quick, only } = options;
const LIMIT = 1000 * Number(options.seconds);
const began = performance.now();
const isLate = () => performance.now() - began > LIMIT;
/** Milliseconds of work behind a figure, and of warm-up. */
const SAMPLE = quick ? 1 : 50;
const WARM = quick ? 0 : 10;

Object.assign(globalThis, globals);
// NOTE: must stay reachable, as the process dies when it is collected. Timestamps are rounded to 0.1 ms otherwise.
const root = create([`enable-dawn-features=${TOGGLES}`, 'disable-dawn-features=timestamp_quantization']);
const adapter = await root.requestAdapter({ powerPreference: 'high-performance' });
const { device, info } = await openDevice(adapter === null ? {} : { adapter });
const clock = device.features.has('timestamp-query') ? new PassClock(device) : null;
const commands = new Commands(device, Infinity);
const c = newContext(commands, 16e9);
const room = device.limits.maxComputeWorkgroupStorageSize;
console.log(
  `${info.name}, ${info.vendor}${info.isFallbackAdapter ? ', a fallback: the figures mean nothing for a GPU' : ''}`,
);
console.log(`workgroup memory ${room} bytes; ${clock === null ? 'the host' : 'the card'}'s clock`);

type Shape = readonly [m: number, n: number, k: number, x: number, y: number, slices?: number];
const tile = ([m, n, k, x, y, slices = 1]: Shape, buffers: 1 | 2 = 1, unroll = 4): Tile => ({
  ...{ m, n, k, x, y, slices, buffers, unroll },
});
const T128 = tile([128, 128, 16, 16, 16]);
const T64 = tile([64, 64, 16, 8, 8]);
const T64w = tile([64, 64, 16, 16, 16], 2);
const T64w1 = tile([64, 64, 16, 16, 16]);
const T128x64 = tile([128, 64, 16, 8, 16]);
const T64x128 = tile([64, 128, 16, 16, 8]);
const T32 = tile([32, 32, 32, 8, 8], 2);
const T32s4 = tile([32, 32, 64, 8, 8, 4]);
const T32s2 = tile([32, 32, 64, 8, 8, 2]);
const T32s4x = tile([32, 32, 32, 8, 8, 4], 2);
const T64s2 = tile([64, 64, 32, 16, 8, 2]);
const T64s4 = tile([64, 64, 32, 8, 8, 4]);
const T16s4 = tile([16, 64, 64, 16, 4, 4]);
const T16s8 = tile([16, 32, 64, 8, 4, 8]);
const Tx16s4 = tile([64, 16, 64, 4, 16, 4]);
const Tx16s8 = tile([32, 16, 64, 4, 8, 8]);

const all = (tiles: readonly Tile[], splits: readonly number[] = [1], more: Partial<Choice> = {}): Choice[] =>
  tiles.flatMap(one => splits.map(parts => ({ tile: one, splits: parts, ...more })));
const square = (n: number, tiles: readonly Tile[]) => product(`${n}`, { m: n, n, k: n }, all(tiles));
const SMALL = [T32, T32s2, T32s4, T32s4x, T64s2, T64s4, T16s4, T16s8, Tx16s4, Tx16s8];

function products(): Case[] {
  if (quick)
    return [
      product('130', { m: 130, n: 132, k: 72 }, all([T128, T64, T32s4, T16s8])),
      product('thin', { m: 64, n: 10, k: 200, turned: 'A' }, all([T32s2, Tx16s8], [1, 2])),
      product('batched', { m: 64, n: 64, k: 64, batch: 3, turned: 'B' }, all([T64s4])),
    ];
  return [
    square(4096, [T128, tile([128, 128, 16, 16, 16], 1, 8), tile([128, 128, 8, 16, 16], 1, 8), T64]),
    square(2048, [T128, T64, T64w1, T128x64]),
    square(1024, [T128, T64, T64w, T64w1, T128x64, T64x128, T64s2]),
    square(512, [T64w, T64w1, ...SMALL]),
    square(256, [T64w, ...SMALL]),
    product('[64,784]·[784,512]', { m: 64, n: 512, k: 784 }, all(SMALL)),
    product('[128,512]·[512,10]', { m: 128, n: 10, k: 512 }, all(SMALL)),
    product('[1,4096]·[4096,4096]', { m: 1, n: 4096, k: 4096 }, all([T16s4, T16s8], [1, 4])),
    product('[784,64]·[64,512]', { m: 784, n: 512, k: 64 }, all([T32, T32s2, T64, T64w])),
    product('[512,8192]·[8192,512]', { m: 512, n: 512, k: 8192, turned: 'A' }, all([T128, T64, T64w], [8, 16])),
    product('96·[512,64]·[64,512]', { m: 512, n: 512, k: 64, batch: 96, turned: 'B' }, all([T128, T64, T64w])),
    product('96·[512,512]·[512,64]', { m: 512, n: 64, k: 512, batch: 96 }, all([T64, T64w, T128x64])),
  ];
}

/** Parts of the terms, so that about so many workgroups are at work. */
const partsFor = (one: Tile, m: number, n: number, groups: number) =>
  Math.max(1, Math.round(groups / (Math.ceil(m / one.m) * Math.ceil(n / one.n))));

function convolutions(): Case[] {
  const forms = (conv: Conv, tiles: readonly Tile[], first = false): Case[] => {
    const taps = conv.c * conv.kernel ** 2;
    const weights = tiles.flatMap(one =>
      [264, 1056].map(groups => ({ tile: one, splits: partsFor(one, conv.o, taps, groups) })),
    );
    const input = conv.stride === 1 && conv.kernel > 1 ? [true, false] : [true];
    return [
      convolution('forward', conv, all(tiles)),
      ...(first
        ? []
        : [
            convolution(
              'input',
              conv,
              input.flatMap(copy => all(tiles, [1], { copy })),
            ),
          ]),
      convolution('weight', conv, weights),
    ];
  };
  const large = [T128, T64, T64w];
  if (quick)
    return [
      ...forms({ n: 2, c: 8, size: 8, o: 16, kernel: 3, stride: 1 }, [T64]),
      ...forms({ n: 2, c: 3, size: 9, o: 16, kernel: 7, stride: 2 }, [T32]),
    ];
  // ResNet-18: pairs of input, output, size and stride of its stages.
  const stages = (n: number, size: number): [Conv, Conv, Conv][] =>
    [64, 128, 256].map((channels, i) => {
      const at = { n, c: channels, size: size >> i };
      const same = { ...at, o: channels, kernel: 3, stride: 1 };
      return [same, { ...same, o: 2 * channels, stride: 2 }, { ...same, o: 2 * channels, kernel: 1, stride: 2 }];
    });
  const last = (n: number, size: number): Conv => ({ n, c: 512, size, o: 512, kernel: 3, stride: 1 });
  const network = (n: number, size: number) => [
    ...stages(n, size).flatMap(([same, down]) => [...forms(same, large), ...forms(down, [T64, T64w])]),
    ...forms(last(n, size >> 3), large),
  ];
  return [
    ...network(128, 32),
    ...network(32, 56),
    ...forms({ n: 128, c: 3, size: 32, o: 64, kernel: 3, stride: 1 }, [T64, T64w], true),
    ...forms({ n: 32, c: 3, size: 224, o: 64, kernel: 7, stride: 2 }, [T64, T64w], true),
    ...stages(128, 32).flatMap(([, , point]) => forms(point, [T64, T64w])),
    ...forms({ n: 32, c: 256, size: 14, o: 64, kernel: 1, stride: 1 }, [T64]),
  ];
}

const done = (y: Operand) => commands.read(memoryOf(y), 0, 4, false);

/** Milliseconds of a run: of the card if it has a clock, and of all. */
async function timeOf(run: () => void, y: Operand): Promise<{ card: number; whole: number }> {
  const time = async (count: number) => {
    clock?.start();
    const start = performance.now();
    for (let i = 0; i < count; i++) run();
    await done(y);
    const whole = (performance.now() - start) / count;
    const passes = (await clock?.stop())?.passes ?? [];
    return { whole, card: passes.length > 0 ? passes.reduce((sum, { ms }) => sum + ms, 0) / count : whole };
  };
  let count = 1;
  let spent = await time(1);
  while (spent.whole * count < WARM && count < 400) {
    count = Math.min(4 * count, 400);
    spent = await time(count);
  }
  return time(Math.max(1, Math.min(1000, Math.ceil(SAMPLE / spent.card))));
}

/** Compares some results with plain loops; what is wrong. */
async function check({ result, expected }: Opened): Promise<string> {
  const size = result.shape.reduce((a, b) => a * b, 1);
  const count = quick ? 60 : 8;
  const places = Array.from({ length: count }, (_, i) => (Math.floor((i * size) / count) + ((i * 37) % 11)) % size);
  const read = await Promise.all(places.map(at => commands.read(memoryOf(result), 4 * at, 4, false)));
  for (const [i, at] of places.entries()) {
    const { value, size: sum } = expected(at);
    const [found] = new Float32Array(read[i]!);
    if (!(Math.abs(found! - value) <= 1e-5 * (sum + 1e-3))) return `WRONG: result ${at} is ${found}, expected ${value}`;
  }
  return '';
}

/** What the card does at most: products and sums in registers alone. */
const PEAK = `struct P { count: u32 } @group(0) @binding(0) var<uniform> p : P;
@group(0) @binding(1) var<storage, read_write> Y : array<vec4<f32>>;
@compute @workgroup_size(256) fn main(@builtin(global_invocation_id) id : vec3<u32>) {
  var a = vec4<f32>(f32(id.x)) * 1e-3; let b = vec4<f32>(0.999); let d = a * 0.5;
  ${Array.from({ length: 8 }, (_, q) => `var s${q} = a + ${q}.0;`).join(' ')}
  for (var i = 0u; i < p.count; i++) {
    ${Array.from({ length: 8 }, (_, q) => `s${q} = fma(s${q}, b, d); `.repeat(4)).join('')}
  }
  Y[id.x] = s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7;
}`;
{
  const kernel = commands.kernel(PEAK, 'u', 'peak');
  const groups = quick ? 1 : 132 * 64;
  const y = temporary(c, 'float32', [groups * 256 * 4]);
  const count = quick ? 1 : 256;
  const { card } = await timeOf(() => commands.dispatch(kernel, [memoryOf(y)], [count], [groups]), y);
  console.log(`registers alone: ${((groups * 256 * count * 32 * 4 * 2) / card / 1e6).toFixed(0)} GFLOP/s`);
}

const left: string[] = [];
const best: string[] = [];
for (const { name, operations, choices, open } of [
  ...(only === 'conv' ? [] : products()),
  ...(only === 'products' ? [] : convolutions()),
]) {
  if (isLate()) {
    left.push(name);
    continue;
  }
  const opened = open(c);
  const { result, run } = opened;
  const figures: { rate: number; what: string }[] = [];
  const candidates: (Choice | undefined)[] = [...choices.filter(choice => bytesOf(choice.tile) <= room), undefined];
  for (const choice of candidates) {
    if (isLate()) break;
    const what =
      choice === undefined
        ? 'as chosen'
        : `${nameOf(choice.tile)} / ${choice.splits}${choice.copy === undefined ? '' : choice.copy ? ' copy' : ' table'}`;
    const start = performance.now();
    run(choice);
    await done(result);
    const first = performance.now() - start;
    const wrong = await check(opened);
    const { card, whole } = await timeOf(() => run(choice), result);
    const rate = operations / card / 1e6;
    figures.push({ rate, what });
    console.log(
      `${name.padEnd(30)} ${what.padEnd(32)} ${rate.toFixed(0).padStart(7)} GFLOP/s ${(1000 * card).toFixed(1).padStart(9)} µs ` +
        `(${(1000 * whole).toFixed(1)})   first ${first.toFixed(0)} ms ${wrong}`,
    );
  }
  const top = figures.reduce((x, z) => (z.rate > x.rate ? z : x), { rate: 0, what: 'none' });
  best.push(
    `${name.padEnd(30)} ${top.what.padEnd(32)} ${top.rate.toFixed(0).padStart(7)}, ${figures.at(-1)?.what} ${figures.at(-1)?.rate.toFixed(0)}`,
  );
  for (const { storage } of opened.all) if ('release' in storage.memory) storage.memory.release();
}
console.log(`\nthe best of each, and what is chosen\n${best.join('\n')}`);
if (left.length > 0) console.log(`left out for time: ${left.join('; ')}`);
console.log(`${((performance.now() - began) / 1000).toFixed(1)} s, ${commands.stats.kernels} kernels`);
device.destroy();
