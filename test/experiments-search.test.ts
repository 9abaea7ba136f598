/** What is tried, what is chosen, and when a trial is given up. */

import assert from 'node:assert/strict';
import fc from 'fast-check';
import {
  type Contender,
  type Experiment,
  finalPlan,
  type Space,
  type TrialRecord,
  tuningPlan,
} from 'otimes-experiments';
import t from 'tap';
import { finalistsOf, giveUpAfter, isBetter } from '../experiments/src/runner/choice.ts';
import { checkSteps, isAtTarget } from '../experiments/src/runner/trial.ts';
import { MOST_DIMENSIONS, radicalInverse, unitPoint } from '../experiments/src/search/points.ts';
import { defaultsOf, settingAt, valueAt } from '../experiments/src/search/settings.ts';
import { law, property } from './helpers/law.ts';
import { TINY } from './helpers/tiny-experiments.ts';

const contender = (name: string, space: Space): Contender => ({
  ...{ name, label: name, family: 'first-order', space },
  make() {
    throw new Error('is not made');
  },
});
const LR = { scale: 'log', low: 1e-4, high: 1e-2, default: 1e-3 } as const;
const DAMPING = { scale: 'linear', low: 0, high: 2, default: 1 } as const;
const MOMENTUM = { scale: 'choice', choices: [0, 0.9, 0.99], default: 0.9 } as const;

const experiment = (o: Partial<Experiment>, trials: number, seed = 1000): Experiment => ({
  ...{ ...TINY, ...o },
  tuning: { ...TINY.tuning, trials, seed },
});

const dimensions = fc.oneof(
  fc
    .tuple(fc.double({ min: 1e-6, max: 1, noNaN: true }), fc.double({ min: 1.5, max: 1e4, noNaN: true }))
    .map(([low, factor]) => ({ scale: 'log', low, high: low * factor, default: low }) as const),
  fc
    .tuple(fc.double({ min: -10, max: 10, noNaN: true }), fc.double({ min: 0.1, max: 10, noNaN: true }))
    .map(([low, width]) => ({ scale: 'linear', low, high: low + width, default: low }) as const),
  fc
    .uniqueArray(fc.integer(), { minLength: 1, maxLength: 5 })
    .map(choices => ({ scale: 'choice', choices, default: choices[0]! }) as const),
);
const spaces = fc.dictionary(fc.stringMatching(/^[a-z]{1,6}$/), dimensions, { maxKeys: 4 });

law(t, "radical inverses are van der Corput's: digits in reverse behind the point", () => {
  assert.deepEqual(
    [0, 1, 2, 3, 4, 5, 6, 7].map(i => radicalInverse(i, 2)),
    [0, 1 / 2, 1 / 4, 3 / 4, 1 / 8, 5 / 8, 3 / 8, 7 / 8],
  );
  const thirds = [0, 1, 2, 3, 4].map(i => radicalInverse(i, 3) * 9);
  for (const [i, value] of [0, 3, 6, 1, 4].entries()) assert.ok(Math.abs(thirds[i]! - value) < 1e-12);
});

law(t, 'points are those of their seed, in the unit cube', () => {
  property(fc.tuple(fc.nat(1e6), fc.nat(500)), ([seed, index]) => {
    const point = unitPoint(seed, index);
    assert.deepEqual(point, unitPoint(seed, index));
    assert.equal(point.length, MOST_DIMENSIONS);
    assert.ok(point.every(u => u >= 0 && u < 1));
  });
  assert.notDeepEqual(unitPoint(1, 0), unitPoint(2, 0));
});

law(t, 'any seven points in a row leave no gap of a third in the first coordinate', () => {
  property(fc.tuple(fc.nat(1e6), fc.nat(100)), ([seed, from]) => {
    const values = Array.from({ length: 7 }, (_, i) => unitPoint(seed, from + i)[0]!).sort((a, b) => a - b);
    const gaps = values.map((value, i) => (values[i + 1] ?? values[0]! + 1) - value);
    assert.ok(Math.max(...gaps) < 1 / 3, String(values));
  });
});

law(t, 'values lie in their range, grow with u, and a choice is one of its list', () => {
  property(fc.tuple(dimensions, fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true })), ([dimension, u]) => {
    const value = valueAt(dimension, u);
    if (dimension.scale === 'choice') assert.ok(dimension.choices.includes(value as number));
    else {
      assert.ok(Number(value) >= dimension.low && Number(value) <= dimension.high);
      assert.ok(valueAt(dimension, 0) <= value);
    }
  });
  assert.equal(valueAt(LR, 0.5), 1e-3);
  assert.equal(valueAt(DAMPING, 0.5), 1);
  assert.equal(valueAt(MOMENTUM, 0.999), 0.99);
});

