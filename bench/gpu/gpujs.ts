/**
 * The product of @otimes/gpu beside the one that gpu.js generates, on the same device, from the same memory: [n, n] · [n, n] in float32.
 * Medians of interleaved rounds, by the clock of the host from a submit to its end; both are compared with each other.
 *
 *   npm run bench bench/gpu/gpujs.ts [-- n]      n is 512 by default
 */

import assert from 'node:assert/strict';
import { sizeOf } from '@otimes/core/extend';
import { openDevice } from '../../gpu/src/adapter.ts';
import { Commands } from '../../gpu/src/commands.ts';
import { memoryOf, newContext, temporary } from '../../gpu/src/context.ts';
import { translate } from '../../gpu/src/gpujs.ts';
import { matmul } from '../../gpu/src/product.ts';
import { median } from './parts/measure.ts';

const n = Number(process.argv[2] ?? 512);
if (!Number.isInteger(n) || n < 8 || n % 8 !== 0) throw new Error(`bench: expected n, a multiple of 8, got ${n}`);
const ROUNDS = 7;

const { device, info } = await openDevice({});
const commands = new Commands(device, Infinity);
const c = newContext(commands, 4e9);
const [a, b, mine, theirs] = [0, 1, 2, 3].map(() => temporary(c, 'float32', [n, n])) as [
  ReturnType<typeof temporary>,
  ReturnType<typeof temporary>,
  ReturnType<typeof temporary>,
  ReturnType<typeof temporary>,
];
for (const [seed, x] of [a, b].entries())
  commands.write(
    memoryOf(x),
    Float32Array.from({ length: n * n }, (_, i) => Math.sin((seed + 1) * 12.9898 * i)),
  );

// As gpu.js's documentation has it, over arrays that lie without gaps.
const source = `function(a, b) {
  let sum = 0;
  for (let i = 0; i < ${n}; i++) { sum += a[this.thread.y * ${n} + i] * b[i * ${n} + this.thread.x]; }
  return sum;
}`;
const { code, workgroup } = translate(source, 2, { arrays: ['a', 'b'], numbers: [], steps: [] }, []);
const kernel = commands.kernel(code, 'u'.repeat(12), 'gpu.js');
const groups = [n / workgroup[0]!, n / workgroup[1]!];
// outputX, outputY, outputZ and one unused; the sizes of both arrays, which an index of one number does not use.
const constants = [n, n, 1, 0, n * n, 1, 1, 0, n * n, 1, 1, 0];

const runs = {
  otimes: () => matmul(c, a, b, mine),
  'gpu.js': () => commands.dispatch(kernel, [a, b, theirs].map(memoryOf), constants, groups),
};
const times: Record<string, number[]> = { otimes: [], 'gpu.js': [] };
const read = async (x: typeof a) =>
  new Float32Array(await commands.read(memoryOf(x), 4 * x.offset, 4 * sizeOf(x.shape), false));
for (let round = 0; round <= ROUNDS; round++)
  for (const [name, run] of Object.entries(runs)) {
    const begun = performance.now();
    run();
    commands.submit();
    await device.queue.onSubmittedWorkDone();
    if (round > 0) times[name]!.push(performance.now() - begun);
  }
const [x, y] = [await read(mine), await read(theirs)];
let apart = 0;
for (let i = 0; i < x.length; i++) apart = Math.max(apart, Math.abs(x[i]! - y[i]!));
assert.ok(apart < 1e-3 * Math.sqrt(n), `results are ${apart} apart`);
assert.ok(x.filter(value => value !== 0).length > 0.9 * x.length, 'results are zeros');

const [own, other] = [median(times.otimes!), median(times['gpu.js']!)];
console.log(`${info.name}, ${info.vendor}${info.isFallbackAdapter ? ': it computes on the CPU' : ''}`);
console.log(
  `${n}³: otimes ${own.toFixed(2)} ms, gpu.js ${other.toFixed(2)} ms: ${(other / own).toFixed(2)} times; results at most ${apart.toExponential(1)} apart`,
);
