/** Random graphs: what backward and grad give against a walk that frees nothing. `npm run bench bench/fuzz/graphs.ts 20000 [seed]` */

import { checkGraph } from '../../test/suites/graphs.ts';

const [count = 20_000, first = 0] = process.argv.slice(2).map(Number);
let deviations = 0;
for (let seed = first; seed < first + count; seed++) {
  let wrong: string | null;
  try {
    wrong = checkGraph(seed, seed % 2 === 0 ? 'cpu' : 'reference', 3 + (seed % 14));
  } catch (error) {
    wrong = `seed ${seed}: ${error instanceof Error ? error.stack : error}`;
  }
  if (wrong === null) continue;
  deviations++;
  console.log(wrong);
}
console.log(`graphs: seeds ${first} to ${first + count - 1}: ${count} tried, ${deviations} deviations`);
process.exitCode = deviations === 0 ? 0 : 1;
