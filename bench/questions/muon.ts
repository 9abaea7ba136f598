/**
 * Does Muon need fewer epochs than SGD with momentum? Handwritten digits, the network and the target of the demo: the same
 * initial weights and batches, one grid of learning rates, and the median of the same seeds. A setting is given up at half as many
 * epochs again as the best so far of its optimizer, and when most seeds have missed that. Exit code 1 if Muon does not.
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
    // From the middle outwards: what comes late is given up early.
    lrs: { type: 'string', default: '0.03,0.1,0.01,0.3,0.003' },
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
const show = (x: number, limit = epochs) => (x === Infinity ? `>${limit}` : x.toFixed(2));

console.log(`digits CNN to ${target}: epochs, the median of ${seeds.length} seeds (each)`);
const best = Object.entries(CONTENDERS).map(([name, make]) => {
  let least = Infinity;
  for (const lr of lrs) {
    const limit = Math.min(epochs, Math.ceil(1.5 * least));
    const found: number[] = [];
    for (const seed of seeds) {
      if (found.filter(one => one === Infinity).length > seeds.length / 2) break;
      found.push(reached(run(task, make(lr), { seed, epochs: limit, target }), target)?.epoch ?? Infinity);
    }
    const middle = median(found);
    least = Math.min(least, middle);
    const each = found.map(one => show(one, limit)).join(' ');
    console.log(`  ${name.padEnd(20)} lr ${String(lr).padEnd(6)} ${show(middle, limit).padStart(6)}  (${each})`);
  }
  return { name, epochs: least };
});
console.log('the best of each:');
for (const { name, epochs } of best) console.log(`  ${name.padEnd(20)} ${show(epochs)}`);
const least = (start: string) => Math.min(...best.filter(({ name }) => name.startsWith(start)).map(one => one.epochs));
process.exitCode = least('Muon') < least('SGD') ? 0 : 1;
