/**
 * Does Muon need fewer epochs than SGD with momentum? Handwritten digits, the network and the target of the demo: the same
 * initial weights and batches, one grid of learning rates, all seeds for each. Exit code 1 if it does not.
 *
 *   npm run bench bench/questions/muon.ts
 *   npm run bench bench/questions/muon.ts -- --seeds 3 --lrs 0.03,0.1 --epochs 8
 */

import { parseArgs } from 'node:util';
import { Muon, SGD } from '@otimes/optim';
import { type Make, reached, run } from '../epochs/run.ts';
import { TASKS } from '../epochs/tasks.ts';

const { values } = parseArgs({
  options: {
    lrs: { type: 'string', default: '0.003,0.01,0.03,0.1,0.3' },
    seeds: { type: 'string', default: '5' },
    /** A run is a miss after so many. */
    epochs: { type: 'string', default: '12' },
    target: { type: 'string' },
  },
});
const task = TASKS['digits-cnn']!('');
const [lrs, epochs] = [values.lrs.split(',').map(Number), Number(values.epochs)];
const target = Number(values.target ?? task.target);
const seeds = Array.from({ length: Number(values.seeds) }, (_, seed) => seed);

const sgd = (momentum: number) => (lr: number) =>
  (model => new SGD(model.parameters(), { lr, momentum, nesterov: true })) as Make;
const CONTENDERS: Readonly<Record<string, (lr: number) => Make>> = {
  'SGD, momentum .9': sgd(0.9),
  'SGD, momentum .95': sgd(0.95),
  Muon: lr => model => new Muon(model, { lr }),
  'Muon, head to AdamW': lr => model => new Muon(model, { lr, overrides: { '7': { skip: true } } }),
};

/** The middle one; of misses, Infinity. */
const median = (xs: readonly number[]): number => [...xs].sort((a, b) => a - b)[Math.floor(xs.length / 2)]!;
const show = (x: number) => (x === Infinity ? `>${epochs}` : x.toFixed(2));

console.log(`digits CNN to ${target}: epochs, the median of ${seeds.length} seeds (each)`);
const best = Object.entries(CONTENDERS).map(([name, make]) => {
  const medians = lrs.map(lr => {
    const found = seeds.map(seed => reached(run(task, make(lr), { seed, epochs, target }), target)?.epoch ?? Infinity);
    console.log(
      `  ${name.padEnd(20)} lr ${String(lr).padEnd(6)} ${show(median(found)).padStart(6)}  (${found.map(show).join(' ')})`,
    );
    return median(found);
  });
  return { name, epochs: Math.min(...medians) };
});
console.log('the best of each:');
for (const { name, epochs } of best) console.log(`  ${name.padEnd(20)} ${show(epochs)}`);
const least = (start: string) => Math.min(...best.filter(({ name }) => name.startsWith(start)).map(one => one.epochs));
process.exitCode = least('Muon') < least('SGD') ? 0 : 1;
