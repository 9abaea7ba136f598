/** What a step costs, on a clock that is made up: what is counted, when, and for whom. */

import assert from 'node:assert/strict';
import type { Contender, Experiment, Trainer } from 'otimes-experiments';
import t from 'tap';
import { stepTimes, type TimingLimits } from '../experiments/src/runner/timing.ts';
import type { Finalist } from '../experiments/src/search/settings.ts';
import { law } from './helpers/law.ts';
import { CONTENDERS, TASKS, TINY } from './helpers/tiny-experiments.ts';

const task = await TASKS[0]!.open({ data: null, device: 'cpu', workers: 0, options: {} });
const [sgd] = CONTENDERS as [Contender];
const PERIOD = 5;

/** A step of a contender, in the order in which they happen; `own` counts those of the contender. */
type Happened = { readonly name: string; readonly own: number; readonly lr: number };

/** A clock that moves only in steps, by what each costs, and contenders that train on it. */
function world(costs: Readonly<Record<string, (own: number, seconds: number) => number>>, family = sgd.family) {
  let seconds = 0;
  const steps: Happened[] = [];
  const counts = new Map<string, number>();
  const contenders = new Map(
    Object.entries(costs).map(([name, cost]): [string, Contender] => [
      name,
      {
        ...{ ...sgd, name, family },
        make(...args): Trainer {
          const inner = sgd.make(args[0], { lr: Number(args[1].lr) }, args[2]);
          return Object.defineProperties({ ...inner } as Trainer, {
            lr: { get: () => inner.lr, set: lr => (inner.lr = lr) },
            step: {
              value(closure: Parameters<Trainer['step']>[0]) {
                const own = counts.get(name) ?? 0;
                counts.set(name, own + 1);
                steps.push({ name, own, lr: inner.lr });
                seconds += cost(own, seconds);
                return inner.step(closure);
              },
            },
          });
        },
      },
    ]),
  );
  const finalist = (contender: string, o: Partial<Finalist> = {}): Finalist => ({
    ...{ contender, setting: { lr: 0.01 }, schedule: 'constant', ...o },
  });
  const measure = (finalists: readonly Finalist[], limits: TimingLimits = {}, experiment: Experiment = TINY) =>
    stepTimes({
      ...{ experiment, task, finalists, period: PERIOD, device: 'cpu', limits, now: () => seconds },
      contenderOf: name => contenders.get(name)!,
    });
  return { steps, counts, finalist, measure };
}
const near = (a: number, b: number, tolerance = 1e-5) =>
  assert.ok(Math.abs(a - b) <= tolerance * Math.abs(b), `${a}, expected ${b}`);

law(t, 'no cold step is in a round: after 300 steps and a second each round has what a warm step costs', async () => {
  const { finalist, measure } = world({
    quick: own => (own < 299 ? 0.015 : 0.004),
    slow: own => (own < 299 ? 0.015 : 0.01),
    tiny: own => (own < 900 ? 1e-3 : 5e-4),
  });
  const { contenders, warmSteps } = await measure([finalist('quick'), finalist('slow'), finalist('tiny')]);
  for (const [i, cost] of [0.004, 0.01, 5e-4].entries()) {
    near(contenders[i]!.median, cost);
    for (const seconds of contenders[i]!.perRound!) near(seconds, cost);
  }
  assert.equal(warmSteps, 300);
});

law(t, 'where steps are long, 5 s are enough to be warm, and three rounds to be measured', async () => {
  const { finalist, measure } = world({ long: () => 0.5 });
  const { rounds, stepsPerRound, warmSteps } = await measure([finalist('long')], { seconds: 4 });
  assert.deepEqual([stepsPerRound, rounds, warmSteps], [PERIOD, 3, 10]);
});

law(t, 'a round is a multiple of the period in which the quickest has at least 20 ms, for all the same', async () => {
  const { finalist, measure } = world({ quick: () => 9e-4, slow: () => 4e-3 });
  const { stepsPerRound, rounds, contenders } = await measure([finalist('quick'), finalist('slow')]);
  assert.equal(stepsPerRound, 5 * PERIOD, '4 periods are 18 ms');
  for (const { perRound } of contenders) assert.equal(perRound!.length, rounds);
});

law(
  t,
  'finalists that differ in schedule or rate have one time, those of other settings times of their own',
  async () => {
    const { finalist, measure, counts } = world({ one: own => 0.004 + 1e-6 * (own % 7), other: () => 0.003 });
    const finalists = [
      finalist('one'),
      finalist('one', { schedule: 'cosine', setting: { lr: 0.02 } }),
      finalist('other', { setting: { lr: 0.01, historySize: 10 } }),
      finalist('other', { setting: { historySize: 30, lr: 0.01 } }),
    ];
    const { contenders } = await measure(finalists);
    assert.deepEqual(
      contenders.map(({ contender, schedule }) => [contender, schedule]),
      finalists.map(({ contender, schedule }) => [contender, schedule]),
    );
    const numbers = contenders.map(({ contender: _c, schedule: _s, ...rest }) => rest);
    assert.deepEqual(numbers[0], numbers[1]);
    assert.ok(counts.get('other')! > 1.5 * counts.get('one')!, 'two settings of the other are two rows');
    // One that searches along a line has other numbers of evaluations at other rates.
    const line = world({ one: () => 0.004 }, 'quasi-newton');
    await line.measure([line.finalist('one'), line.finalist('one', { setting: { lr: 1 } })], { rounds: 3 });
    await line.measure([line.finalist('one'), line.finalist('one', { schedule: 'cosine' })], { rounds: 3 });
    const pairs = line.steps.length / (300 + 3 * PERIOD);
    assert.equal(pairs, 3, 'two rows at two rates, one at one rate');
  },
);

law(
  t,
  'what slows the machine for a while, or more and more, slows all alike: the ratio is that of the steps',
  async () => {
    for (const load of [
      (seconds: number) => (Math.floor(seconds / 0.7) % 3 === 0 ? 4 : 1),
      (seconds: number) => 1 + seconds / 5,
      (seconds: number) => 1 + Math.sin(seconds),
    ]) {
      const { finalist, measure } = world({
        a: (_, seconds) => 0.002 * load(seconds),
        b: (_, seconds) => 0.006 * load(seconds),
      });
      const { contenders } = await measure([finalist('a'), finalist('b')]);
      near(contenders[1]!.median / contenders[0]!.median, 3, 0.12);
    }
  },
);

law(t, 'steps are those of real runs: no rate that the schedule does not have within the budget', async () => {
  const { finalist, measure, steps } = world({ one: () => 0.01 });
  await measure([finalist('one', { schedule: 'linear' })], { rounds: 3 });
  // 60 steps in a run.
  for (const [i, { lr }] of steps.entries()) near(lr, 0.01 * (1 - (i % 60) / 60));
  assert.ok(steps.length > 300);
});

law(t, 'a shortened run measures three rounds of a period, cold as they are', async () => {
  const { finalist, measure, steps } = world({ one: () => 1e-4 });
  const limits = { warmSteps: 0, warmSeconds: 0, roundSeconds: 0, rounds: 3, seconds: 0 };
  const { rounds, stepsPerRound, warmSteps } = await measure([finalist('one')], limits);
  assert.deepEqual([rounds, stepsPerRound, warmSteps, steps.length], [3, PERIOD, PERIOD, 4 * PERIOD]);
});
