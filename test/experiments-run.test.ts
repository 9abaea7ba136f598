/** Whole runs in child processes: whatever is killed on the way, and however many go side by side, the records are the same. */

import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Experiment, TrialRecord } from 'otimes-experiments';
import t from 'tap';
import type { RunOptions } from '../experiments/src/runner/messages.ts';
import { type RunOutcome, runExperiment } from '../experiments/src/runner/run.ts';
import { law } from './helpers/law.ts';
import { root } from './helpers/packages.ts';
import { startNode } from './helpers/program.ts';
import { TINY } from './helpers/tiny-experiments.ts';

const MODULE = join(root, 'test/helpers/tiny-experiments.ts');
const OPTIONS: RunOptions = { data: null, device: 'cpu', threads: 1, workers: 0, modules: [MODULE], keepWeights: true };
// NOTE: as in program.ts, tap's loaders are not for processes that it does not start.
const ENV = { PATH: process.env.PATH! };
const folder = t.testdir();

/** Runs in that folder, and what was told: lines, and who started and failed. */
async function run(
  name: string,
  experiment: Experiment,
  o: { jobs?: number; signal?: AbortSignal; keepWeights?: boolean } = {},
) {
  const told = { lines: [] as string[], started: [] as string[], failed: [] as string[] };
  const outcome: RunOutcome = await runExperiment({
    ...{
      folder: join(folder, name),
      experiment,
      options: { ...OPTIONS, keepWeights: o.keepWeights ?? true },
      short: false,
      jobs: o.jobs ?? 1,
      env: ENV,
    },
    ...(o.signal && { signal: o.signal }),
    timing: { warmSteps: 10, warmSeconds: 0, rounds: 3, seconds: 0 },
    listener: {
      note: line => told.lines.push(line),
      begin() {},
      started: ({ id }) => told.started.push(id),
      progress() {},
      ended() {},
      failed: ({ id }, message) => told.failed.push(`${id}: ${message}`),
    },
  });
  return { ...outcome, ...told };
}

/** All files of trials by name: records without what clock and memory say, weights as they are. */
function trials(name: string): Record<string, unknown> {
  const path = join(folder, name, 'trials');
  const read = (file: string) => {
    if (!file.endsWith('.json')) return readFileSync(join(path, file)).toString('base64');
    const record = JSON.parse(readFileSync(join(path, file), 'utf8')) as TrialRecord;
    const { checks, phases: _p, inside: _i, peakMemory: _m, resumed: _r, ...rest } = record;
    return { ...rest, checks: checks.map(({ cpuSeconds: _c, seconds: _s, ...check }) => check) };
  };
  return Object.fromEntries(
    readdirSync(path)
      .sort()
      .map(file => [file, read(file)]),
  );
}

const record = (name: string, id: string): TrialRecord =>
  JSON.parse(readFileSync(join(folder, name, 'trials', `${id}.json`), 'utf8'));

/** Has two trials of each contender, of which the second is given up or at the target, and two finals. */
const SMALL: Experiment = { ...TINY, epochs: 4, target: 0.8, tuning: { trials: 2, seed: 1000, giveUp: 1 } };
law(t, 'a run is finished once all trials and the timing are done', async () => {
  assert.equal((await run('one', SMALL)).status, 'finished');
  const files = Object.keys(trials('one'));
  assert.equal(files.filter(file => file.endsWith('.json')).length, 8);
  assert.equal(files.filter(file => file.endsWith('.weights.safetensors')).length, 4);
  assert.equal(files.length, 12, 'no checkpoint is left');
  const timing = JSON.parse(readFileSync(join(folder, 'one/timing.json'), 'utf8'));
  assert.deepEqual(
    timing.contenders.map(({ contender }: { contender: string }) => contender),
    SMALL.contenders,
  );
  assert.ok(timing.contenders.every(({ median }: { median: number }) => median > 0));
  const info = JSON.parse(readFileSync(join(folder, 'one/experiment.json'), 'utf8'));
  assert.deepEqual(info.experiment, SMALL);
  assert.deepEqual([info.parameters, info.stepsPerEpoch, info.samples.test], [16 * 3 + 32 + 17 * 2, 10, 64]);
});

law(
  t,
  'a child that is killed is told and the others go on; then kill -9 of the program; then all is as if nothing had been',
  async () => {
    // In the third epoch of the first tuning trial that gets there.
    const deaths = [{ seed: 1000, step: 25, file: join(folder, 'died') }];
    const experiment: Experiment = { ...SMALL, taskOptions: { wait: 20, deaths } };
    const config = join(folder, 'hard.json');
    writeFileSync(config, JSON.stringify(experiment));
    const bin = join(root, 'experiments/bin/otimes-experiments.mjs');
    const home = join(folder, 'hard');
    const given = ['--config', config, '--with', MODULE, '--out', home, '--jobs', '2', '--keep-weights'];
    const program = startNode([bin, 'run', ...given]);
    let said = '';
    for (const stream of [program.stdout, program.stderr])
      stream.on('data', text => {
        said += text;
      });
    const ended = new Promise(resolve => program.on('close', resolve));
    const holder = await until(() => {
      if (program.exitCode !== null) throw new Error(said);
      const isFinal = checkpoints('hard').some(file => file.includes('-seed-'));
      return isFinal ? (JSON.parse(readFileSync(join(home, 'lock.json'), 'utf8')).pid as number) : null;
    });
    const children = childrenOf(holder);
    process.kill(holder, 'SIGKILL');
    await ended;
    await until(() => !children.some(isAlive));
    const [, killed] = /(tiny-\w+-tune-0\d) failed: its process was ended by SIGKILL, as happens where memory/.exec(
      said,
    )!;
    assert.ok(checkpoints('hard').includes(`${killed}.safetensors`));
    assert.ok(!existsSync(join(home, 'timing.json')));
    const second = await run('hard', experiment, { jobs: 2 });
    assert.equal(second.status, 'finished');
    assert.ok(
      second.lines.some(line => line.startsWith(`Process ${holder}, which had this folder since`)),
      String(second.lines),
    );
    assert.deepEqual(trials('hard'), trials('one'));
    const records = Object.keys(trials('hard')).filter(file => file.endsWith('.json'));
    const resumed = records.map(file => file.slice(0, -'.json'.length)).filter(id => record('hard', id).resumed === 1);
    assert.ok(resumed.includes(killed!) && resumed.some(id => id.includes('-seed-')), String(resumed));
  },
);

