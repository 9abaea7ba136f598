/** What is measured, on any device of otimes. torch_peer.py has the same tasks under the same names. */

import { conv2d, Generator, grad, layerNorm, noGrad, ones, randn, scope, type Tensor } from '@otimes/core';
import { type AnyModule, Linear, type Module, MultiHeadAttention, Parameter } from '@otimes/nn';
import { Adam, type Eigensolver, GradScaler, type Optimizer, STEVE, subspaceIteration } from '@otimes/optim';
import ndarray from 'ndarray';
import { batchOf, build, Gpt, lossOf, type Spec } from '../../../examples/gpu/models.ts';

export type Conv = {
  readonly batch: number;
  readonly cIn: number;
  readonly cOut: number;
  readonly side: number;
  readonly kernel: number;
  readonly stride: number;
};

export type Request =
  | { readonly task: 'product'; readonly n: number }
  | ({ readonly task: 'convForward' | 'convTraining' } & Conv)
  | { readonly task: Streaming; readonly size: number }
  | { readonly task: 'training'; readonly spec: Spec; readonly optimizer: OptimizerName };

/** STEVE between refreshes; and with a refresh in each step, by `eigh` on the host or by products on the device. */
export type OptimizerName = 'Adam' | 'STEVE' | 'STEVE, refresh by eigh' | 'STEVE, refresh by products';

/** Kernels that memory bounds; on `size` elements, rows of 1024. */
export type Streaming = 'add' | 'sum' | 'softmax' | 'layerNorm' | 'adamStep';

export type Task = {
  /** One unit of work, of which a device need not have begun any; a promise where it wants the host to wait. */
  run(): void | Promise<void>;
  /** Waits for all units; a number of the last, by which results can be compared. */
  finish(): Promise<number>;
  /** Operations a unit, multiplications and additions counted apart; 0 where they are not what counts. */
  readonly flops: number;
  /** Bytes that a unit must read and write at least. */
  readonly bytes: number;
};

/** What `make` gives is released at once; `input` is read in the end, which waits for all before it. */
const repeated = (input: Tensor, make: () => unknown, flops: number, bytes = 0): Task => ({
  run: () => scope(() => void make()),
  finish: () => firstOf(input),
  flops,
  bytes,
});

const firstOf = async (x: Tensor): Promise<number> => (await x.detach().flatten().slice([0, 1]).data())[0]!;

/** Normal and uniform numbers from a table, as the weights of the largest models take many seconds otherwise. */
class Tabled extends Generator {
  readonly #normals: Float64Array;
  readonly #uniforms: Float64Array;
  #at = 0;

  constructor(seed: number) {
    super(seed);
    const rng = new Generator(seed);
    // A prime number of them, so that rows of weights differ.
    this.#normals = Float64Array.from({ length: 65521 }, () => rng.normal());
    this.#uniforms = Float64Array.from({ length: 65521 }, () => rng.uniform());
  }

