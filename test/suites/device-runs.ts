// Training runs on any device: what is waited for is awaited.
import { Generator, randint, randn, type Tensor } from '@otimes/core';
import {
  Conv2d,
  crossEntropy,
  Flatten,
  LayerNorm,
  Linear,
  MaxPool2d,
  type Module,
  mseLoss,
  ReLU,
  Sequential,
  Tanh,
  TransformerBlock,
} from '@otimes/nn';
import type { Optimizer } from '@otimes/optim';
import { Pool } from './exactness.ts';

/** A model with batches for it, float32. */
export type DeviceTask = {
  readonly model: () => Module;
  readonly batches: readonly { readonly x: Tensor; readonly y: Tensor }[];
};

/** Six batches of 8 examples; labels of `classes`, or numbers. */
function batchesOf(shape: readonly number[], classes: number, targets: 'labels' | 'numbers' = 'labels') {
  const rng = new Generator(7);
  return Array.from({ length: 6 }, () => ({
    x: randn([8, ...shape], { rng }),
    y: targets === 'labels' ? randint(0, classes, [8], { rng }) : randn([8, classes], { rng }),
  }));
}

const mlp = () => {
  const o = { rng: new Generator(1) };
  return new Sequential(new Linear(6, 5, o), new Tanh(), new LayerNorm(5), new Linear(5, 4, o));
};

export const deviceTasks = {
  /** The norm between the layers is no block's: it goes to the rest. */
  mlp: { model: mlp, batches: batchesOf([6], 4) },
  regression: { model: mlp, batches: batchesOf([6], 4, 'numbers') },
  cnn: {
    model: () => {
      const o = { rng: new Generator(1) };
      return new Sequential(
        new Conv2d(2, 3, 3, { ...o, padding: 1 }),
        new ReLU(),
        new MaxPool2d(2),
        new Flatten(),
        new Linear(12, 3, o),
      );
    },
    batches: batchesOf([2, 4, 4], 3),
  },
  transformer: {
    model: () => {
      const o = { rng: new Generator(2) };
      return new Sequential(new TransformerBlock(4, 2, o), new Pool('mean'), new Linear(4, 3, o));
    },
    batches: batchesOf([3, 4], 3),
  },
} satisfies Record<string, DeviceTask>;

const lossOf = (z: Tensor, y: Tensor): Tensor => (y.dtype === 'int32' ? crossEntropy(z, y) : mseLoss(z, y));

/** A model on a device with its optimizer and the batches there, and the loss of each step so far. */
export class DeviceRun<O extends Optimizer = Optimizer> {
  readonly model: Module;
  readonly optimizer: O;
  readonly device: string;
  readonly batches: DeviceTask['batches'];
  readonly losses: number[] = [];

  constructor(device: string, { model, batches }: DeviceTask, make: (model: Module) => O) {
    this.device = device;
    this.model = model().to(device) as Module;
    this.optimizer = make(this.model);
    this.batches = batches.map(({ x, y }) => ({ x: x.to(device), y: y.to(device) }));
  }

  /** One step, on the batch whose turn it is or another one. `spoil` runs between backward and step. */
  async step(batch: { x?: Tensor; y?: Tensor } = {}, spoil?: () => unknown): Promise<void> {
    const { x, y } = { ...this.batches[this.losses.length % this.batches.length]!, ...batch };
    this.optimizer.zeroGrad();
    const loss = lossOf(this.model.call(x), y);
    loss.backward();
    await spoil?.();
    await this.optimizer.step();
    this.losses.push(await loss.number());
  }

  async steps(count: number, spoil?: () => unknown): Promise<this> {
    for (let i = 0; i < count; i++) await this.step({}, spoil);
    return this;
  }

  /** The elements of all parameters, one after the other. */
  async parameters(): Promise<number[]> {
    const all = await Promise.all(this.model.parameters().map(p => p.data()));
    return all.flatMap(values => [...values]);
  }

  /** All that is trained and remembered, by name. */
  async values(): Promise<Record<string, readonly number[]>> {
    const all = { ...this.model.stateDict(), ...prefixed('optimizer.', this.optimizer.stateDict()) };
    const read = Object.entries(all).map(async ([key, x]) => [key, [...(await x.data())]] as const);
    return Object.fromEntries(await Promise.all(read));
  }
}

const prefixed = (prefix: string, state: Record<string, Tensor>): Record<string, Tensor> =>
  Object.fromEntries(Object.entries(state).map(([key, x]) => [prefix + key, x]));