law(t, 'what is missing of a finished run is made again, to the same bits, and the timing with it', async () => {
  const before = trials('one');
  for (const id of ['tiny-sgd-tune-01', 'tiny-steve-constant-seed-1', 'tiny-steve-cosine-seed-1'])
    rmSync(join(folder, 'one/trials', `${id}.json`), { force: true });
  writeFileSync(join(folder, 'one/timing.json'), '{"format":1}');
  const { status, started } = await run('one', SMALL);
  assert.deepEqual([status, started.length], ['finished', 2]);
  assert.deepEqual(trials('one'), before);
  assert.ok(JSON.parse(readFileSync(join(folder, 'one/timing.json'), 'utf8')).rounds > 0);
});

law(t, 'contenders and seeds may join a run: what is done stays, and all is as if it had been begun so', async () => {
  const [first, ...others] = SMALL.contenders;
  const part = { ...SMALL, contenders: [first!], seeds: 1 };
  assert.equal((await run('grown', part)).status, 'finished');
  // In whatever order: that is of tables alone.
  const wider = await run('grown', { ...SMALL, contenders: [...SMALL.contenders].reverse(), seeds: 1 });
  assert.ok(
    wider.lines.includes(`The run gets more: ${others.reverse().join(', ')}. What a step costs is measured anew.`),
  );
  // Weights are kept on, though nobody asks again.
  const whole = await run('grown', SMALL, { keepWeights: false });
  assert.equal(whole.status, 'finished');
  assert.ok(whole.lines.includes(`The run gets more: ${SMALL.seeds} seeds. What a step costs is measured anew.`));
  assert.equal(whole.started.filter(id => id.startsWith(`${first}-`)).length, SMALL.seeds - 1, 'the seeds that joined');
  assert.deepEqual(trials('grown'), trials('one'));
  const [grown, one] = ['grown', 'one'].map(name =>
    JSON.parse(readFileSync(join(folder, name, 'experiment.json'), 'utf8')),
  );
  assert.deepEqual({ ...grown, started: 0 }, { ...one, started: 0 });
  await assert.rejects(run('grown', part), /has a run of another experiment:\n {2}seeds: 2, now 1\n/);
});

law(t, 'a stopped run keeps what it has and gives the folder back; meanwhile nobody else gets it', async () => {
  const experiment: Experiment = { ...SMALL, taskOptions: { wait: 30 } };
  const stop = new AbortController();
  const first = run('stopped', experiment, { signal: stop.signal });
  const place = join(folder, 'stopped');
  await until(() => checkpoints('stopped').length > 0);
  await assert.rejects(run('stopped', experiment), /LockedError: .*stopped: is taken by another run of this process/);
  stop.abort();
  assert.equal((await first).status, 'stopped');
  assert.ok(checkpoints('stopped').length > 0);
  assert.ok(!existsSync(join(place, 'lock.json')));
});

law(t, 'what a task or a contender refuses is told before the first trial', async () => {
  const wrong: Experiment = { ...SMALL, kronecker: { refreshEvry: 5 } };
  await assert.rejects(
    run('wrong', wrong),
    /ChildFailed: contender 'tiny-steve' with lr 0\.01; kronecker \{"refreshEvry":5\}: STEVE: there is no option 'refreshEvry'/,
  );
  for (const file of ['experiment', 'options', 'lock'])
    assert.ok(!existsSync(join(folder, `wrong/${file}.json`)), file);
});

law(t, 'a target that no share can be is refused before the first trial', async () => {
  await assert.rejects(
    run('percent', { ...SMALL, target: 95 }),
    /ChildFailed: tiny: target: expected a share .* got 95/,
  );
});

law(t, 'a folder with a run of another experiment is refused, with what differs', async () => {
  await assert.rejects(run('one', { ...SMALL, epochs: 3, tuning: { ...SMALL.tuning, trials: 4 } }), (error: Error) => {
    assert.equal(error.name, 'OtherRunError');
    assert.match(
      error.message,
      /one: has a run of another experiment:\n {2}epochs: 4, now 3\n {2}tuning\.trials: 2, now 4\n/,
    );
    return true;
  });
});

/** Files of checkpoints of a run. */
function checkpoints(name: string): string[] {
  const path = join(folder, name, 'trials');
  const files = existsSync(path) ? readdirSync(path) : [];
  return files.filter(file => file.endsWith('.safetensors') && !file.endsWith('.weights.safetensors'));
}

/** Numbers of child processes; none where this system has no such files. */
function childrenOf(pid: number): number[] {
  const path = `/proc/${pid}/task/${pid}/children`;
  return existsSync(path) ? readFileSync(path, 'utf8').trim().split(' ').map(Number) : [];
}

async function until<T>(found: () => T | null | false): Promise<T> {
  for (let i = 0; i < 1200; i++) {
    const value = found();
    if (value !== null && value !== false) return value;
    await new Promise(resolve => setTimeout(resolve, 50));
  }
  throw new Error('waited for a minute');
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}
