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
import { seedsOf, trySeeds } from './seeds.ts';

const { count, first } = seedsOf(10_000);
const { devices, missing } = await allDevices();
console.log(
  `devices: ${devices.map(({ name }) => name).join(', ')}${missing.length > 0 ? `; not here: ${missing}` : ''}`,
);

const counts = { statements: 0, gradients: 0, refused: 0, differences: 0 };
const deviations = await trySeeds({ count, first }, seed => {
  // One in four is differentiated as a whole.
  const program = seed % 4 === 3 ? new Chain(seed, devices, counts) : new Lockstep(seed, devices, counts);
  const wrong = program.run(3 + (seed % 9));
  if (count === 1) console.log(program.log.join('\n'));
  return wrong;
});
console.log(
  `programs: seeds ${first} to ${first + count - 1}, ${counts.statements} statements, ${counts.gradients} of them differentiated ` +
    `twice, ${counts.differences} programs against differences, ${counts.refused} refusals everywhere alike: ` +
    `${count} tried, ${deviations} deviations`,
);
process.exit(deviations === 0 ? 0 : 1);
