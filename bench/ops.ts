/**
 * Operations that are imported by name beside PyTorch's, one thread each, as ratios of CPU time:
 *
 *   npm run bench bench/ops.ts
 *
 * Samples of both alternate, so that what else the machine does slows both; the median of 9 ratios is shown. Below 1 this library is
 * faster. PYTHON names the interpreter that has PyTorch; default python3.
 */

import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import {
  cumprod,
  Generator,
  grad,
  log2,
  logsumexp,
  mish,
  prod,
  rand,
  randint,
  randn,
  scatterAdd,
  scope,
  setThreads,
  silu,
  softplus,
  sort,
  type Tensor,
  topk,
} from '@otimes/core';

const SAMPLES = 9;
/** CPU time of a sample, ms. */
const LEAST = 60;

const rng = new Generator(1);
const x = randn([1024, 1024], { rng });
const positive = rand([1024, 1024], { rng });
const line = randn([1 << 20], { rng });
const leaf = x.detach();
leaf.requiresGrad = true;
const index = randint(0, 1024, [1024, 1024], { rng });
const gy = x.mul(0.5);
const slope = (f: (x: Tensor) => Tensor) => grad(f(leaf), [leaf], { gy })[0];

/** Name, what runs here, the same in Python. */
const CASES: readonly [string, () => unknown, string][] = [
  ['log2', () => log2(positive), 'torch.log2(positive)'],
  ['silu', () => silu(x), 'F.silu(x)'],
  ['silu, with gradient', () => slope(silu), 'torch.autograd.grad(F.silu(leaf), leaf, gy)'],
  ['mish', () => mish(x), 'F.mish(x)'],
  ['softplus', () => softplus(x), 'F.softplus(x)'],
  ['cumprod of rows', () => cumprod(positive, 1), 'torch.cumprod(positive, 1)'],
  ['cumprod of columns', () => cumprod(positive, 0), 'torch.cumprod(positive, 0)'],
  ['prod of rows', () => prod(positive, 1), 'torch.prod(positive, 1)'],
  ['logsumexp of rows', () => logsumexp(x, 1), 'torch.logsumexp(x, 1)'],
  ['sort of 1024 rows of 1024', () => sort(x), 'torch.sort(x)'],
  ['sort of 1M', () => sort(line), 'torch.sort(line)'],
  ['topk of 10 in 1024 rows of 1024', () => topk(x, 10), 'torch.topk(x, 10)'],
  ['topk of 100 in 1M', () => topk(line, 100), 'torch.topk(line, 100)'],
  ['scatterAdd along rows', () => scatterAdd(x, 1, index, gy), 'torch.scatter_add(x, 1, index, gy)'],
];

const PEER = `
import sys, time, torch
import torch.nn.functional as F
torch.set_num_threads(1)
x = torch.randn(1024, 1024); positive = torch.rand(1024, 1024); line = torch.randn(1 << 20)
leaf = torch.randn(1024, 1024, requires_grad=True); gy = x * 0.5
index = torch.randint(0, 1024, (1024, 1024))
for request in sys.stdin:
    code = compile(request, 'case', 'eval')
    n, start = 0, time.process_time()
    while n < 1 or time.process_time() - start < ${LEAST / 1000}:
        eval(code); n += 1
    print((time.process_time() - start) / n * 1e3, flush=True)
`;

const peer = spawn(process.env.PYTHON ?? 'python3', ['-c', PEER], { stdio: ['pipe', 'pipe', 'inherit'] });
const answers = createInterface({ input: peer.stdout })[Symbol.asyncIterator]();

/** CPU time of one call in Python, ms. */
async function theirs(code: string): Promise<number> {
  peer.stdin.write(`${code}\n`);
  return Number((await answers.next()).value);
}

/** CPU time of one call here, ms; the result goes back at once, as in Python. */
function ours(run: () => unknown): number {
  const start = process.cpuUsage();
  for (let n = 1; ; n++) {
    scope(() => {
      run();
    });
    const { user, system } = process.cpuUsage(start);
    if (user + system > LEAST * 1000) return (user + system) / 1000 / n;
  }
}

const median = (values: readonly number[]) => [...values].sort((a, b) => a - b)[values.length >> 1]!;

await setThreads(1);
const only = process.argv[2];
for (const [name, run, code] of CASES.filter(([name]) => only === undefined || name.startsWith(only))) {
  ours(run);
  await theirs(code);
  const pairs: [number, number][] = [];
  for (let i = 0; i < SAMPLES; i++) pairs.push([ours(run), await theirs(code)]);
  const [mine, others] = [0, 1].map(k => median(pairs.map(pair => pair[k]!)));
  const ratio = median(pairs.map(([a, b]) => a / b));
  console.log(`${name}: ${mine!.toFixed(2)} ms, PyTorch ${others!.toFixed(2)} ms, ratio ${ratio.toFixed(2)}`);
}
peer.stdin.end();
