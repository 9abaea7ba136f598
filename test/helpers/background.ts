// Matrices and runs for decompositions in the background.

import { Generator, randint, randn, type StateDict, type Tensor } from '@otimes/core';
import { Background, type BackgroundOptions } from '@otimes/kernels';
import { type AnyModule, crossEntropy, type Module, mlp } from '@otimes/nn';
import { EKFAC, KFAC, type KroneckerOptions, type KroneckerPreconditioner, STEVE } from '@otimes/optim';
import ndarray from 'ndarray';
import { replaceBackground } from '../../linalg/src/background.ts';
import { noise } from './kernels.ts';

export type Dtype = 'float32' | 'float64';
export type Matrix = ndarray.NdArray<Float32Array | Float64Array>;

export const bytes = (x: Float32Array | Float64Array) =>
  Buffer.from(Uint8Array.from(new Uint8Array(x.buffer, x.byteOffset, x.byteLength)));

export function symmetric(n: number, dtype: Dtype, scale = 1, rank = n): Matrix {
  const next = noise(n + 1);
  const rows = Array.from({ length: rank }, () => Float64Array.from({ length: n }, next));
  const data = dtype === 'float32' ? new Float32Array(n * n) : new Float64Array(n * n);
  for (let i = 0; i < n; i++)
    for (let j = 0; j <= i; j++) {
      let sum = 0;
      for (const row of rows) sum += row[i]! * row[j]!;
      data[i * n + j] = data[j * n + i] = sum * scale;
    }
  return ndarray(data, [n, n]);
}

/** Runs with another worker, and puts the process's own back. Returns what was warned about. */
export async function withBackground(
  o: BackgroundOptions,
  run: (warnings: string[]) => void | Promise<void>,
): Promise<void> {
  const background = new Background(o);
  const before = replaceBackground(background);
  const { warn } = console;
  const warnings: string[] = [];
  console.warn = (message: string) => warnings.push(message);
  try {
    await run(warnings);
  } finally {
    console.warn = warn;
    replaceBackground(before);
    await background.stop();
  }
}

export const pause = (ms = 1) => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);

/** Looks without taking: whether the first word says that a worker has begun. */
export function begunOn(job: { matrix: Matrix }): boolean {
  return Atomics.load(new Int32Array(job.matrix.data.buffer, 0, 1), 0) !== 0;
}

/** What comes of polling: as a training loop does, without ever awaiting. */
export function polled<T>(poll: () => T | null): T {
  const end = performance.now() + 30_000;
  for (;;) {
    const found = poll();
    if (found !== null) return found;
    if (performance.now() > end) throw new Error('nothing came within 30 seconds');
    pause();
  }
}

export const optimizers = {
  KFAC: (model: AnyModule, o: KroneckerOptions) => new KFAC(model, { damping: 0.1, momentum: 0.5, ...o }),
  EKFAC: (model: AnyModule, o: KroneckerOptions) => new EKFAC(model, { damping: 0.1, ...o }),
  STEVE: (model: AnyModule, o: KroneckerOptions) => new STEVE(model, o),
};

/** A small MLP with its optimizer, and batches that are a function of the step. */
export class Run {
  readonly model: Module;
  readonly optimizer: KroneckerPreconditioner;
  readonly losses: number[] = [];
  readonly #dtype: Dtype;

  constructor(
    make: (model: AnyModule, o: KroneckerOptions) => KroneckerPreconditioner,
    o: KroneckerOptions,
    dtype: Dtype = 'float32',
  ) {
    this.model = mlp([9, 12, 5], { rng: new Generator(4), dtype });
    this.optimizer = make(this.model, { refreshEvery: 4, ...o });
    this.#dtype = dtype;
  }

  step(between: () => void = () => {}): void {
    const rng = new Generator(100 + this.optimizer.steps);
    const [x, y] = [randn([16, 9], { rng, dtype: this.#dtype }), randint(0, 5, [16], { rng })];
    this.optimizer.zeroGrad();
    const loss = crossEntropy(this.model.call(x) as Tensor, y);
    loss.backward();
    between();
    this.optimizer.step();
    this.losses.push(loss.item());
  }

  to(step: number): this {
    while (this.optimizer.steps < step) this.step();
    return this;
  }

  /** Returns when all decompositions are there, or have failed. */
  wait(): void {
    for (const path of ['layers.0', 'layers.2'])
      polled(() => (this.optimizer.inspect(path).job?.ready(false) ?? true) || null);
  }

  /** Every bit of the model and the optimizer, and the losses so far. */
  get bits(): Record<string, string> {
    const hex = (state: StateDict, prefix: string) =>
      Object.entries(state).map(([key, x]) => [prefix + key, Buffer.from(x.dataSync().buffer).toString('hex')]);
    return Object.fromEntries([
      ...hex(this.model.stateDict(), 'model.'),
      ...hex(this.optimizer.stateDict(), ''),
      ['losses', this.losses.join()],
    ]);
  }
}

export const DELAYED = { refresh: 'background', refreshLag: 3 } as const;
