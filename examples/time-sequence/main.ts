/**
 * Sine waves go on: two LSTM cells read waves step by step, learn the next value by L-BFGS in float64, and then run on from what they say
 * themselves. PyTorch's time_sequence_prediction, small. Ends on the error of that, and on exit code 1 if it misses the target.
 *
 *   npm run example time-sequence                  npm run example time-sequence -- --help
 */

import { Generator, linspace, nextTask, noGrad, rand, stack, type Tensor } from '@otimes/core';
import { Linear, LSTMCell, type LSTMState, Module, mseLoss } from '@otimes/nn';
import { LBFGS } from '@otimes/optim';
import { bold, clock, command, dim, say } from '../shared/command.ts';

/** Waves to learn from and to be tested on, values of each, and how many more are foretold. */
const [TRAIN, TEST, LENGTH, FUTURE] = [24, 3, 80, 80];
/** Values of a period. */
const PERIOD = 20;
const HIDDEN = 24;

/** Values [B, T] → the value after each, [B, T + future]; behind the end the model reads what it said. */
class Sequence extends Module<[x: Tensor, future?: number]> {
  first: LSTMCell;
  second: LSTMCell;
  out: Linear;

  constructor(rng: Generator) {
    super();
    const o = { dtype: 'float64', rng } as const;
    this.first = new LSTMCell(1, HIDDEN, o);
    this.second = new LSTMCell(HIDDEN, HIDDEN, o);
    this.out = new Linear(HIDDEN, 1, o);
  }

  override forward(x: Tensor, future = 0): Tensor {
    let [one, two]: (LSTMState | null)[] = [null, null];
    const said: Tensor[] = [];
    for (let t = 0; t < x.shape[1]! + future; t++) {
      const value = t < x.shape[1]! ? x.narrow(1, t, 1) : said[t - 1]!;
      one = this.first.call(value, one);
      two = this.second.call(one[0], two);
      said.push(this.out.call(two[0]));
    }
    return stack(said, 1).squeeze(2);
  }
}

await command(
  {
    name: 'time-sequence',
    about: 'Two LSTM cells learn sine waves by L-BFGS in float64, and foretell how others go on.',
    optimizers: { LBFGS: 0.8 },
    settings: {
      steps: { value: 10, about: 'of the optimizer, each with 20 iterations', least: 1 },
      target: { value: 0.01, about: 'mean squared error of the foretold values', fraction: true },
    },
  },
  async ({ lr, seed, steps, target }) => {
    const rng = new Generator(seed);
    const waves = sineWaves(TRAIN + TEST, LENGTH + FUTURE + 1, rng);
    const learn = waves.slice([0, TRAIN], [0, LENGTH + 1]);
    const begun = waves.slice([TRAIN, TRAIN + TEST], [0, LENGTH]);
    const wanted = waves.slice([TRAIN, TRAIN + TEST], [LENGTH + 1, LENGTH + FUTURE + 1]);
    const [x, y] = [learn.slice(null, [0, LENGTH]), learn.slice(null, [1, LENGTH + 1])];
    const model = new Sequence(rng);
    const optimizer = new LBFGS(model.parameters(), { lr, lineSearch: 'strongWolfe' });
    say(
      `${bold(`${TRAIN} sine waves`)} of ${LENGTH} values to learn from, ${FUTURE} values of ${TEST} others to foretell.`,
    );
    say(`L-BFGS with lr ${lr}, ${steps} steps of 20 iterations.\n`);

    const passed = clock();
    let error = Infinity;
    let foretold = wanted;
    for (let step = 1; step <= steps; step++) {
      const loss = await optimizer.step(() => {
        optimizer.zeroGrad();
        const loss = mseLoss(model.call(x), y);
        loss.backward();
        return loss;
      });
      foretold = noGrad(() => model.call(begun, FUTURE).slice(null, [LENGTH, LENGTH + FUTURE]));
      error = mseLoss(foretold, wanted).item();
      const row = `step ${String(step).padStart(2)}   loss ${loss.toExponential(2)}`;
      say(`${row}   error of what it foretells ${error.toExponential(2)}   ${dim(passed())}`);
      await nextTask();
    }

    say(`\nHow the first of the others goes on, and what the model foretells:\n`);
    for (const waves of [wanted, foretold]) say(`  ${drawn(waves.slice(0).dataSync())}`);
    return { reached: `a mean squared error of ${error.toExponential(1)}, target ${target}`, ok: error <= target };
  },
);

/** Waves of one period and random phases, float64 [count, length]. */
function sineWaves(count: number, length: number, rng: Generator): Tensor {
  const time = linspace(0, length - 1, length, { dtype: 'float64' });
  const phase = rand([count, 1], { dtype: 'float64', rng }).mul(PERIOD);
  return time
    .add(phase)
    .mul((2 * Math.PI) / PERIOD)
    .sin();
}

/** Values of −1 … 1 as a line of bars. */
function drawn(values: ArrayLike<number>): string {
  const bars = '▁▂▃▄▅▆▇█';
  return Array.from(values, value => bars[Math.min(7, Math.max(0, Math.round((value + 1) * 3.5)))]).join('');
}
