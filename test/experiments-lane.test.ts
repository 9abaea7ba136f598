/** What is left of a run, by the records in its folder: where trials are given up, and when all is done. */

import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Experiment, TrialRecord } from 'otimes-experiments';
import t from 'tap';
import { filesOf, writeJson } from '../experiments/src/runner/files.ts';
import { isComplete, Lane } from '../experiments/src/runner/lane.ts';
import { isFinished, readRequest } from '../experiments/src/runner/run.ts';
import { finalPlan, type TrialPlan, tuningPlan } from '../experiments/src/search/settings.ts';
import { law } from './helpers/law.ts';
import { CONTENDERS, TASKS, TINY } from './helpers/tiny-experiments.ts';

const home = t.testdir();
const { metric } = TASKS[0]!;
const sgd = CONTENDERS[0]!;

/** A record of a trial that reached the target after so many steps; null: never. */
function ended(folder: string, plan: TrialPlan, steps: number | null): void {
  const check = (step: number) => ({ step, validation: { loss: 1, metric: 0.5 } });
  const record = {
    ...{ format: 1, ...plan, outcome: steps === null ? 'budget' : 'target', reached: steps === null ? null : 1 },
    checks: [check(0), check(steps ?? 60)],
  } as unknown as TrialRecord;
  writeJson(filesOf(folder).record(plan.id), record);
}

function folderOf(name: string): string {
  const folder = join(home, name);
  mkdirSync(filesOf(folder).trials, { recursive: true });
  return folder;
}

law(t, 'where each schedule has a finalist, a trial is given up by those of its schedule alone', () => {
  for (const finalists of ['each schedule', 'best'] as const) {
    const experiment: Experiment = { ...TINY, finalists, tuning: { trials: 6, seed: 1000, giveUp: 1.5 } };
    const folder = folderOf(finalists);
    const plan = tuningPlan(experiment, sgd);
    // Constant, cosine, constant, cosine, …: the second is the quickest of all, the first of its schedule.
    const reached = [40, 20, null, 30];
    const limits = reached.map((steps, i) => {
      const { giveUpAfter } = new Lane(experiment, metric, sgd, folder).next()!;
      ended(folder, plan[i]!, steps);
      return giveUpAfter;
    });
    const last = new Lane(experiment, metric, sgd, folder).next()!.giveUpAfter;
    const expected = finalists === 'best' ? [Infinity, 60, 30, 30, 30] : [Infinity, Infinity, 60, 30, 60];
    assert.deepEqual([...limits, last], expected, finalists);
  }
});

law(t, 'a record of another budget is refused', () => {
  const experiment: Experiment = { ...TINY, tuning: { trials: 2, seed: 1000, giveUp: null } };
  const folder = folderOf('budget');
  const [first] = tuningPlan(experiment, sgd);
  ended(folder, first!, null);
  const path = filesOf(folder).record(first!.id);
  writeJson(path, { ...JSON.parse(readFileSync(path, 'utf8')), steps: 60 });
  assert.equal(new Lane(experiment, metric, sgd, folder, 60).left.tuning, 1);
  assert.throws(() => new Lane(experiment, metric, sgd, folder, 70), /whole budget of 60 steps, and .* now has 70/);
});

law(t, 'a run is finished while every trial and the timing are there, and a damaged one is told', () => {
  const experiment: Experiment = { ...TINY, contenders: ['tiny-sgd'], tuning: { trials: 2, seed: 1000, giveUp: null } };
  const folder = folderOf('finished');
  const files = filesOf(folder);
  const tuning = tuningPlan(experiment, sgd);
  const finals = finalPlan(experiment, { contender: 'tiny-sgd', setting: tuning[1]!.setting, schedule: 'cosine' });
  writeJson(files.experiment, { format: 1, experiment });
  writeJson(files.timing, { format: 1 });
  for (const trial of [...tuning, ...finals]) {
    assert.ok(!isFinished(folder, experiment), trial.id);
    ended(folder, trial, 20);
  }
  assert.ok(isFinished(folder, experiment) && isComplete(experiment, folder));
  for (const { id } of [tuning[0]!, finals[1]!]) {
    rmSync(files.record(id));
    assert.ok(!isFinished(folder, experiment), id);
    writeFileSync(files.record(id), '{');
    assert.throws(
      () => isFinished(folder, experiment),
      new RegExp(`${id}\\.json: is not JSON: .*Without the file, what it was for is made again`),
    );
    ended(folder, [...tuning, ...finals].find(plan => plan.id === id)!, 20);
  }
  rmSync(files.timing);
  assert.ok(!isFinished(folder, experiment));
});

law(t, 'a run that was ended before its first trial says how to begin anew', () => {
  const folder = folderOf('early');
  assert.throws(() => readRequest(folder), /early: expected the folder of a run, found no experiment in it/);
  writeJson(filesOf(folder).options, { format: 1 });
  assert.throws(() => readRequest(folder), /ended before its first trial.*begin it anew, with run and --out .*early/);
});
