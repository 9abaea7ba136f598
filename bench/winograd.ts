/**
 * What do Winograd's convolutions gain, and what do they cost in rounding? Of 3 × 3 convolutions, forward and both gradients:
 * milliseconds of CPU time of the direct kernels, how many times as fast Winograd's are (in turn, medians), whether the rule
 * takes them, and mean and largest error of both against float64, relative to the root mean square of the result. Then the
 * milliseconds of a training step of ResNet-18 for CIFAR with Adam, both ways in turn. One thread.
 *
 *   npm run bench bench/winograd.ts                  all
 *   npm run bench bench/winograd.ts -- 256           shapes whose name contains this
 *   npm run bench bench/winograd.ts -- --step 32     the step alone, with so many images
 *   npm run bench bench/winograd.ts -- --blas        direct convolutions by the system's BLAS
 */

import { parseArgs } from 'node:util';
import {
  Generator,
  getBackend,
  type Operand,
  randint,
  randn,
  setConvolution,
  setThreads,
  type Tensor,
  useBlas,
  WasmBackend,
  zeros,
} from '@otimes/core';
import { crossEntropy, resnet18 } from '@otimes/nn';
import { Adam } from '@otimes/optim';
import { winogradIsFaster } from '../core/src/backends/wasm/layers/winograd.ts';
import { interleave } from './timing.ts';

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: { step: { type: 'string' }, blas: { type: 'boolean', default: false } },
});
const rng = new Generator(1);
const backend = getBackend('cpu');
if (!(backend instanceof WasmBackend)) throw new Error('there is no SIMD here');
// None starts by itself: two threads transform the filters twice.
await setThreads(1);
if (options.blas) console.log(await useBlas());

/** Images, channels, outputs, side. */
const SHAPES: readonly (readonly [n: number, c: number, o: number, side: number])[] = [
  ...([
    [32, 64, 64, 32],
    [32, 128, 128, 16],
    [32, 256, 256, 8],
    [32, 512, 512, 4],
    [8, 64, 64, 56],
    [8, 128, 128, 28],
    [8, 256, 256, 14],
    [8, 512, 512, 7],
  ] as const),
  ...([
    [64, 16, 32, 14],
    [32, 16, 16, 32],
    [32, 8, 8, 32],
    [64, 8, 16, 28],
    [1, 64, 64, 32],
    [1, 256, 256, 8],
    [4, 512, 512, 4],
    [32, 512, 512, 2],
  ] as const),
];
const geometry = { kernel: [3, 3], stride: [1, 1], padding: [1, 1], dilation: [1, 1], groups: 1 } as const;

const operand = ({ storage, dtype, shape, strides, offset }: Tensor): Operand => ({
  ...{ storage, dtype, shape, strides, offset },
});

/** The three convolutions of a shape in a dtype, and their results. */
function convolutions(dtype: 'float32' | 'float64', x: Tensor, w: Tensor, gy: Tensor) {
  const [a, b, g] = [x, w, gy].map(t => operand(t.astype(dtype))) as [Operand, Operand, Operand];
  const results = [gy, x, w].map(({ shape }) => zeros(shape, { dtype }));
  const [y, gx, gw] = results.map(operand) as [Operand, Operand, Operand];
  const run = (kernel: () => void) => () => {
    kernel();
    (backend as WasmBackend).endKernels();
  };
  const runs = [
    run(() => backend.convForward(a, b, null, y, geometry)),
    run(() => backend.convInputGrad(g, b, gx, geometry)),
    run(() => backend.convWeightGrad(a, g, gw, geometry)),
  ];
  return { runs, results };
}

const KINDS = ['forward', 'input', 'weight'];
const by = (method: 'auto' | 'direct', run: () => void) => () => {
  setConvolution(method);
  run();
};

function errors(results: readonly Tensor[], exact: readonly Tensor[]) {
  return results.map((t, i) => {
    const [got, want] = [t.dataSync(), exact[i]!.dataSync()];
    let [sum, most, square] = [0, 0, 0];
    for (let j = 0; j < want.length; j++) {
      const error = Math.abs(got[j]! - want[j]!);
      sum += error;
      most = Math.max(most, error);
      square += want[j]! ** 2;
    }
    const rms = Math.sqrt(square / want.length);
    return [sum / want.length / rms, most / rms] as const;
  });
}

if (options.step === undefined)
  for (const [n, c, o, side] of SHAPES) {
    const name = `${n}×${c}→${o}, ${side}²`;
    if (!name.includes(positionals[0] ?? '')) continue;
    const x = randn([n, c, side, side], { rng });
    const w = randn([o, c, 3, 3], { rng }).mul(Math.sqrt(2 / (9 * c)));
    const gy = randn([n, o, side, side], { rng });
    const { runs, results } = convolutions('float32', x, w, gy);
    const seconds = interleave(runs.flatMap(run => [by('direct', run), by('auto', run)]));
    const exact = convolutions('float64', x, w, gy);
    for (const run of exact.runs) run();
    const [direct, auto] = (['direct', 'auto'] as const).map(method => {
      for (const run of runs) by(method, run)();
      return errors(results, exact.results);
    }) as [ReturnType<typeof errors>, ReturnType<typeof errors>];
    const taken = winogradIsFaster(n, side, side, c, o);
    console.log(`${name}${taken ? '' : ' (direct)'}`);
    console.table(
      Object.fromEntries(
        KINDS.map((kind, i) => {
          const [before, after] = [seconds[2 * i]!, seconds[2 * i + 1]!];
          const ratio = (k: 0 | 1) => (auto[i]![k] / direct[i]![k]).toFixed(1);
          const row = {
            'direct ms': (before * 1e3).toFixed(2),
            'times as fast': (before / after).toFixed(2),
            'direct mean error': direct[i]![0].toExponential(1),
            '× mean': ratio(0),
            '× max': ratio(1),
          };
          return [kind, row];
        }),
      ),
    );
  }

if (positionals.length === 0) {
  const images = Number(options.step ?? 32);
  const model = resnet18({ classes: 10, stem: 'cifar', rng });
  const optimizer = new Adam(model.parameters(), { lr: 1e-3 });
  const [x, y] = [randn([images, 3, 32, 32], { rng }), randint(0, 10, [images], { rng })];
  const step = () => {
    optimizer.zeroGrad();
    const loss = crossEntropy(model.call(x), y);
    loss.backward();
    optimizer.step();
    loss.item();
  };
  const [direct, auto] = interleave([by('direct', step), by('auto', step)], { rounds: 9 }) as [number, number];
  const [before, after] = [direct * 1e3, auto * 1e3].map(ms => ms.toFixed(0));
  console.log(
    `ResNet-18, ${images} × 3 × 32², Adam: ${before} ms direct, ${after} ms auto: ${(direct / auto).toFixed(2)}`,
  );
}
