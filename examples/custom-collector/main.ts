/**
 * A collector of one's own: STEVE finds the multiplication table of the quaternions in noisy products, with a bilinear
 * layer that the library does not know. Ends on the table, and on exit code 1 if an entry is wrong.
 *
 *   npm run demo:collector
 */

import { Generator, noGrad, randn, type Tensor, tensor } from '@otimes/core';
import { mseLoss } from '@otimes/nn';
import { cosineLr, defaultCollectors, Schedule, STEVE } from '@otimes/optim';
import { Bilinear, bilinearCollector, products } from './bilinear.ts';

const STEPS = 200;
const BATCH = 64;
const UNITS = ['1', 'i', 'j', 'k'];
/** What the unit of the row times that of the column is. */
const TABLE = ['1 i j k', 'i -1 k -j', 'j -k -1 i', 'k j -i -1'].map(row => row.split(' '));
/** Mixes four independent numbers into the components of a quaternion. */
const MIX = tensor([
  [2, 1, 0, 0],
  [0, 1, 1, 0],
  [0, 0, 0.5, 0.5],
  [0, 0, 0, 0.25],
]);

process.exitCode = main();

function main(): number {
  const rng = new Generator(0);
  const model = new Bilinear(4, 4, { rng });
  const optimizer = new STEVE(model, { lr: 0.3, collectors: [bilinearCollector, ...defaultCollectors] });
  const schedule = new Schedule(optimizer, cosineLr({ tMax: STEPS }));
  const [row] = optimizer.describe();
  console.log(`${row!.collector}: a block of ${row!.shape.join(' × ')}, trained by STEVE\n`);

  const truth = weightOf(TABLE);
  for (let step = 1; step <= STEPS; step++) {
    const { x, y } = measured(truth, rng);
    optimizer.zeroGrad();
    const loss = mseLoss(model.call(x), y);
    loss.backward();
    optimizer.step();
    schedule.step();
    if (step === 1 || step % 50 === 0) console.log(`step ${String(step).padStart(3)}   loss ${loss.item().toFixed(4)}`);
  }

  const found = tableOf(model.weight);
  const error = noGrad(() => model.weight.sub(truth).abs().max().item());
  console.log(`\nThe table that it found, largest error of a coefficient ${error.toFixed(3)}:\n`);
  for (const line of [UNITS, ...found]) console.log(line.map(entry => entry.padStart(4)).join(''));
  const wrong = found.flat().filter((entry, i) => entry !== TABLE.flat()[i]).length;
  if (wrong > 0) process.stderr.write(`\ncustom-collector: ${wrong} of 16 entries are wrong\n`);
  return wrong > 0 ? 1 : 0;
}

/** Pairs of quaternions whose components are correlated and of unequal size, and their products with noise of size 0.1. */
function measured(truth: Tensor, rng: Generator): { x: Tensor; y: Tensor } {
  const x = randn([BATCH, 2, 4], { rng }).matmul(MIX);
  const noise = randn([BATCH, 4], { rng }).mul(0.1);
  return { x, y: products(x).matmul(truth.transpose()).add(noise) };
}

/** The weight [4, 16] of the layer that multiplies by this table. */
function weightOf(table: readonly (readonly string[])[]): Tensor {
  const entries = table.flat();
  return tensor(UNITS.map(unit => entries.map(entry => (entry === unit ? 1 : entry === `-${unit}` ? -1 : 0))));
}

/** The table that a weight stands for, coefficients rounded; '?' where that is no unit. */
function tableOf(weight: Tensor): string[][] {
  const rows = weight.transpose().toArray() as number[][];
  const entries = rows.map(row => {
    const rounded = row.map(Math.round);
    const unit = rounded.findIndex(c => c !== 0);
    if (unit < 0 || rounded.reduce((sum, c) => sum + Math.abs(c), 0) !== 1) return '?';
    return `${rounded[unit]! < 0 ? '-' : ''}${UNITS[unit]}`;
  });
  return UNITS.map((_, p) => entries.slice(4 * p, 4 * p + 4));
}
