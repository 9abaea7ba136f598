/**
 * What `mixed` makes of products: GFLOP/s (2·M·N·K operations) of the tiles of matrix units for every way in which operands lie, beside
 * float32, and how far results are from exact sums of the rounded operands, in units of the size of a result. The table of
 * `gpu/src/matrix-plan.ts` was chosen by it.
 *
 *   npm run bench bench/gpu/mixed.ts                  within a minute on a graphics card
 *   npm run bench bench/gpu/mixed.ts -- --quick       small shapes: whether the program runs
 */

import { parseArgs } from 'node:util';
import type { Operand } from '@otimes/core';
import { contiguousStrides, transposed } from '@otimes/core/extend';
import { openDevice } from '../../gpu/src/adapter.ts';
import { Commands } from '../../gpu/src/commands.ts';
import { memoryOf, newContext, operandOver, temporary } from '../../gpu/src/context.ts';
import { halfOf } from '../../gpu/src/half.ts';
import { TILES } from '../../gpu/src/matrix-plan.ts';
import { store } from '../../gpu/src/memory.ts';
import { multiply } from '../../gpu/src/product.ts';
import { planWith } from '../../gpu/src/product-plan.ts';

const { values: options } = parseArgs({
  options: { quick: { type: 'boolean', default: false }, seconds: { type: 'string', default: '60' } },
});
const { quick } = options;
const until = performance.now() + 1000 * Number(options.seconds);

const { device, info, unit } = await openDevice({ mixed: true });
const commands = new Commands(device, Infinity);
const c = newContext(commands, 16e9, { mixed: () => true, unit });
console.log(`${info.name}, ${info.vendor}: ${info.mixed} ${unit === null ? '' : JSON.stringify(unit)}`);

let seed = 1;
const random = (size: number) =>
  Float32Array.from({ length: size }, () => {
    seed = (Math.imul(seed, 1664525) + 1013904223) | 0;
    // Numbers that f16 has.
    return (seed >> 21) / 1024;
  });
const operand = (data: Float32Array, shape: number[]): Operand =>
  operandOver(store(c, data), { dtype: 'float32', offset: 0, shape, strides: contiguousStrides(shape) });
const done = (y: Operand) => commands.read(memoryOf(y), 0, 4, false);

async function milliseconds(run: () => void, y: Operand): Promise<number> {
  const time = async (count: number) => {
    const from = performance.now();
    for (let i = 0; i < count; i++) run();
    await done(y);
    return (performance.now() - from) / count;
  };
  await time(1);
  if (quick) return time(1);
  const first = await time(3);
  return time(Math.max(3, Math.min(400, Math.ceil(60 / first))));
}

type Case = { m: number; n: number; k: number };
const shapes: Case[] = quick
  ? [{ m: 40, n: 24, k: 64 }]
  : [
      ...[4096, 2048, 1024, 512].map(n => ({ m: n, n, k: n })),
      { m: 8192, n: 3072, k: 768 },
      { m: 768, n: 3072, k: 8192 },
      { m: 512, n: 512, k: 8192 },
      { m: 500, n: 500, k: 501 },
    ];
for (const { m, n, k } of shapes)
  for (const [left, right] of [
    [false, false],
    [true, false],
    [false, true],
    [true, true],
  ]) {
    if (performance.now() > until) {
      console.log('no time for more');
      break;
    }
    const [a, b] = [random(m * k), random(k * n)];
    const A = left ? transposed(operand(a, [k, m])) : operand(a, [m, k]);
    const B = right ? transposed(operand(b, [n, k])) : operand(b, [k, n]);
    const y = temporary(c, 'float32', [m, n]);
    const report = async (what: string, run: () => void) => {
      const ms = await milliseconds(run, y);
      const bytes = await commands.read(memoryOf(y), 0, 4 * m * n, false);
      const found = new Float32Array(bytes);
      let [most, sum] = [0, 0];
      for (let s = 0; s < 100; s++) {
        const at = Math.floor((s * (m * n - 1)) / 99);
        const [i, j] = [Math.floor(at / n), at % n];
        let exact = 0;
        for (let t = 0; t < k; t++) exact += a[left ? t * m + i : i * k + t]! * b[right ? j * k + t : t * n + j]!;
        most = Math.max(most, Math.abs(found[at]! - exact));
        sum += exact ** 2 / 100;
      }
      const error = most / Math.sqrt(sum);
      console.log(
        `${m}x${n}x${k} ${left ? 'A^T' : 'A'} ${right ? 'B^T' : 'B'} ${what.padEnd(26)} ` +
          `${((2 * m * n * k) / ms / 1e6).toFixed(0).padStart(7)} GFLOP/s, error ${error.toExponential(1)}${error < 1e-5 ? '' : ' LOSES BITS'}`,
      );
    };
    try {
      await report('float32', () => multiply(c, A, B, y));
      await report('mixed, as chosen', () => multiply(c, A, B, y, { mixed: true }));
      if (unit !== null)
        for (const { tile } of TILES)
          await report(`${tile.m}x${tile.n}x${tile.k} ${tile.x}x${tile.y}`, () =>
            multiply(c, A, B, y, { mixed: true, plan: planWith(tile, k, 1) }),
          );
      await report('operands rounded each time', () => {
        memoryOf(A).writes++;
        memoryOf(B).writes++;
        halfOf(c, A);
        halfOf(c, B);
        multiply(c, A, B, y, { mixed: true });
      });
    } catch (error) {
      console.log(`  failed: ${String(error).slice(0, 1000)}`);
    }
    for (const x of [A, B, y]) if ('release' in x.storage.memory) x.storage.memory.release();
  }
device.destroy();
