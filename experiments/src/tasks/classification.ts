/** Tasks with classes whose samples are tensors in memory: loss cross-entropy, metric the share that is right. */

import { Generator, type Tensor } from '@otimes/core';
import { DataLoader, TensorDataset } from '@otimes/data';
import { crossEntropy, type Module } from '@otimes/nn';
import type { Batches, Metric, OpenTask } from '../experiment.ts';
import { evaluated } from './evaluate.ts';

export const ACCURACY: Metric = { name: 'accuracy', unit: 'share', better: 'higher' };

/** Inputs [n, …] and labels int32 [n], or int32 [n, T] of sequences. */
export type Split = { readonly inputs: Tensor; readonly labels: Tensor };
export type Splits = { readonly train: Split; readonly validation: Split; readonly test: Split };

/** Of each split on a device. */
export const onDevice = ({ train, validation, test }: Splits, device: string): Splits => {
  const moved = ({ inputs, labels }: Split): Split => ({ inputs: inputs.to(device), labels: labels.to(device) });
  return { train: moved(train), validation: moved(validation), test: moved(test) };
};

/** Batches of pairs, shuffled by the seed; a last one that is not full is left out. */
export function batchesOf({ inputs, labels }: Split, batchSize: number, seed: number): Batches<[Tensor, Tensor]> {
  const dataset = new TensorDataset(inputs, labels);
  // Apart from the generator of the weights.
  const rng = new Generator(1000 + seed);
  const loader = new DataLoader(dataset, { batchSize, shuffle: true, dropLast: true, rng });
  return {
    stepsPerEpoch: loader.length,
    epoch: () => loader,
    stateDict: () => loader.stateDict(),
    loadStateDict: state => loader.loadStateDict(state),
  };
}

export const samplesOf = ({ train, validation, test }: Splits): OpenTask['samples'] => ({
  train: train.inputs.shape[0]!,
  validation: validation.inputs.shape[0]!,
  test: test.inputs.shape[0]!,
});

/** @throws RangeError where a batch has more samples than there are to train with */
export function checkBatch(task: string, batchSize: number, { train }: Splits): void {
  const n = train.inputs.shape[0]!;
  if (batchSize > n)
    throw new RangeError(`task '${task}': expected a batchSize of at most ${n} samples, got ${batchSize}`);
}

export type Classification = {
  readonly task: string;
  readonly splits: Splits;
  readonly device: string;
  readonly batchSize: number;
  readonly model: (rng: Generator) => Module;
};

export function classification({
  task,
  splits: onHost,
  device,
  batchSize,
  model,
}: Classification): OpenTask<[Tensor, Tensor]> {
  const splits = onDevice(onHost, device);
  checkBatch(task, batchSize, splits);
  return {
    samples: samplesOf(splits),
    model: seed => model(new Generator(seed)).to(device),
    batches: seed => batchesOf(splits.train, batchSize, seed),
    loss: (model, [inputs, labels]) => crossEntropy(model.call(inputs), labels),
    evaluate(model, split) {
      const { inputs, labels } = splits[split];
      return evaluated(model, labels.shape[0]!, (from, count) => {
        const [logits, wanted] = [model.call(inputs.narrow(0, from, count)), labels.narrow(0, from, count)];
        return {
          loss: crossEntropy(logits, wanted, { reduction: 'sum' }),
          metric: logits.argmax(1).eq(wanted).astype('float32').sum(),
        };
      });
    },
  };
}
