// Small seeded training runs, to be compared with each other.
import { type DType, Generator, randint, randn, type Tensor } from '@otimes/core';
import { type AnyModule, crossEntropy, Linear, mseLoss, Sequential, Tanh } from '@otimes/nn';
import type { KroneckerPreconditioner, Route } from '@otimes/optim';

export type NetOptions = {
  sizes?: readonly number[] | undefined;
  bias?: boolean | undefined;
  float?: 'float32' | 'float64' | undefined;
  seed?: number | undefined;
};

/** Linear layers with tanh between them; their paths are '0', '2', … */
export function newNet({ sizes = [6, 5, 4], bias = true, float = 'float64', seed = 1 }: NetOptions = {}): Sequential {
  const o = { bias, dtype: float as DType, rng: new Generator(seed) };
  const layers = sizes.slice(1).map((size, i) => new Linear(sizes[i]!, size, o));
  return new Sequential(...layers.flatMap((layer, i) => (i === 0 ? [layer] : [new Tanh(), layer])));
}

export const linearAt = (model: Sequential, path: string): Linear => model.layers[Number(path)] as Linear;

export type Batch = { x: Tensor; y: Tensor };

export type DataOptions = NetOptions & {
  steps?: number | undefined;
  batch?: number | undefined;
  shared?: number | undefined;
};

/** A batch for each step; inputs [batch, sizes[0]], or [batch, shared, sizes[0]] with targets for the squared error. */
export function newBatches({
  sizes = [6, 5, 4],
  float = 'float64',
  steps = 14,
  batch = 10,
  shared,
}: DataOptions): Batch[] {
  const rng = new Generator(5);
  const o = { dtype: float as DType, rng };
  const [dIn, dOut] = [sizes[0]!, sizes.at(-1)!];
  return Array.from({ length: steps }, () =>
    shared === undefined
      ? { x: randn([batch, dIn], o), y: randint(0, dOut, [batch], { rng }) }
      : { x: randn([batch, shared, dIn], o), y: randn([batch, shared, dOut], o) },
  );
}

/** Cross-entropy for labels, else the mean squared error. */
export const lossOf = (z: Tensor, y: Tensor): Tensor => (y.dtype === 'int32' ? crossEntropy(z, y) : mseLoss(z, y));

export const valuesOf = (model: AnyModule): number[] => model.parameters().flatMap(p => Array.from(p.dataSync()));

/** What a test does in a run; each hook sees the number of the step. */
export type Acts = {
  /** The loss, where it is not `lossOf`. */
  loss?: (model: Sequential, batch: Batch) => Tensor;
  beforeBackward?: (model: Sequential, loss: Tensor, step: number) => unknown;
  beforeStep?: (model: Sequential, step: number) => unknown;
  afterStep?: (model: Sequential, step: number, optimizer: KroneckerPreconditioner) => unknown;
};

export type Run = {
  readonly model: Sequential;
  readonly optimizer: KroneckerPreconditioner;
  readonly losses: readonly number[];
  readonly values: readonly number[];
  /** The routes that blocks had after the last step. */
  readonly routes: readonly (Route | null)[];
  /** Forward passes of layers, by whether they ran in a basis. */
  readonly turned: number;
  readonly plain: number;
};

/** One run from the first batch to the last. */
export function train(make: (model: Sequential) => KroneckerPreconditioner, o: DataOptions & Acts = {}): Run {
  const model = newNet(o);
  const optimizer = make(model);
  const count = { turned: 0, plain: 0 };
  for (const layer of model.layers)
    if (layer instanceof Linear)
      layer.onForward((_, __, y) => {
        count[operationOf(y as Tensor) === 'linear in the eigenbasis' ? 'turned' : 'plain']++;
      });
  const losses = newBatches(o).map((batch, step) => {
    optimizer.zeroGrad();
    const loss = o.loss?.(model, batch) ?? lossOf(model.call(batch.x), batch.y);
    o.beforeBackward?.(model, loss, step);
    loss.backward();
    o.beforeStep?.(model, step);
    optimizer.step();
    o.afterStep?.(model, step, optimizer);
    return loss.item();
  });
  const routes = optimizer.describe().map(({ route }) => route);
  return { model, optimizer, losses, values: valuesOf(model), routes, ...count };
}

/** The name of the operation that made a tensor. */
export const operationOf = (y: Tensor): string | undefined => y.node?.op.name;
