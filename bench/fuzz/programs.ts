/**
 * Random programs over all operations of @otimes/core, on every device and mode that there is here: `agree.ts` says what
 * must be equal, `lockstep.ts` and `chain.ts` what the programs do. The operations are those of `test/suites/ops.ts`.
 *
 *     npm run bench bench/fuzz/programs.ts 100000 [first seed]
 *
 * A deviation prints a line that begins with its seed; with a count of 1 the statements of the program too.
 */

import { Chain } from './chain.ts';
import { allDevices } from './devices.ts';
import { Lockstep } from './lockstep.ts';

const [count = 10_000, first = 0] = process.argv.slice(2).map(Number);
const { devices, missing } = await allDevices();
console.log(
  `devices: ${devices.map(({ name }) => name).join(', ')}${missing.length > 0 ? `; not here: ${missing}` : ''}`,
);

const counts = { statements: 0, gradients: 0, refused: 0, differences: 0 };
let deviations = 0;
let told = performance.now();
for (let seed = first; seed < first + count; seed++) {
  // One in four is differentiated as a whole.
  const program = seed % 4 === 3 ? new Chain(seed, devices, counts) : new Lockstep(seed, devices, counts);
  const wrong = program.run(3 + (seed % 9));
  if (count === 1) console.log(program.log.join('\n'));
  if (wrong !== null) {
    deviations++;
    console.log(`seed ${seed}: ${wrong.replaceAll('\n', ' ')}`);
  }
  if (performance.now() - told > 60_000) {
    told = performance.now();
    console.log(`… ${seed + 1 - first} tried, ${deviations} deviations`);
  }
}
console.log(
  `programs: seeds ${first} to ${first + count - 1}, ${counts.statements} statements, ${counts.gradients} of them differentiated ` +
    `twice, ${counts.differences} programs against differences, ${counts.refused} refusals everywhere alike: ` +
    `${count} tried, ${deviations} deviations`,
);
process.exit(deviations === 0 ? 0 : 1);
