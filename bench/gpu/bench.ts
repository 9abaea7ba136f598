/**
 * What a GPU does: products, convolutions, kernels that memory bounds and training steps on the device 'gpu', beside the CPU
 * engine and, where a python3 has torch with CUDA, PyTorch in the same run. docs/gpu.md says what the columns are.
 *
 *   npm run bench:gpu                           all rows
 *   npm run bench:gpu -- --budget 150           as many rows as fit in so many seconds; those left out are named
 *   npm run bench:gpu -- --only resnet18,product   rows with one of these in their title (spaces and case do not count)
 *   npm run bench:gpu -- --mixed               products with operands in f16; rows of products and of Adam alone
 *   npm run bench:gpu -- --quick                small sizes, to see that it runs
 *   npm run bench:gpu -- --out FOLDER           gpu-bench.json and gpu-bench.md there
 */

import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type BenchGpu, openBenchGpu } from './parts/gpu.ts';
import { medians, sample, warmUp } from './parts/measure.ts';
import { type Found, findTorch, MODES, type Mode, TorchPeer } from './parts/peer.ts';
import { type Row, rowsOf } from './parts/rows.ts';
import { markdown, type Result, rate } from './parts/table.ts';
import { prepare } from './parts/tasks.ts';

const { values: options } = parseArgs({
  options: {
    budget: { type: 'string', default: 'Infinity' },
    only: { type: 'string' },
    quick: { type: 'boolean', default: false },
    out: { type: 'string' },
    rounds: { type: 'string', default: '5' },
    /** Seconds of each sample. */
    sample: { type: 'string' },
    /** Bytes of all tensors on the GPU together. */
    memory: { type: 'string', default: '16e9' },
    mixed: { type: 'boolean', default: false },
    'no-cpu': { type: 'boolean', default: false },
    /** 'cuda', 'cpu' to try the program, or 'none'. */
    torch: { type: 'string', default: 'cuda' },
  },
});
const begun = performance.now();
const seconds = () => (performance.now() - begun) / 1000;
const budget = Number(options.budget);
const rounds = Number(options.rounds);
const length = Number(options.sample ?? (options.quick ? 0.02 : 0.15));
/** A step of the CPU engine may take so many seconds, at what it computes in one. */
const [MOST_CPU, CPU_RATE] = [2, 40e9];

const plain = (text: string) => text.toLowerCase().replaceAll(/[\s-]/g, '');
const only = options.only?.split(',').map(plain);
const rows = rowsOf(options.quick)
  .filter(({ title }) => only?.some(part => plain(title).includes(part)) ?? true)
  .filter(({ part, title }) => !options.mixed || (part !== 'memory' && !title.includes('STEVE')));
if (rows.length === 0) throw new Error(`bench: expected --only parts of titles, got '${options.only}'`);

const gpu = await openBenchGpu({ memoryLimit: Number(options.memory), mixed: options.mixed });
const torch = options.torch === 'none' ? 'left out' : findTorch(options.torch);
const header = [
  `GPU: ${gpu.driver}${gpu.clock === null ? ', without timestamps' : ''}`,
  `Host: ${cpus().length} × ${cpus()[0]?.model.trim()}, Node ${process.version}`,
  typeof torch === 'string'
    ? `PyTorch: none (${torch})`
    : `PyTorch: ${torch.versions}, eager, fused Adam, cudnn.benchmark`,
  `${new Date().toISOString().slice(0, 10)}; medians of ${rounds} interleaved rounds of ${length} s, of one where a unit takes 2 s and more`,
];
const { isFallbackAdapter, mixed } = gpu.info;
if (mixed !== null) header.push(`otimes takes operands of products in f16 (${mixed}), with a GradScaler`);
if (isFallbackAdapter) header.push('NOTE: this adapter computes on the CPU: no figure here says anything of a GPU');
for (const line of header) console.log(line);