  override normal(): number {
    if (this.#at === this.#normals.length) this.#at = 0;
    return this.#normals[this.#at++]!;
  }

  override uniform(): number {
    if (this.#at === this.#uniforms.length) this.#at = 0;
    return this.#uniforms[this.#at++]!;
  }
}

const noise = (shape: number[], seed: number, device: string) => randn(shape, { rng: new Tabled(seed) }).to(device);

/** Numbers that are cheap to make where there are many. */
const large = (size: number, device: string): Tensor => {
  const row = noise([1, 1024], 1, 'cpu');
  return row
    .expand([size / 1024, 1024])
    .contiguous()
    .to(device);
};

function streaming(name: Streaming, size: number, device: string): Task {
  const x = large(size, device);
  const bytes = 4 * size;
  switch (name) {
    case 'add': {
      const y = large(size, device);
      return repeated(x, () => x.add(y), 0, 3 * bytes);
    }
    case 'sum':
      return repeated(x, () => x.sum(), 0, bytes);
    case 'softmax':
      return repeated(x, () => x.softmax(-1), 0, 2 * bytes);
    case 'layerNorm': {
      const [w, b] = [ones([1024], { device }), noise([1024], 2, device)];
      return repeated(x, () => layerNorm(x, w, b), 0, 2 * bytes);
    }
    case 'adamStep': {
      const p = new Parameter(large(size, device));
      const optimizer = new Adam([p], { lr: 1e-3 });
      p.grad = x;
      return { run: () => optimizer.step(), finish: () => firstOf(p), flops: 0, bytes: 7 * bytes };
    }
  }
}

function convolution({ batch, cIn, cOut, side, kernel, stride }: Conv, backward: boolean, device: string): Task {
  const x = noise([batch, cIn, side, side], 1, device);
  const w = noise([cOut, cIn, kernel, kernel], 2, device);
  const o = { stride, padding: (kernel - 1) / 2 };
  const out = side / stride;
  const flops = 2 * batch * out * out * cOut * cIn * kernel * kernel;
  if (!backward) return repeated(x, () => conv2d(x, w, o), flops);
  for (const one of [x, w]) one.requiresGrad = true;
  const gy = noise([batch, cOut, out, out], 3, device);
  return repeated(x, () => grad(conv2d(x, w, o), [x, w], { gy }), 3 * flops);
}

/** Operations of the products in one forward pass: a step has three times as many, but for the gradient of its input. */
function flopsOf(model: Module, x: Tensor): number {
  let flops = 0;
  const watch = (module: AnyModule) =>
    module.onForward((_, [input], output) => {
      const [a, y] = [input as Tensor, output as Tensor];
      if (module instanceof Linear) flops += 2 * y.size * module.weight.shape[1]!;
      else if (module instanceof MultiHeadAttention) flops += 4 * a.size * a.shape[1]!;
      else if (module instanceof Gpt) flops += 2 * y.size * module.tokens.shape[1]!;
      else if ('weight' in module && y.rank === 4 && (module.weight as Tensor).rank === 4)
        flops += 2 * y.size * ((module.weight as Tensor).size / y.shape[1]!);
    });
  const handles = [...model.namedModules().values()].map(watch);
  noGrad(() => model.call(x));
  for (const handle of handles) handle.remove();
  return flops;
}

/**
 * A stand-in for eigenvectors: a reflection, which is as dense and orthogonal. What a step costs between refreshes depends on
 * sizes alone, and the eigenvectors of the largest models here take minutes.
 */
const reflection: Eigensolver = matrix => {
  const n = matrix.shape[0]!;
  const [vectors, values] = [new Float64Array(n * n).fill(-2 / n), new Float64Array(n)];
  for (let i = 0; i < n; i++) {
    vectors[i * n + i]! += 1;
    values[i] = Math.max(0, Number(matrix.get(i, i)));
  }
  const order = values.sort();
  return { values: ndarray(order, [n]), vectors: ndarray(vectors, [n, n]) };
};

async function training(
  { spec, optimizer: name }: Request & { task: 'training' },
  device: string,
  mixed: boolean,
): Promise<Task> {
  const rng = new Tabled(0);
  const model = build(spec, rng).to(device);
  const batches = [0, 1].map(() => batchOf(spec, rng).map(x => x.to(device)) as [Tensor, Tensor]);
  const flops = 3 * flopsOf(model, batches[0]![0]);
  const make = (): Optimizer => {
    if (name === 'Adam') return new Adam(model.parameters(), { lr: 1e-4 });
    if (name === 'STEVE, refresh by eigh') return new STEVE(model, { lr: 1e-4, refreshEvery: 1 });
    if (name === 'STEVE, refresh by products')
      return new STEVE(model, { lr: 1e-4, refreshEvery: 1, eigensolver: subspaceIteration({ firstSteps: 1 }) });
    return new STEVE(model, { lr: 1e-4, refreshEvery: 1e9, factorEvery: 10, eigensolver: reflection });
  };
  const optimizer = make();
  const scaler = new GradScaler({ enabled: mixed });
  let step = 0;
  let loss: Tensor | null = null;
  return {
    run() {
      const [x, labels] = batches[step++ % 2]!;
      optimizer.zeroGrad();
      loss = lossOf(model, x, labels);
      scaler.scale(loss).backward();
      const stepped = scaler.step(optimizer);
      if (stepped === undefined) scaler.update();
      return stepped?.then(() => scaler.update());
    },
    finish: async () => (loss === null ? Number.NaN : loss.number()),
    flops,
    bytes: 0,
  };
}

/** @param mixed whether gradients are scaled, for products in f16 */
export async function prepare(request: Request, device: string, mixed = false): Promise<Task> {
  switch (request.task) {
    case 'product': {
      const { n } = request;
      const [a, b] = [noise([n, n], 1, device), noise([n, n], 2, device)];
      return repeated(a, () => a.matmul(b), 2 * n ** 3, 12 * n * n);
    }
    case 'convForward':
    case 'convTraining':
      return convolution(request, request.task === 'convTraining', device);
    case 'training':
      return training(request, device, mixed);
    default:
      return streaming(request.task, request.size, device);
  }
}