law(
  t,
  'trial 0 has the defaults, there are as many trials of each contender, and the same experiment plans the same',
  () => {
    property(fc.tuple(spaces, fc.integer({ min: 1, max: 12 }), fc.nat(1e6)), ([space, trials, seed]) => {
      const one = contender('one', space);
      const plan = tuningPlan(experiment({}, trials, seed), one);
      assert.equal(plan.length, trials);
      assert.deepEqual(plan[0]!.setting, defaultsOf(space));
      assert.deepEqual(plan, tuningPlan(experiment({}, trials, seed), one));
      assert.equal(new Set(plan.map(({ id }) => id)).size, trials);
      for (const { seed: own, stage } of plan) assert.deepEqual([own, stage], [seed, 'tuning']);
    });
  },
);

law(t, 'all contenders are tuned at the same points, whatever else they tune', () => {
  property(fc.tuple(fc.integer({ min: 1, max: 12 }), fc.nat(1e6)), ([trials, seed]) => {
    const [a, b] = [{ lr: LR }, { lr: LR, damping: DAMPING, momentum: MOMENTUM }].map(space =>
      tuningPlan(experiment({}, trials, seed), contender('one', space)).map(({ setting, schedule }) => [
        setting.lr,
        schedule,
      ]),
    );
    assert.deepEqual(a, b);
  });
});

law(t, 'schedules alternate, and each has points that are spread over the whole range', () => {
  const plan = tuningPlan(experiment({ schedules: ['constant', 'cosine'] }, 16), contender('one', { lr: LR }));
  for (const [s, schedule] of (['constant', 'cosine'] as const).entries()) {
    const own = plan.filter((_, i) => i % 2 === s);
    assert.ok(own.every(trial => trial.schedule === schedule));
    const values = own.map(({ setting }) => Math.log10(Number(setting.lr)));
    assert.ok(Math.min(...values) < -3.5 && Math.max(...values) > -2.5, String(values));
  }
});

law(t, 'what is fixed is not tuned, and the experiment may narrow a space', () => {
  const one = contender('one', { lr: LR, momentum: MOMENTUM });
  const narrow = { scale: 'log', low: 2e-3, high: 4e-3, default: 3e-3 } as const;
  const plan = tuningPlan(experiment({ spaces: { one: { lr: narrow } }, fixed: { one: { momentum: 0.5 } } }, 6), one);
  for (const { setting } of plan) {
    assert.equal(setting.momentum, 0.5);
    assert.ok(Number(setting.lr) >= 2e-3 && Number(setting.lr) <= 4e-3);
  }
  assert.equal(plan[0]!.setting.lr, 3e-3);
});

law(t, 'a space of more dimensions than points have is refused', () => {
  const space = Object.fromEntries(Array.from({ length: MOST_DIMENSIONS + 1 }, (_, i) => [`x${i}`, LR]));
  assert.throws(() => settingAt(space, unitPoint(0, 0)), /expected a space of at most 10 dimensions, got 11/);
});

// --- the choice ---

type Trial = Pick<TrialRecord, 'setting' | 'schedule' | 'outcome' | 'checks' | 'reached'>;
const HIGHER = { better: 'higher' } as const;

/** A trial of lr with these metrics after 10, 20, … steps. */
function trial(lr: number, metrics: readonly number[], o: Partial<Trial> & { target?: number } = {}): Trial {
  const checks = metrics.map((metric, i) => ({
    ...{ step: 10 * (i + 1), epoch: i + 1, cpuSeconds: 1, seconds: 1, trainLoss: 1 },
    validation: { loss: 1, metric },
  }));
  const reached = metrics.findIndex(metric => metric >= (o.target ?? 0.9));
  return {
    ...{ setting: { lr }, schedule: 'constant', outcome: 'budget', checks, reached: reached < 0 ? null : reached },
    ...o,
  };
}
const one = contender('one', { lr: LR });
const chosen = (trials: readonly Trial[], o: Partial<Experiment> = {}) =>
  finalistsOf(experiment(o, trials.length), HIGHER, one, trials).map(({ setting, schedule }) => [setting.lr, schedule]);

law(
  t,
  'the choice: fewest steps to the target; of those that never were there the best metric at the end; of equal ones the first',
  () => {
    assert.deepEqual(chosen([trial(1, [0.5, 0.95]), trial(2, [0.92]), trial(3, [0.99])]), [[2, 'constant']]);
    assert.deepEqual(chosen([trial(1, [0.8, 0.6]), trial(2, [0.7, 0.7]), trial(3, [0.7])]), [[2, 'constant']]);
    assert.deepEqual(chosen([trial(1, [0.89, 0.89]), trial(2, [0.1, 0.1, 0.95])]), [[2, 'constant']]);
  },
);

