/** Random graphs: what backward and grad give against a walk that frees nothing. `npm run bench bench/fuzz/graphs.ts 20000 [seed]` */

import { checkGraph } from '../../test/suites/graphs.ts';
import { seedsOf, trySeeds } from './seeds.ts';

const { count, first } = seedsOf(20_000);
const deviations = await trySeeds({ count, first }, seed =>
  checkGraph(seed, seed % 2 === 0 ? 'cpu' : 'reference', 3 + (seed % 14)),
);
console.log(`graphs: seeds ${first} to ${first + count - 1}: ${count} tried, ${deviations} deviations`);
process.exitCode = deviations === 0 ? 0 : 1;