async function measure(row: Row, gpu: BenchGpu, peer: TorchPeer | null): Promise<Result> {
  const task = await prepare(row.request, 'gpu', mixed !== null);
  const { flops, bytes } = task;
  const { count, rounds: most, firstMs } = await warmUp(task, length, gpu);
  let modes: readonly Mode[] = [];
  let torchError: string | undefined;
  const attempt = async (work: () => Promise<void>) => {
    try {
      await work();
    } catch (error) {
      modes = [];
      torchError = error instanceof Error ? error.message : String(error);
      console.log(`  ${torchError}`);
    }
  };
  // Its steps have no STEVE; beside that stands Adam's.
  const asked = row.request.task === 'training' && row.request.optimizer !== 'Adam' ? null : peer;
  if (asked !== null)
    await attempt(async () => {
      const wanted = row.part === 'memory' ? MODES.slice(0, 1) : MODES;
      await asked.prepare(row.request, wanted, length);
      modes = wanted;
    });
  const own = [];
  const others: Partial<Record<Mode, number[]>> = {};
  for (let round = 0; round < Math.min(rounds, most); round++) {
    own.push(await sample(task, count, gpu));
    for (const mode of modes)
      await attempt(async () => {
        const list = others[mode] ?? [];
        list.push(await asked!.sample(mode, length));
        others[mode] = list;
      });
  }
  if (asked !== null) await attempt(() => asked.drop());
  const middle = Object.entries(others).map(([mode, list]) => [mode, list.sort((a, b) => a - b)[list.length >> 1]!]);
  const cpuMs = await onCpu(row, flops, bytes);
  return {
    row,
    gpu: medians(own),
    firstMs,
    flops,
    bytes,
    ...(cpuMs !== null && { cpuMs }),
    torch: Object.fromEntries(middle),
    ...(torchError !== undefined && { torchError }),
  };
}

/** Milliseconds of the CPU engine; null where they are too many, or say nothing new. */
async function onCpu({ request, part }: Row, flops: number, bytes: number): Promise<number | null> {
  const takes = Math.max(flops / CPU_RATE, bytes / 5e9);
  if (options['no-cpu'] || takes > MOST_CPU || part === 'convolutions') return null;
  if (request.task === 'training' && request.optimizer !== 'Adam') return null;
  const task = await prepare(request, 'cpu');
  await sample(task, 1, null);
  const samples = [];
  for (let i = 0; i < 3; i++) samples.push(await sample(task, 1, null));
  return medians(samples).ms;
}

const line = (result: Result): string => {
  const { gpu, torch = {}, cpuMs, error, firstMs } = result;
  if (gpu === undefined) return error!;
  const parts = [`${gpu.ms.toFixed(3)} ms`, rate(result, gpu.ms), `host ${gpu.hostMs.toFixed(3)}`];
  if (gpu.gpuMs !== null) parts.push(`GPU ${gpu.gpuMs.toFixed(3)}`);
  parts.push(`${Math.round(gpu.dispatches)} dispatches`, `${gpu.submits.toFixed(2)} submits`);
  parts.push(`first ${firstMs!.toFixed(0)}`);
  if (cpuMs !== undefined) parts.push(`CPU engine ${cpuMs.toFixed(2)}`);
  for (const [mode, ms] of Object.entries(torch)) parts.push(`PyTorch ${mode} ${ms.toFixed(3)}`);
  return parts.join(', ');
};

function report(): string {
  const footer = left.length > 0 ? `\nNot run within ${budget} s: ${left.map(({ title }) => title).join('; ')}.` : '';
  return `${header.map(one => `${one}.`).join('\n')}\n\n${markdown(results)}\n${footer}`;
}

/** After each row, so that a run that is cut off leaves what it has. */
function write(): void {
  if (options.out === undefined) return;
  mkdirSync(options.out, { recursive: true });
  writeFileSync(join(options.out, 'gpu-bench.md'), `${report()}\n`);
  const all = { header, info: gpu.info, results, left: left.map(({ title }) => title) };
  writeFileSync(join(options.out, 'gpu-bench.json'), `${JSON.stringify(all, null, 1)}\n`);
}

const peer = typeof torch === 'string' ? null : new TorchPeer((torch as Found).python, options.torch);
const results: Result[] = [];
const left: Row[] = [];
for (const [i, row] of rows.entries()) {
  if (seconds() > budget) {
    left.push(row);
    continue;
  }
  process.stdout.write(`[${i + 1}/${rows.length}, ${seconds().toFixed(0)} s] ${row.title}: `);
  let result: Result;
  try {
    result = await measure(row, gpu, peer);
  } catch (error) {
    result = { row, error: `FAILED: ${error instanceof Error ? error.message : error}` };
  }
  results.push(result);
  console.log(line(result));
  write();
}
peer?.end();
write();

console.log(`\n${report()}`);
process.exitCode = results.some(({ error }) => error !== undefined) ? 1 : 0;