law(t, 'of a metric that is better when lower, the lowest is chosen', () => {
  const trials = [trial(1, [0.5], { target: 2 }), trial(2, [0.3], { target: 2 })];
  assert.deepEqual(finalistsOf(experiment({}, 2), { better: 'lower' }, one, trials)[0]!.setting, { lr: 2 });
  assert.ok(isAtTarget({ better: 'lower' }, 0.1, 0.1) && !isAtTarget({ better: 'lower' }, 0.2, 0.1));
  assert.ok(isAtTarget(HIGHER, 0.1, 0.1) && !isAtTarget(HIGHER, 0.05, 0.1));
});

law(t, 'a trial that diverged is chosen only where all did', () => {
  const lost = { outcome: 'diverged' } as const;
  assert.deepEqual(chosen([trial(1, [0.8], lost), trial(2, [0.2])]), [[2, 'constant']]);
  assert.deepEqual(chosen([trial(1, [], lost), trial(2, [0.2], lost)]), [[2, 'constant']]);
  assert.deepEqual(chosen([trial(1, [], lost), trial(2, [], lost)]), [[1, 'constant']]);
});

law(
  t,
  'being better is an order: nobody is better than itself, nor two than each other, and what is better than the better is',
  () => {
    const trials = fc
      .tuple(fc.array(fc.constantFrom(0.1, 0.5, 0.9, 0.95), { maxLength: 3 }), fc.boolean())
      .map(([metrics, lost]) => trial(1, metrics, lost ? { outcome: 'diverged' } : {}));
    property(fc.tuple(trials, trials, trials), ([a, b, c]) => {
      assert.ok(!isBetter(HIGHER, a, a));
      assert.ok(!(isBetter(HIGHER, a, b) && isBetter(HIGHER, b, a)));
      if (isBetter(HIGHER, a, b) && isBetter(HIGHER, b, c)) assert.ok(isBetter(HIGHER, a, c));
    });
  },
);

law(t, 'of each schedule the best is a finalist, where the experiment says so', () => {
  const cosine = { schedule: 'cosine' } as const;
  const trials = [trial(1, [0.5]), trial(2, [0.6], cosine), trial(3, [0.4]), trial(4, [0.7], cosine)];
  assert.deepEqual(chosen(trials, { finalists: 'each schedule' }), [
    [1, 'constant'],
    [4, 'cosine'],
  ]);
  assert.deepEqual(chosen(trials), [[4, 'cosine']]);
});

law(t, 'without tuning each schedule runs with what is fixed, else the defaults', () => {
  const o = { finalists: 'each schedule', fixed: { one: { momentum: 0.5 } } } as const;
  const finalists = finalistsOf(experiment(o, 0), HIGHER, one, []);
  assert.deepEqual(
    finalists.map(({ setting, schedule }) => ({ ...setting, schedule })),
    [
      { lr: 1e-3, momentum: 0.5, schedule: 'constant' },
      { lr: 1e-3, momentum: 0.5, schedule: 'cosine' },
    ],
  );
});

law(t, 'finals have the seeds 0, 1, …, and names of their own', () => {
  const plan = finalPlan({ ...TINY, seeds: 3 }, { contender: 'one', setting: { lr: 1 }, schedule: 'cosine' });
  assert.deepEqual(
    plan.map(({ id, seed }) => [id, seed]),
    [0, 1, 2].map(seed => [`one-cosine-seed-${seed}`, seed]),
  );
});

law(t, 'a trial is given up after so many times the steps of the best earlier one that was at the target', () => {
  assert.equal(giveUpAfter(1.5, []), Infinity);
  assert.equal(giveUpAfter(1.5, [trial(1, [0.1, 0.2])]), Infinity);
  assert.equal(giveUpAfter(1.5, [trial(1, [0.1, 0.95]), trial(2, [0.1, 0.2, 0.95]), trial(3, [0.1])]), 30);
  assert.equal(giveUpAfter(null, [trial(1, [0.95])]), Infinity);
});

law(t, 'checks lie evenly over an epoch, the last at its end, however few steps it has', () => {
  assert.deepEqual([...checkSteps(10, 2)], [5, 10]);
  assert.deepEqual([...checkSteps(10, 4)], [3, 5, 8, 10]);
  assert.deepEqual([...checkSteps(2, 5)], [1, 2]);
  property(fc.tuple(fc.integer({ min: 1, max: 200 }), fc.integer({ min: 1, max: 20 })), ([steps, checks]) => {
    const all = [...checkSteps(steps, checks)];
    assert.equal(all.at(-1), steps);
    assert.ok(all.every(step => step >= 1 && step <= steps && Number.isInteger(step)));
  });
});
