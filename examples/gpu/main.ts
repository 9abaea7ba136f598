/**
 * The same training on the CPU and on the GPU, from one seed: a convolutional network, ResNet-18 and a small transformer. Prints
 * both losses, how far apart they ever are, and what a step takes.
 *
 *   npm run demo:gpu                        Adam, 100 steps
 *   npm run demo:gpu -- --optimizer steve
 *   npm run demo:gpu -- --only CNN,ResNet-18 --steps 50
 *   npm run demo:gpu -- --quick             small networks, 10 steps: for an adapter that computes on the CPU
 *
 * The exit code is 1 where losses are further apart than --tolerance (1e-3).
 */

import { parseArgs } from 'node:util';
import { Generator } from '@otimes/core';
import { gpuBackend, initGpu } from '@otimes/gpu';
import { isLive, styles } from '../shared/terminal.ts';
import { build, lossOf } from './models.ts';
import { comparison, curves, distance, type Outcome, progressLine, type Run } from './report.ts';
import { optimizers, type Task, tasksOf } from './tasks.ts';

const { values } = parseArgs({
  options: {
    optimizer: { type: 'string', default: 'adam' },
    only: { type: 'string' },
    steps: { type: 'string' },
    quick: { type: 'boolean', default: false },
    tolerance: { type: 'string', default: '1e-3' },
  },
});
const { quick, optimizer: name } = values;
const steps = Number(values.steps ?? (quick ? 10 : 100));
const tolerance = Number(values.tolerance);
/** Ends the program; what is wrong with an option needs no stack. */
function refuse(message: string): never {
  console.error(`demo: ${message}`);
  process.exit(2);
}
const make = optimizers[name] ?? refuse(`expected --optimizer adam or steve, got '${name}'`);
if (!Number.isInteger(steps) || steps < 1) refuse(`expected --steps from 1, got ${values.steps}`);
const wanted = values.only?.split(',');
const tasks = tasksOf(quick).filter(task => wanted?.includes(task.name) ?? true);
if (tasks.length === 0) refuse(`expected --only of CNN, ResNet-18, transformer, got '${values.only}'`);

const live = isLive(process.stdout);
const { bold, dim, green } = styles(live);

async function train(task: Task, device: 'cpu' | 'gpu'): Promise<Run> {
  const rng = new Generator(0);
  const model = build(task.spec, rng).to(device);
  task.prepare?.(model);
  const optimizer = make(model, task);
  const losses: number[] = [];
  const times: number[] = [];
  let before = gpuBackend()!.stats;
  const show = (line: string) => live && process.stdout.write(`\r\x1b[2K${line}`);
  show(progressLine(task.name, device, losses, steps, dim));
  for (let step = 0; step < steps; step++) {
    const [x, labels] = task.batch(rng).map(one => one.to(device));
    // The first step compiles the kernels.
    if (step === 1) before = gpuBackend()!.stats;
    const begun = performance.now();
    optimizer.zeroGrad();
    const loss = lossOf(model, x!, labels!);
    loss.backward();
    await optimizer.step();
    losses.push(await loss.number());
    times.push(performance.now() - begun);
    show(progressLine(task.name, device, losses, steps, dim));
  }
  show('');
  const after = gpuBackend()!.stats;
  const parameters = model.parameters().reduce((sum, p) => sum + p.size, 0);
  return { losses, times, parameters, dispatches: (after.dispatches - before.dispatches) / Math.max(1, steps - 1) };
}

const info = await initGpu().catch((error: Error) => {
  console.error(error.message);
  process.exit(1);
});
console.log(`${bold('GPU')}  ${info.name} (${info.vendor})`);
if (info.isFallbackAdapter)
  console.log('     This adapter computes on the CPU: losses can be compared, times say nothing of a GPU.');
console.log(`     ${steps} steps of ${name === 'adam' ? 'Adam' : 'STEVE'} from seed 0; float32 on both devices\n`);

const outcomes: Outcome[] = [];
for (const task of tasks) {
  const [cpu, gpu] = [await train(task, 'cpu'), await train(task, 'gpu')];
  const outcome = { name: task.name, cpu, gpu };
  outcomes.push(outcome);
  const apart = distance(outcome);
  const good = apart <= tolerance;
  console.log(`${bold(task.name)}  ${dim(`${cpu.parameters.toLocaleString('en')} parameters`)}`);
  for (const line of curves(outcome, dim)) console.log(line);
  const verdict = good ? green(`✓ within ${tolerance}`) : `✗ more than ${tolerance}`;
  console.log(`  at most ${apart.toExponential(1)} apart ${verdict}\n`);
}
console.log(comparison(outcomes));
process.exitCode = outcomes.every(outcome => distance(outcome) <= tolerance) ? 0 : 1;
